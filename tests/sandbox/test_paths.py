"""Where the data is, for whom, and what is said when it can't be there."""

import os
from pathlib import Path

import pytest

from sandbox.errors import HostError, InputError
from sandbox.idmap import Extent, IdMap
from sandbox.paths import data_directory, directory_for, prepare
from tests.capabilities import need

IDS = IdMap("single", (Extent(0, os.geteuid() or 70000, 1),), (Extent(0, os.getegid() or 70001, 1),), False)


@pytest.mark.parametrize(
    ("given", "environment", "uid", "expected"),
    [
        (None, {"HOME": "/home/ann"}, 1000, "/home/ann/.local/share/sandboxsh"),
        (None, {"HOME": "/home/ann", "XDG_DATA_HOME": "/data"}, 1000, "/data/sandboxsh"),
        (None, {"HOME": "/home/ann", "SANDBOXSH_DATA": "/else"}, 1000, "/else"),
        ("/given", {"SANDBOXSH_DATA": "/else"}, 1000, "/given"),
        (None, {"HOME": "/root"}, 0, "/var/lib/sandboxsh"),
        (None, {"SANDBOXSH_DATA": "/else"}, 0, "/else"),
    ],
)
def test_the_place(given: str | None, environment: dict[str, str], uid: int, expected: str) -> None:
    assert data_directory(given, environment, uid) == expected


def test_no_home_is_an_error_that_names_the_way_out() -> None:
    with pytest.raises(InputError) as caught:
        data_directory(None, {}, 1000)
    assert "--data" in caught.value.hint


def test_it_is_made_private(empty_data_dir: Path) -> None:
    place = empty_data_dir / "a/b"
    (empty_data_dir / "a").mkdir(mode=0o755)
    prepare(str(place), IDS)
    assert place.stat().st_mode & 0o777 == (0o711 if os.geteuid() == 0 else 0o700)
    prepare(str(place), IDS)


def test_a_file_in_its_place_is_told(empty_data_dir: Path) -> None:
    place = empty_data_dir / "file"
    place.write_text("x")
    with pytest.raises(HostError, match=str(place)):
        prepare(str(place / "data"), IDS)


def test_one_that_cannot_be_written_is_told(empty_data_dir: Path) -> None:
    need("ordinary-user")
    place = empty_data_dir / "closed"
    place.mkdir(mode=0o500)
    with pytest.raises(HostError, match=str(place)):
        prepare(str(place), IDS)


def test_root_is_told_when_its_sessions_could_not_pass_through(empty_data_dir: Path) -> None:
    need("root")
    closed = empty_data_dir / "closed"
    closed.mkdir(mode=0o700)
    with pytest.raises(HostError, match=str(closed)):
        prepare(str(closed / "data"), IDS)
    closed.chmod(0o711)
    prepare(str(closed / "data"), IDS)


def test_what_belongs_to_sessions_is_closed_to_other_users(empty_data_dir: Path) -> None:
    prepare(str(empty_data_dir), IDS)
    for kind in ("ground", "sessions", "store"):
        found = (empty_data_dir / kind / IDS.name).stat()
        if os.geteuid() == 0:
            assert (found.st_uid, found.st_gid, found.st_mode & 0o777) == (0, IDS.root_gid, 0o710)
        else:
            assert (found.st_uid, found.st_mode & 0o777) == (os.geteuid(), 0o700)
        (empty_data_dir / kind / IDS.name).chmod(0o755)
        assert directory_for(str(empty_data_dir), kind, IDS) == str(empty_data_dir / kind / IDS.name)
        assert (empty_data_dir / kind / IDS.name).stat().st_mode == found.st_mode, "also one from earlier"


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o731, 0o713])
def test_one_that_others_may_write_to_is_refused(empty_data_dir: Path, mode: int) -> None:
    prepare(str(empty_data_dir), IDS)
    empty_data_dir.chmod(mode)
    with pytest.raises(HostError, match="can be written by other users") as caught:
        prepare(str(empty_data_dir), IDS)
    assert f"chmod go-w {empty_data_dir}" in caught.value.hint


def test_one_that_belongs_to_somebody_else_is_refused(empty_data_dir: Path) -> None:
    """Root can write to it, and its owner could put links in the way of what root removes there."""
    need("root")
    os.chown(empty_data_dir, 12345, 12345)
    with pytest.raises(HostError, match="belongs to another user"):
        prepare(str(empty_data_dir), IDS)
