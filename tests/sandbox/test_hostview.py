"""What of the machine is shown, with and without mounts below what is shown."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox import hostview
from sandbox.hostview import Entry, mounts_below, parse_mountinfo

LINE = "36 35 98:0 /mnt1 {point} rw,noatime master:1 - ext3 /dev/root rw,errors=continue"


@pytest.mark.parametrize(
    ("written", "point"),
    [
        ("/mnt2", "/mnt2"),
        ("/with\\040blank", "/with blank"),
        ("/tab\\011and\\012line", "/tab\tand\nline"),
        ("/back\\134slash", "/back\\slash"),
        ("/", "/"),
    ],
)
def test_mount_points_are_read_as_the_kernel_writes_them(written: str, point: str) -> None:
    assert parse_mountinfo(LINE.format(point=written) + "\n") == {point}


def test_lines_that_are_no_mounts_are_left_out() -> None:
    assert parse_mountinfo("\nfoo bar\n" + LINE.format(point="/a")) == {"/a"}


@given(st.lists(st.text(alphabet="ab/", min_size=1, max_size=8)))
def test_what_lies_below_is_never_the_place_itself_or_a_neighbour(points: list[str]) -> None:
    for found in mounts_below("/a", frozenset(f"/{point}" for point in points)):
        assert found.startswith("/a/")
        assert found != "/a"


def test_this_machine_is_shown_whole_where_nothing_is_mounted() -> None:
    facts = hostview.read_host(())
    assert dict(facts.trees)["/usr"][-1] == "/usr"
    assert all(not path.startswith(("/home", "/root", "/var")) for path, _ in facts.trees)


def test_a_layer_stands_above_the_machine(tmp_path: Path) -> None:
    (tmp_path / "usr/local/bin").mkdir(parents=True)
    (tmp_path / "opt").symlink_to("/etc")
    facts = dict(hostview.read_host((str(tmp_path),)).trees)
    assert facts["/usr"] == (f"{tmp_path}/usr", "/usr")
    assert str(tmp_path / "opt") not in facts.get("/opt", ())


def test_a_directory_with_mounts_below_is_split_and_the_mounted_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    top = tmp_path / "etc"
    (top / "deep/secret").mkdir(parents=True)
    (top / "deep/open").mkdir()
    (top / "plain").mkdir()
    (top / "hosts").write_text("mounted over")
    (top / "passwd").write_text("shown")
    (top / "link").symlink_to("passwd")
    os.mkfifo(top / "fifo")
    monkeypatch.setattr(hostview, "SHOWN", (str(top),))
    monkeypatch.setattr(
        hostview, "read_mounts", lambda: frozenset({f"{top}/deep/secret", f"{top}/hosts", "/elsewhere"})
    )
    facts = hostview.read_host(())
    split = {path: {entry.name: entry for entry in entries} for path, entries in facts.split}
    assert set(split[str(top)]) == {"deep", "plain", "passwd", "link"}
    assert split[str(top)]["link"] == Entry("link", "link", (f"{top}/link",), "passwd")
    assert set(split[f"{top}/deep"]) == {"open"}
    assert f"{top}/plain" not in split


def test_local_software_on_a_file_system_of_its_own_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usr = tmp_path / "usr"
    (usr / "local/bin").mkdir(parents=True)
    (usr / "other").mkdir()
    monkeypatch.setattr(hostview, "SHOWN", (str(usr),))
    monkeypatch.setattr(hostview, "SHOWN_MOUNTS", frozenset({f"{usr}/local"}))
    monkeypatch.setattr(hostview, "read_mounts", lambda: frozenset({f"{usr}/local", f"{usr}/other"}))
    entries = {entry.name for _, entries in hostview.read_host(()).split for entry in entries}
    assert entries == {"local"}
