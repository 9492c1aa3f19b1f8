"""What of the host is shown: mount tables as the kernel writes them, and directories that are split."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox import hostview
from sandbox.hostview import mounts_below, parse_mountinfo

LINE = "36 35 98:0 /mnt1 {point} rw,noatime master:1 - ext3 /dev/root rw,errors=continue"


@pytest.mark.parametrize(
    ("written", "point"),
    [
        ("/", "/"),
        ("/usr/local", "/usr/local"),
        (r"/a\040b", "/a b"),
        (r"/t\011ab", "/t\tab"),
        (r"/n\012l", "/n\nl"),
    ],
)
def test_mount_points_are_read(written: str, point: str) -> None:
    assert parse_mountinfo(LINE.format(point=written) + "\n") == {point}


@pytest.mark.parametrize("text", ["", "\n\n", "36 35 98:0", "garbage"])
def test_what_is_no_mount_is_passed_over(text: str) -> None:
    assert parse_mountinfo(text) == frozenset()


@given(
    st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs", "Zl", "Zp", "Cc")), min_size=1)
)
def test_any_name_survives_the_kernels_escapes(name: str) -> None:
    path = "/" + name
    written = path.replace("\\", r"\134").replace(" ", r"\040").replace("\t", r"\011").replace("\n", r"\012")
    assert parse_mountinfo(LINE.format(point=written)) == {path}


def test_only_what_lies_strictly_below_counts() -> None:
    mounts = frozenset({"/usr", "/usr/local", "/usrlocal", "/usr/local/x", "/"})
    assert mounts_below("/usr", mounts) == ["/usr/local", "/usr/local/x"]
    assert mounts_below("/usr/", mounts) == ["/usr/local", "/usr/local/x"]
    assert mounts_below("/usr/local/x", mounts) == []


def test_a_directory_with_mounts_below_is_split_and_the_mounts_left_out(tmp_path: Path) -> None:
    for name in ("plain/x", "mounted/secret", "deep/inner/mount", "deep/other"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to("file")
    top = str(tmp_path)
    mounts = frozenset({f"{top}/mounted", f"{top}/deep/inner/mount"})
    split: dict[str, tuple[hostview.Entry, ...]] = {}
    hostview._split(top, (top,), mounts, split)
    assert set(split) == {top, f"{top}/deep", f"{top}/deep/inner"}
    kinds = {entry.name: (entry.kind, entry.link) for entry in split[top]}
    assert kinds == {
        "plain": ("directory", ""),
        "deep": ("directory", ""),
        "file": ("file", ""),
        "link": ("link", "file"),
    }
    assert split[f"{top}/deep/inner"] == ()


def test_a_layer_above_a_split_directory_wins_and_directories_merge(tmp_path: Path) -> None:
    layer, host = tmp_path / "layer", tmp_path / "host"
    for top in (layer, host):
        (top / "both").mkdir(parents=True)
        (top / "name").write_text(top.name)
    (host / "mount").mkdir()
    (host / "was-folder").mkdir()
    (layer / "was-folder").write_text("now a file")
    split: dict[str, tuple[hostview.Entry, ...]] = {}
    hostview._split(str(host), (str(layer), str(host)), frozenset({f"{host}/mount"}), split)
    found = {entry.name: (entry.kind, entry.sources) for entry in split[str(host)]}
    assert found == {
        "both": ("directory", (f"{layer}/both", f"{host}/both")),
        "name": ("file", (f"{layer}/name",)),
        "was-folder": ("file", (f"{layer}/was-folder",)),
    }


def test_the_real_host_is_seen() -> None:
    facts = hostview.read_host(())
    assert {path for path, _ in facts.trees} >= {"/usr", "/etc"}
    assert {"/bin", "/lib"} <= {path for path, _ in (*facts.links, *facts.trees)}
