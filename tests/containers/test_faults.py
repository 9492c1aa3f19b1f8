"""What is killed at any moment leaves nothing, and what comes after it works."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import prctl
import psutil
import pytest

from sandbox import paths
from sandbox.containers import directory
from sandbox.containers.containers import Containers
from sandbox.containers.starting import Starter
from sandbox.idmap import IdMap
from tests.containers.conftest import SPEC, kept, left
from tests.containers.test_containers import said
from tests.sessions.running import children, eventually, mark, marked, mounts


def process1(containers: Containers, id_: str) -> int:
    return directory.process1_of(directory.place_of(containers.data, containers.ids, id_))


def is_free(containers: Containers, id_: str) -> bool:
    lock = directory.lock(directory.place_of(containers.data, containers.ids, id_))
    if lock is not None:
        os.close(lock)
    return lock is not None


def test_a_killed_process_1_is_the_end_of_the_container_alone(containers: Containers, container: str) -> None:
    containers.create("two", SPEC)
    containers.start("two")
    number = mark()
    said(containers, f"echo kept >/root/file; sleep {number} &")
    os.kill(process1(containers, container), signal.SIGKILL)
    eventually(lambda: not marked(number), "the end of its processes")
    assert said(containers, "cat /root/file") == "kept\n"
    assert containers.running() == ("one", "two")


def test_when_what_all_are_cloned_from_is_killed_another_one_comes(
    containers: Containers, container: str, starter: Starter
) -> None:
    containers.start(container)
    os.kill(children(starter.pid)[0], signal.SIGKILL)
    containers.create("two", SPEC)
    assert containers.run("two", ["echo", "there"]).output == b"there\n"
    assert containers.running() == ("one", "two")
    # The next test finds it in the first place again.
    containers.sweep(())


def test_a_killed_starter_takes_all_along_and_another_one_comes(
    ids: IdMap, data_dir: Path, containers: Containers
) -> None:
    with Starter() as mine:
        own = Containers(containers.data, ids, mine)
        own.create("one", SPEC)
        number = mark()
        said(own, f"echo kept >/root/file; sleep {number} &")
        before = mine.pid
        os.kill(before, signal.SIGKILL)
        eventually(lambda: not marked(number), "the end of what it started")
        assert said(own, "cat /root/file") == "kept\n"
        assert mine.pid != before
    assert own.running() == ()
    own.delete("one")


def test_an_ended_starter_ends_its_containers(ids: IdMap, containers: Containers) -> None:
    number = mark()
    with Starter() as mine:
        own = Containers(containers.data, ids, mine)
        own.create("one", SPEC)
        said(own, f"sleep {number} &")
        eventually(lambda: marked(number), "what runs in it")
    assert not marked(number)
    assert is_free(own, "one")


SERVER = """
import os, sys
from concurrent.futures import ThreadPoolExecutor
from sandbox import idmap
from sandbox.containers.containers import Containers
from sandbox.containers.starting import Starter
from tests.containers.conftest import SPEC

data, mode, number, name = sys.argv[1:]
def say(what, id_):
    os.write(1, f"{what} {id_}\\n".encode())
with Starter() as starter:
    containers = Containers(data, idmap.choose(idmap.read_host_ids(), mode), starter)
    def round(worker):
        for turn in range(1000):
            id_ = f"{name}-{worker}-{turn}"
            containers.create(id_, SPEC)
            say("created", id_)
            containers.run(id_, ["sh", "-c", f"sleep {number} >/dev/null 2>&1 & echo {id_} >/root/x"])
            say("written", id_)
            if turn > 1:
                old = f"{name}-{worker}-{turn - 2}"
                say("deleting", old)
                containers.delete(old)
                say("deleted", old)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(round, range(4)))
"""


def killed_at_work(containers: Containers, number: str, name: str, after_s: float) -> dict[str, str]:
    """What a server does to containers, in a process of its own that is killed: the last word about each of them."""
    line = [sys.executable, "-c", SERVER, containers.data, containers.ids.mode, number, name]
    root = str(Path(__file__).resolve().parents[2])
    env = {**os.environ, "PYTHONPATH": root}
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True, env=env, cwd=root) as running:
        assert running.stdout is not None
        try:
            first = running.stdout.readline()
            assert first.startswith("created ")
            # Not a wait for anything: it is the moment that is tried out.
            time.sleep(after_s)
        finally:
            running.kill()
        said = [first, *running.stdout]
        assert running.wait() == -signal.SIGKILL
    return {id_: word for word, id_ in (each.split() for each in said if each.endswith("\n"))}


@contextmanager
def orphans() -> Iterator[Callable[[], list[int]]]:
    """Tells the processes that lost their parent within the block, wherever they came from below this one."""
    before = {child.pid for child in psutil.Process().children()}

    def found() -> list[int]:
        alive: list[int] = []
        # Those that have ended are reaped, and leave those that they were the parents of.
        while new := {child.pid for child in psutil.Process().children()} - before - set(alive):
            alive += [pid for pid in new if os.waitpid(pid, os.WNOHANG) == (0, 0)]
        return alive

    prctl.set_child_subreaper(1)
    try:
        yield found
    finally:
        prctl.set_child_subreaper(0)


def test_what_loses_its_parent_is_found() -> None:
    with orphans() as found:
        number = mark()
        subprocess.run(["sh", "-c", f"sleep {number} & :"], check=True, timeout=60)
        (orphan,) = found()
        eventually(lambda: marked(number) == [orphan], "what it executes")
        os.kill(orphan, signal.SIGKILL)
        eventually(lambda: not found(), "its end")


def test_a_server_that_is_killed_again_and_again_leaves_whole_containers_and_nothing_else(
    containers: Containers,
) -> None:
    number, moments = mark(), random.Random(containers.ids.mode)
    known: dict[str, str] = {}
    before = mounts()
    for kill in range(3):
        with orphans() as lost:
            known |= killed_at_work(containers, number, f"k{kill}", moments.uniform(0.0, 0.8))
            eventually(lambda lost=lost: not lost(), "the end of all that it started")  # type: ignore[misc]
        assert not marked(number)
        assert mounts() == before
        assert containers.running() == ()
        there = {name for name in left(containers) if not name.startswith(".")}
        # What was being made or removed just then may be there or not; no other may.
        assert {id_ for id_, word in known.items() if word in ("created", "written")} <= there
        assert not {id_ for id_, word in known.items() if word == "deleted"} & there
        assert all(id_.startswith(f"k{kill}-") for id_ in there - set(known))
        assert set(containers.ids_of_all()) == there
        for id_ in there:
            place = directory.place_of(containers.data, containers.ids, id_)
            assert is_free(containers, id_)
            assert directory.read_spec(place) == SPEC
            assert directory.read_attached(place) == ()
            done = containers.run(id_, ["cat", "/root/x"])
            written = (0, f"{id_}\n".encode())
            if known.get(id_) in ("written", "deleting"):
                assert (done.ended.code, done.output) == written
            else:
                assert (done.ended.code, done.output) in (written, (0, b""), (1, b""))
            containers.stop(id_)
        known = {id_: known.get(id_, "created") for id_ in there}
        containers.sweep(there)
        assert set(left(containers)) == there
    containers.sweep(())
    assert left(containers) == []


def test_a_hundred_at_once(containers: Containers) -> None:
    def whole_life(number: int) -> str:
        id_ = f"n{number}"
        containers.create(id_, SPEC)
        done = containers.run(id_, ["sh", "-c", "cat /root/x; echo ran | tee /root/x; sleep 1000 >&- 2>&- &"])
        containers.delete(id_)
        return done.output.decode() + done.errors.decode()

    with ThreadPoolExecutor(16) as pool:
        assert set(pool.map(whole_life, range(100))) == {"ran\ncat: /root/x: No such file or directory\n"}


def test_what_was_killed_in_the_middle_of_making_or_removing_is_swept(containers: Containers) -> None:
    """A directory without its name, locked by nobody; one that is locked is left."""
    parent_ = f"{containers.data}/containers/{containers.ids.name}"
    containers.create("one", SPEC)
    said(containers, "mkdir -m 0 /root/closed")
    containers.stop("one")
    os.rename(f"{parent_}/one", f"{parent_}/.gone-1")
    containers.create("two", SPEC)
    os.rename(f"{parent_}/two", f"{parent_}/.new-2")
    held = directory.lock(directory.Place(containers.data, containers.ids, ".new-2"))
    assert held is not None
    assert containers.sweep(()) == 1
    assert left(containers) == [".new-2"]
    os.close(held)
    assert containers.sweep(()) == 1


def test_nothing_is_left_of_a_start_that_fails(containers: Containers, starter: Starter) -> None:
    containers.create("one", SPEC)
    place = directory.place_of(containers.data, containers.ids, "one")
    os.rmdir(f"{place.path}/root")
    for _ in range(3):
        with pytest.raises(Exception, match="No such file"):
            containers.start("one")
    eventually(lambda: not kept(starter), "the end of what it started")
    assert is_free(containers, "one")
    os.mkdir(f"{place.path}/root")
    containers.start("one")


def test_preparing_twice_is_the_same_as_once(containers: Containers) -> None:
    paths.prepare(containers.data, containers.ids)
    assert os.stat(f"{containers.data}/containers/{containers.ids.name}").st_mode & 0o007 == 0
