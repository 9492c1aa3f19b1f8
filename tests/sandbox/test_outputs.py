"""What is copied out of a session: plain files and what they stand in, and nothing that leads elsewhere."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox import idmap, outputs
from sandbox.errors import HostError, SetupError
from sandbox.idmap import IdMap
from sandbox.outputs import Collected, open_target, stays_inside
from tests.capabilities import need


@pytest.fixture
def ids() -> IdMap:
    need("user-namespaces")
    return idmap.choose(idmap.read_host_ids())


def collect(source: Path, target: Path, ids: IdMap) -> Collected:
    with open_target(str(target)) as opened:
        return outputs.collect(str(source), opened.fd, ids)


@pytest.mark.parametrize(
    ("path", "points_to", "inside"),
    [
        ("a", "b", True),
        ("a", "./b", True),
        ("a", "d/../b", False),
        ("a/b/c", "../../d", True),
        ("a/b/c", "../../../d", False),
        ("d/a", "../b", True),
        ("a", "../b", False),
        ("d/a", "../../b", False),
        ("d/a", "x/../../../b", False),
        ("a", "/etc/passwd", False),
        ("a", "b/../../c", False),
        ("a", "", True),
    ],
)
def test_where_links_lead(path: str, points_to: str, inside: bool) -> None:
    assert stays_inside(path, points_to) is inside


@given(st.lists(st.sampled_from(["..", ".", "x", ""]), max_size=8), st.integers(0, 3))
def test_a_link_that_stays_inside_never_climbs_above(parts: list[str], depth: int) -> None:
    path = "/".join([*(["d"] * depth), "link"])
    if stays_inside(path, "/".join(parts)) and not "/".join(parts).startswith("/"):
        resolved = os.path.normpath(os.path.join(os.path.dirname(path), *parts))
        assert not resolved.startswith("..")


def test_files_and_directories_are_copied_with_their_content_mode_and_time(
    tmp_path: Path, ids: IdMap
) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    (source / "d/e").mkdir(parents=True)
    (source / "d/e/file").write_bytes(os.urandom(3_000_000))
    (source / "tool").write_text("#!/bin/sh\n")
    (source / "tool").chmod(0o6755)
    os.utime(source / "tool", (1, 1_000_000_000))
    (source / "odd\nname").write_text("x")
    found = collect(source, target, ids)
    assert found.files == 3
    assert found.left_behind == []
    assert (target / "d/e/file").read_bytes() == (source / "d/e/file").read_bytes()
    assert (target / "tool").stat().st_mode & 0o7777 == 0o755
    assert (target / "tool").stat().st_mtime == 1_000_000_000


def test_what_is_no_plain_file_is_left_behind_with_the_reason(tmp_path: Path, ids: IdMap) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    (source / "d").mkdir(parents=True)
    (source / "good").write_text("x")
    (source / "d/in").symlink_to("../good")
    (source / "out").symlink_to("/etc/passwd")
    os.mkfifo(source / "fifo")
    found = collect(source, target, ids)
    assert sorted(os.listdir(target)) == ["d", "good"]
    assert os.readlink(target / "d/in") == "../good"
    assert len(found.left_behind) == 2
    assert any("fifo" in line for line in found.left_behind)
    assert any("out" in line and "leads out" in line for line in found.left_behind)


def test_a_link_that_waits_in_the_target_is_replaced_and_not_followed(tmp_path: Path, ids: IdMap) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    (source / "d").mkdir(parents=True)
    (source / "file").write_text("new")
    (source / "d/file").write_text("new")
    target.mkdir()
    (tmp_path / "precious").write_text("old")
    (tmp_path / "elsewhere").mkdir()
    (target / "file").symlink_to(tmp_path / "precious")
    (target / "d").symlink_to(tmp_path / "elsewhere")
    found = collect(source, target, ids)
    assert (tmp_path / "precious").read_text() == "old"
    assert (target / "file").read_text() == "new"
    assert os.listdir(tmp_path / "elsewhere") == []
    assert len(found.left_behind) == 1


def test_no_outputs_are_no_error(tmp_path: Path, ids: IdMap) -> None:
    assert collect(tmp_path / "gone", tmp_path / "target", ids).files == 0


def test_a_target_that_cannot_be_made_is_told(tmp_path: Path, ids: IdMap) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "file").write_text("x")
    with pytest.raises(HostError, match="file"):
        collect(tmp_path / "source", tmp_path / "file/target", ids)


def test_links_that_lead_out_together_are_left_behind(tmp_path: Path, ids: IdMap) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    (source / "a/b").mkdir(parents=True)
    (tmp_path / "secret").write_text("a canary's song")
    (source / "a/b/up").symlink_to("../..")
    (source / "direct").symlink_to("a/b/up/a")
    (source / "out").symlink_to("a/b/up/../secret")
    found = collect(source, target, ids)
    assert [line.partition(":")[0] for line in found.left_behind] == ["'out'"]
    assert (target / "direct").resolve() == target / "a"
    assert not os.path.lexists(target / "out")


def test_a_directory_that_was_put_in_the_targets_place_gets_nothing(tmp_path: Path, ids: IdMap) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    (source / "file").write_text("x")
    (tmp_path / "elsewhere").mkdir()
    with open_target(str(target)) as opened:
        target.rename(tmp_path / "moved")
        target.symlink_to(tmp_path / "elsewhere")
        outputs.collect(str(source), opened.fd, ids)
    assert os.listdir(tmp_path / "elsewhere") == []
    assert os.listdir(tmp_path / "moved") == ["file"]


def test_a_target_that_was_removed_meanwhile_is_told(tmp_path: Path, ids: IdMap) -> None:
    (tmp_path / "source").mkdir()
    with open_target(str(tmp_path / "target")) as opened:
        (tmp_path / "target").rmdir()
        with pytest.raises(SetupError, match="removed while the session ran"):
            outputs.collect(str(tmp_path / "source"), opened.fd, ids)


def test_holes_stay_holes_and_what_is_between_them_is_copied(tmp_path: Path, ids: IdMap) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    with open(source / "sparse", "wb") as file:
        file.seek(1 << 30)
        file.write(b"middle")
        file.truncate(1 << 36)
    (source / "empty").touch()
    found = collect(source, target, ids)
    assert found.left_behind == []
    assert (target / "sparse").stat().st_size == 1 << 36
    assert (target / "sparse").stat().st_blocks * 512 < 1 << 20
    with open(target / "sparse", "rb") as file:
        file.seek((1 << 30) - 1)
        assert file.read(8) == b"\0middle\0"
    assert (target / "empty").stat().st_size == 0


def test_the_callers_umask_applies(tmp_path: Path, ids: IdMap) -> None:
    source = tmp_path / "source"
    (source / "d").mkdir(parents=True)
    for name, mode in (("open", 0o666), ("tool", 0o777), ("private", 0o400)):
        (source / name).write_text(name)
        (source / name).chmod(mode)
    (source / "d").chmod(0o777)
    before = os.umask(0o027)
    try:
        collect(source, tmp_path / "target", ids)
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o7777 for path in (tmp_path / "target").iterdir()}
    assert modes == {"open": 0o640, "tool": 0o750, "private": 0o400, "d": 0o750}
    assert (tmp_path / "target/private").read_text() == "private"
