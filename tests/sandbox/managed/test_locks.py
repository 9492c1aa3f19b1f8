"""Locks between threads and between processes."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from sandbox.errors import HostError
from sandbox.managed.locks import Locks

HOLDER = """
import sys
from sandbox.managed.locks import Locks
locks = Locks(sys.argv[1])
with locks.holding(sys.argv[2]) as ours:
    print(ours, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "locks")


def test_one_thread_has_it_at_a_time(path: str) -> None:
    locks = Locks(path)
    with locks.holding("a") as first, locks.holding("a") as second, locks.holding("b") as other:
        assert (first, second, other) == (True, False, True)
    with locks.holding("a") as again:
        assert again
    locks.close()


def test_who_waits_gets_it_when_it_is_free(path: str) -> None:
    locks = Locks(path)
    got: list[bool] = []

    def wait() -> None:
        with locks.holding("a", wait_s=60) as ours:
            got.append(ours)

    with locks.holding("a"):
        thread = threading.Thread(target=wait)
        thread.start()
    thread.join()
    assert got == [True]
    with locks.holding("a"):
        begun = time.monotonic()
        with locks.holding("a", wait_s=0.05) as ours:
            assert not ours
        assert time.monotonic() - begun >= 0.05
    locks.close()


def test_another_process_has_it_until_it_is_killed(path: str) -> None:
    locks = Locks(path)
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, path, "a"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "True\n"
        with locks.holding("a") as ours, locks.holding("b") as other:
            assert (ours, other) == (False, True)
        holder.kill()
    with locks.holding("a") as ours:
        assert ours
    locks.close()


def test_a_place_that_cannot_be_is_told(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="locks"):
        Locks(str(tmp_path / "nowhere" / "locks"))
