"""Process 1 is made ahead, waits, and goes when nobody takes it."""

import os
import signal

import pytest

from sandbox import begin as begin_module
from sandbox import idmap, launch
from sandbox.begin import Begun, begin
from sandbox.errors import HostError
from tests.capabilities import need


def alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_it_stands_in_namespaces_of_its_own_and_waits() -> None:
    need("user-namespaces")
    with begin() as begun:
        assert alive(begun.pid)
        for name in ("user", "mnt", "net", "ipc", "uts", "cgroup"):
            assert os.readlink(f"/proc/{begun.pid}/ns/{name}") != os.readlink(f"/proc/self/ns/{name}")
        pid = begun.pid
    assert not alive(pid)


def test_one_that_was_taken_over_is_left_alone() -> None:
    need("user-namespaces")
    with begin() as begun:
        pid, channel, _ = begun.take()
    assert alive(pid)
    # Without a supervisor at the other end it has nothing to wait for.
    os.close(channel)
    assert os.waitpid(pid, 0)[1] != 0


def test_ending_it_again_changes_nothing() -> None:
    need("user-namespaces")
    with begin() as begun, begun:
        assert alive(begun.pid)
    assert (begun.pid, begun.channel) == (0, -1)


def test_ids_that_are_given_early_are_waited_for_by_who_takes_it_over() -> None:
    need("user-namespaces")
    ids = idmap.choose(idmap.read_host_ids())
    with begin() as begun:
        begun.give_ids(lambda pid: idmap.begin_maps(pid, ids))
        begun.give_ids(lambda pid: pytest.fail("ids are given once"))
        with launch.claim(begun, ids) as running:
            running.wait_for_ids()
            with open(f"/proc/{running.pid}/uid_map", encoding="ascii") as file:
                assert [int(line.split()[1]) for line in file] == [each.outside for each in ids.uids]


def test_ids_that_nobody_waits_for_leave_no_process_behind() -> None:
    need("user-namespaces")
    ids = idmap.choose(idmap.read_host_ids())
    with begin() as begun:
        begun.give_ids(lambda pid: idmap.begin_maps(pid, ids))
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_it_ends_when_its_supervisor_is_killed() -> None:
    need("user-namespaces")
    read, write = os.pipe()
    supervisor = os.fork()
    if supervisor == 0:
        os.close(read)
        os.write(write, str(begin().pid).encode())
        signal.pause()
    os.close(write)
    pid = int(os.read(read, 20))
    pidfd = os.pidfd_open(pid)
    os.kill(supervisor, signal.SIGKILL)
    os.waitpid(supervisor, 0)
    import select

    assert select.select([pidfd], [], [], 30)[0]
    os.close(pidfd)
    os.close(read)


def test_a_refusal_of_the_kernel_is_told_when_the_session_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_namespaces: int) -> int:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(begin_module.sys_, "clone", refuse)
    with begin() as begun:
        assert begun.pid == 0
        with pytest.raises(HostError) as caught:
            launch.claim(begun, idmap.choose(idmap.read_host_ids(), idmap.SINGLE))
    assert "doctor" in caught.value.hint


def test_the_end_of_nothing_is_nothing() -> None:
    with Begun(0, -1, OSError(1, "no")):
        pass
