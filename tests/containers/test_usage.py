"""What containers use: their processes from outside and from within, disk and network."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sandbox.containers import usage
from sandbox.containers.containers import Containers
from sandbox.containers.directory import NoContainerError
from tests.containers.test_containers import said
from tests.sessions.running import eventually, mark, marked


def test_processes_are_told_with_both_their_numbers(containers: Containers, container: str) -> None:
    assert containers.ps(container) == ()
    number = mark()
    said(containers, f"sleep {number} & echo $! >/root/pid")
    inner = int(said(containers, "cat /root/pid"))
    eventually(lambda: [each.command for each in containers.ps(container)][1:] == [f"sleep {number}"])
    process1, sleep = containers.ps(container)
    assert (process1.pid, process1.parent) == (1, 0)
    assert (sleep.pid, sleep.parent, sleep.command) == (inner, 1, f"sleep {number}")
    assert [sleep.host_pid] == marked(number)
    assert sleep.rss > 0


def test_figures(containers: Containers, container: str) -> None:
    assert containers.stats(container) == (False, 0.0, 0, 0, containers.stats(container).disk, 0, 0)
    said(containers, "head -c 3000000 /dev/zero >/root/big; ln /root/big /root/again; chmod 0 /root/big")
    said(containers, "for n in $(seq 400000); do :; done; sleep 1000 >/dev/null 2>&1 &")
    found = containers.stats(container)
    assert found.running
    assert found.processes == 2
    assert found.memory > 0
    assert 0.05 < found.cpu_s < 30
    assert 3_000_000 <= found.disk < 4_000_000


def test_of_what_is_not_there_nothing_is_told(containers: Containers) -> None:
    for call in (containers.ps, containers.stats, containers.diff, containers.outputs, containers.attached):
        with pytest.raises(NoContainerError):
            call("one")


def test_disk_counts_no_file_twice_and_follows_no_link(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * 100_000)
    once = usage.disk(str(tmp_path))
    os.link(tmp_path / "a", tmp_path / "b")
    (tmp_path / "link").symlink_to("/usr")
    assert once == usage.disk(str(tmp_path)) >= 100_000
    assert usage.disk(str(tmp_path / "nosuch")) == 0


def test_disk_goes_no_deeper_than_it_can(tmp_path: Path) -> None:
    here = os.open(tmp_path, os.O_RDONLY)
    for _ in range(300):
        os.mkdir("d", dir_fd=here)
        inner = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = inner
    os.close(here)
    assert usage.disk(str(tmp_path)) >= 0


def test_traffic_is_the_sum_of_the_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert usage.traffic(str(log)) == (0, 0)
    log.write_text('{"sent":1,"received":20}\nnonsense\n{"sent":2,"received":30}\n{"sent":')
    assert usage.traffic(str(log)) == (3, 50)


def test_a_process_that_is_gone_has_no_processes() -> None:
    assert usage.processes(2**22 - 1) == ()
    assert usage.cpu_and_memory(2**22 - 1) == (0.0, 0)
