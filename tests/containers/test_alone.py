"""Containers without a server: started by a command, ended by themselves."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox import paths
from sandbox.containers.containers import Containers
from sandbox.containers.starting import Starter
from sandbox.idmap import IdMap
from tests.capabilities import need
from tests.containers.conftest import SPEC, left
from tests.containers.test_containers import said
from tests.sessions.running import eventually, mark, marked


@pytest.fixture
def alone(ids: IdMap, data_dir: Path) -> Iterator[Containers]:
    """As a command has them, with a container ``one``. They end as soon as nothing runs in them."""
    need("user-namespaces", "overlay")
    paths.prepare(str(data_dir), ids)
    containers = Containers(str(data_dir), ids, linger_s=0)
    containers.sweep(())
    containers.create("one", SPEC)
    before = len(os.listdir("/proc/self/fd"))
    yield containers
    containers.sweep(())
    assert left(containers) == []
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_container_ends_when_nothing_runs_in_it(alone: Containers) -> None:
    assert said(alone, "echo one >/root/x; cat /root/x") == "one\n"
    eventually(lambda: not alone.running(), "its end")
    assert said(alone, "cat /root/x") == "one\n"


def test_it_stays_while_something_runs_in_it(alone: Containers) -> None:
    number = mark()
    said(alone, f"sleep {number} & echo $! >/root/pid")
    assert said(alone, "kill -0 $(cat /root/pid) && echo there") == "there\n"
    eventually(lambda: marked(number), "what runs in it")
    said(alone, "kill $(cat /root/pid)")
    eventually(lambda: not alone.running(), "its end")


def test_commands_that_come_as_it_ends_find_it_or_start_it(alone: Containers) -> None:
    for turn in range(30):
        assert said(alone, f"echo {turn} >>/root/x; wc -l </root/x") == f"{turn + 1}\n"


def test_a_server_and_a_command_use_the_same_container(alone: Containers, ids: IdMap) -> None:
    with Starter() as starter:
        served = Containers(alone.data, ids, starter)
        said(served, "echo kept >/dev/shm/x")
        assert said(alone, "cat /dev/shm/x") == "kept\n"
        alone.stop("one")
        assert served.running() == ()
        assert said(served, "cat /dev/shm/x 2>/dev/null || echo new") == "new\n"
        alone.delete("one")
        assert served.ids_of_all() == ()


def test_its_keeper_is_no_child_of_the_command(alone: Containers) -> None:
    number = mark()
    said(alone, f"sleep {number} &")
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
    alone.stop("one")
    assert not marked(number)


def test_chores_need_no_server(alone: Containers) -> None:
    said(alone, "echo x >/root/new; mkdir -m 0 /root/closed")
    assert [path for _, path in alone.diff("one")] == ["/root/closed", "/root/new"]
    assert alone.stats("one").disk > 0
