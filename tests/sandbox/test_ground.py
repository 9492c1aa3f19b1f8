"""The layer that sessions share is made once, whole, and known by what makes it."""

import os
from pathlib import Path

import pytest

from sandbox import ground, idmap
from sandbox.errors import HostError
from sandbox.idmap import IdMap
from sandbox.operations import Directory, Hidden, Operation, Symlink, WriteFile
from tests.capabilities import need

STEPS: tuple[Operation, ...] = (
    Directory("/tmp", 0o1777),
    WriteFile("/etc/hosts", b"127.0.0.1 localhost\n"),
    Symlink("/bin", "usr/bin"),
    Hidden("/etc/shadow"),
)


@pytest.fixture
def ids() -> IdMap:
    need("user-namespaces")
    return idmap.choose(idmap.read_host_ids())


def test_it_is_made_of_its_steps_and_belongs_to_the_sessions(empty_data_dir: Path, ids: IdMap) -> None:
    path = ground.path_of(str(empty_data_dir), ids, STEPS)
    ground.ensure(path, ids, STEPS)
    assert Path(path, "etc/hosts").read_bytes() == b"127.0.0.1 localhost\n"
    assert os.stat(f"{path}/tmp").st_mode & 0o7777 == 0o1777
    assert os.readlink(f"{path}/bin") == "usr/bin"
    assert os.stat(f"{path}/etc/shadow").st_rdev == 0
    assert os.stat(f"{path}/etc/hosts").st_uid == ids.root_uid
    assert os.listdir(os.path.dirname(path)) == [os.path.basename(path)]


def test_it_is_made_once(empty_data_dir: Path, ids: IdMap) -> None:
    path = ground.path_of(str(empty_data_dir), ids, STEPS)
    ground.ensure(path, ids, STEPS)
    before = os.stat(path).st_ino
    ground.ensure(path, ids, STEPS)
    assert os.stat(path).st_ino == before


@pytest.mark.parametrize(
    "other",
    [
        STEPS[:-1],
        STEPS[::-1],
        (*STEPS[:1], WriteFile("/etc/hosts", b"127.0.0.1 other\n"), *STEPS[2:]),
        (Directory("/tmp", 0o777), *STEPS[1:]),
        (*STEPS[:3], Directory("/etc/shadow")),
    ],
)
def test_other_steps_belong_elsewhere(empty_data_dir: Path, ids: IdMap, other: tuple[Operation, ...]) -> None:
    assert ground.path_of(str(empty_data_dir), ids, other) != ground.path_of(str(empty_data_dir), ids, STEPS)


def test_many_first_makers_agree(empty_data_dir: Path, ids: IdMap) -> None:
    path = ground.path_of(str(empty_data_dir), ids, STEPS)
    makers = []
    for _ in range(6):
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                ground.ensure(path, ids, STEPS)
                code = 0
            finally:
                os._exit(code)
        makers.append(pid)
    assert [os.waitpid(pid, 0)[1] for pid in makers] == [0] * 6
    assert os.listdir(os.path.dirname(path)) == [os.path.basename(path)]


def test_a_step_that_fails_leaves_nothing(empty_data_dir: Path, ids: IdMap) -> None:
    steps = (*STEPS, WriteFile("/etc/hosts/below-a-file", b""))
    path = ground.path_of(str(empty_data_dir), ids, steps)
    with pytest.raises(HostError, match="can't be made"):
        ground.ensure(path, ids, steps)
    assert os.listdir(os.path.dirname(path)) == []


def test_what_a_session_holds_stays_and_what_nobody_holds_goes(empty_data_dir: Path, ids: IdMap) -> None:
    data = str(empty_data_dir)
    held, free = (ground.path_of(data, ids, steps) for steps in (STEPS, STEPS[:-1]))
    fd = ground.use(held, ids, STEPS)
    ground.ensure(free, ids, STEPS[:-1])
    assert ground.forget_unused(data, ids, dry_run=True) == (free,)
    assert os.path.isdir(free)
    assert ground.forget_unused(data, ids) == (free,)
    assert os.listdir(os.path.dirname(held)) == [os.path.basename(held)]
    os.close(fd)
    assert ground.forget_unused(data, ids) == (held,)
    assert os.listdir(os.path.dirname(held)) == []


def test_what_was_removed_is_made_again(empty_data_dir: Path, ids: IdMap) -> None:
    path = ground.path_of(str(empty_data_dir), ids, STEPS)
    os.close(ground.use(path, ids, STEPS))
    ground.forget_unused(str(empty_data_dir), ids)
    os.close(ground.use(path, ids, STEPS))
    assert os.path.isdir(f"{path}/tmp")


def test_what_a_dead_process_was_making_goes_and_a_living_ones_stays(
    empty_data_dir: Path, ids: IdMap
) -> None:
    path = ground.path_of(str(empty_data_dir), ids, STEPS)
    os.close(ground.use(path, ids, STEPS))
    last = int(Path("/proc/sys/kernel/pid_max").read_text())
    dead, living = f"{path}.{last + 1}", f"{path}.{os.getpid()}"
    os.mkdir(dead)
    os.mkdir(living)
    assert ground.forget_unused(str(empty_data_dir), ids) == (path, dead)
    assert os.listdir(os.path.dirname(path)) == [os.path.basename(living)]


def test_there_may_be_none(empty_data_dir: Path, ids: IdMap) -> None:
    assert ground.forget_unused(str(empty_data_dir), ids) == ()
