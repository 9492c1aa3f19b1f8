"""Sessions' directories: whole while they live, gone afterwards, swept when nobody did."""

import fcntl
import os
import signal
from pathlib import Path

import pytest

from sandbox import idmap
from sandbox.directory import SessionDirectory, sweep
from sandbox.errors import HostError
from sandbox.idmap import IdMap
from tests.capabilities import need


@pytest.fixture
def ids() -> IdMap:
    need("user-namespaces")
    return idmap.choose(idmap.read_host_ids())


def left(data: Path, ids: IdMap) -> list[str]:
    return sorted(os.listdir(data / "sessions" / ids.name))


def test_a_session_has_its_directories_for_as_long_as_it_lives(empty_data_dir: Path, ids: IdMap) -> None:
    with SessionDirectory(str(empty_data_dir), ids) as session:
        assert os.path.isdir(session.upper)
        assert os.path.isdir(session.outputs)
        assert os.stat(session.upper).st_uid == ids.root_uid
        assert os.listdir(session.root) == []
        assert len(left(empty_data_dir, ids)) == 1
    assert left(empty_data_dir, ids) == []


def test_files_are_copied_in_and_cannot_be_written(empty_data_dir: Path, tmp_path: Path, ids: IdMap) -> None:
    source = tmp_path / "source"
    source.write_bytes(os.urandom(300_000))
    with SessionDirectory(str(empty_data_dir), ids) as session:
        ((copy, target),) = session.copy_in(((str(source), "/data"),))
        assert target == "/data"
        assert Path(copy).read_bytes() == source.read_bytes()
        assert os.stat(copy).st_mode & 0o777 == 0o444
        assert session.copy_in(()) == ()
    assert source.exists()


def test_a_file_that_cannot_be_copied_is_named_and_nothing_stays(empty_data_dir: Path, ids: IdMap) -> None:
    with (
        pytest.raises(HostError, match="gone"),
        SessionDirectory(str(empty_data_dir), ids) as session,
    ):
        session.copy_in(((f"{empty_data_dir}/gone", "/data"),))
    assert left(empty_data_dir, ids) == []


def test_a_place_that_cannot_be_made_is_told(empty_data_dir: Path, ids: IdMap) -> None:
    (empty_data_dir / "sessions").write_text("a file")
    with pytest.raises(HostError, match="sessions"), SessionDirectory(str(empty_data_dir), ids):
        raise AssertionError("it was made")


def test_a_sweep_takes_the_dead_and_leaves_the_living(empty_data_dir: Path, ids: IdMap) -> None:
    ready, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        SessionDirectory(str(empty_data_dir), ids).__enter__()
        os.write(tell, b"x")
        signal.pause()
    os.read(ready, 1)
    with SessionDirectory(str(empty_data_dir), ids) as living:
        assert sweep(str(empty_data_dir), ids) == 0
        assert len(left(empty_data_dir, ids)) == 2
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        assert sweep(str(empty_data_dir), ids) == 1
        assert left(empty_data_dir, ids) == [os.path.basename(living.path)]
    os.close(ready)
    os.close(tell)


def test_a_sweep_finishes_what_one_before_it_began(empty_data_dir: Path, ids: IdMap) -> None:
    place = empty_data_dir / "sessions" / ids.name / "half"
    place.mkdir(parents=True)
    (place / "lock").touch()
    (place / "upper").mkdir()
    empty = place.parent / "empty"
    empty.mkdir()
    assert sweep(str(empty_data_dir), ids) == 2
    assert left(empty_data_dir, ids) == []


def test_a_directory_in_the_making_is_not_swept(empty_data_dir: Path, ids: IdMap) -> None:
    place = empty_data_dir / "sessions" / ids.name / "making"
    place.mkdir(parents=True)
    with open(place / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert sweep(str(empty_data_dir), ids) == 0
    assert place.exists()
    assert sweep(str(empty_data_dir), ids) == 1


def test_nothing_to_sweep(empty_data_dir: Path, ids: IdMap) -> None:
    assert sweep(str(empty_data_dir / "absent"), ids) == 0
