"""One process keeps all containers: the trouble of one is nobody else's."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from netpolicy.credentials import repository
from sandbox.channel import say
from sandbox.containers import directory
from sandbox.containers.containers import Containers
from sandbox.containers.directory import Folder
from sandbox.containers.starting import Starter
from sandbox.errors import HostError
from tests.capabilities import need
from tests.containers.conftest import SPEC, kept
from tests.containers.test_containers import said
from tests.containers.test_network import ASK
from tests.sessions.running import PYTHON, children, eventually, mark, marked

# Far less than what any of the troubles below lasts, or would.
SOON_S = 4.0


@contextmanager
def meanwhile(containers: Containers) -> Iterator[None]:
    """A container that has no trouble; afterwards it is found to have answered at once, and another one too."""
    containers.create("other", SPEC)
    containers.start("other")
    yield
    begun = time.monotonic()
    containers.set_credentials("other", [])
    containers.stop("other")
    assert time.monotonic() - begun < SOON_S
    containers.start("other")
    assert containers.run("other", ["echo", "there"]).output == b"there\n"


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as made:
        yield made


def place(containers: Containers, id_: str) -> directory.Place:
    return directory.place_of(containers.data, containers.ids, id_)


def test_a_start_that_takes_long_keeps_nobody_else_waiting(
    containers: Containers, container: str, pool: ThreadPoolExecutor
) -> None:
    spec = f"{place(containers, container).path}/spec"
    os.unlink(spec)
    os.mkfifo(spec)
    with meanwhile(containers):
        pending = pool.submit(containers.start, container)
        # It blocks until there is a reader.
        with open(spec, "w"):
            assert not pending.done()
            with ThreadPoolExecutor(1) as another, meanwhile_two(containers):
                assert another.submit(containers.running).result() == ("one", "other", "two")
        with pytest.raises(HostError, match="can't be read"):
            pending.result()
    assert containers.running() == ("other",)


@contextmanager
def meanwhile_two(containers: Containers) -> Iterator[None]:
    """A container comes and goes while another one is in the middle of something."""
    containers.create("two", SPEC)
    begun = time.monotonic()
    containers.start("two")
    yield
    containers.delete("two")
    assert time.monotonic() - begun < SOON_S


def test_while_no_process_1_can_be_cloned_the_others_are_looked_after(
    containers: Containers, container: str, starter: Starter, pool: ThreadPoolExecutor
) -> None:
    containers.create("other", SPEC)
    containers.start("other")
    zygote = children(starter.pid)[0]
    with stopped(zygote):
        pending: Future[None] = pool.submit(containers.start, container)
        begun = time.monotonic()
        assert containers.run("other", ["echo", "there"]).output == b"there\n"
        containers.set_credentials("other", [])
        containers.stop("other")
        assert time.monotonic() - begun < SOON_S
        assert not pending.done()
    pending.result()
    assert said(containers, "echo up") == "up\n"


def test_a_proxy_that_answers_no_more_keeps_nobody_else_waiting(
    containers: Containers, container: str, starter: Starter, pool: ThreadPoolExecutor
) -> None:
    containers.start(container)
    before = set(children(starter.pid))
    containers.run(container, [PYTHON, "-Ic", ASK], timeout_s=20)
    (proxy,) = set(children(starter.pid)) - before
    with meanwhile(containers), stopped(proxy):
        new = [repository("https://code.example/me/ours", "word")]
        pending = pool.submit(containers.set_credentials, container, new)
        with meanwhile_two(containers):
            assert not pending.done()
        # It is ended, and the next knock starts another one that has them.
        pending.result()
        eventually(lambda: proxy not in children(starter.pid), "the proxy's end")


def test_a_stop_that_waits_for_a_proxy_keeps_nobody_else_waiting(
    containers: Containers, container: str, starter: Starter, pool: ThreadPoolExecutor
) -> None:
    containers.start(container)
    before = set(children(starter.pid))
    containers.run(container, [PYTHON, "-Ic", ASK], timeout_s=20)
    (proxy,) = set(children(starter.pid)) - before
    with meanwhile(containers), stopped(proxy):
        pending = pool.submit(containers.stop, container)
        with meanwhile_two(containers):
            assert not pending.done()
        pending.result()


def test_an_error_in_the_keeping_of_one_container_ends_that_one(
    containers: Containers, container: str, starter: Starter
) -> None:
    number = mark()
    said(containers, f"sleep {number} &")
    with meanwhile(containers):
        assert containers._order(place(containers, container), "stop soon") is None
        eventually(lambda: not marked(number), "its end")
    assert containers.running() == ("other",)
    assert said(containers, "echo again") == "again\n"


def test_an_order_that_there_is_not_is_refused(containers: Containers, container: str) -> None:
    containers.start(container)
    assert containers._order(place(containers, container), "dance") == "failed no such order"
    assert containers._order(place(containers, container), "wait") == "serving"


def test_who_takes_no_answer_keeps_nobody_waiting(containers: Containers, container: str) -> None:
    containers.start(container)
    with (
        meanwhile(containers),
        socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as rude,
        Folder(place(containers, container)) as folder,
    ):
        rude.connect(folder.short("keeper"))
        rude.settimeout(0.5)
        with suppress(TimeoutError):
            for _ in range(2000):
                say(rude, "wait")
        assert containers._order(place(containers, container), "wait") == "serving"


def test_a_process_1_that_talks_without_end_keeps_nobody_else_waiting(
    containers: Containers, container: str
) -> None:
    """What a session that got hold of it could do: words, and as many descriptors with each as there can be."""
    need("root")
    containers.start(container)
    process1 = directory.process1_of(place(containers, container))
    channel = _channel_of(process1)
    over = threading.Event()
    said_ = 0

    def talk() -> None:
        nonlocal said_
        null = os.open(os.devnull, os.O_RDONLY)
        with suppress(OSError):
            while not over.is_set():
                say(channel, "busy" if said_ % 2 else "idle" + "!" * 60_000, (null,) * 200)
                said_ += 1
        os.close(null)

    talker = threading.Thread(target=talk)
    talker.start()
    try:
        with meanwhile(containers):
            eventually(lambda: said_ > 1000, "its talk")
            with meanwhile_two(containers):
                pass
            assert talker.is_alive()
            begun = time.monotonic()
            containers.stop(container)
            assert time.monotonic() - begun < SOON_S
    finally:
        over.set()
        channel.close()
        talker.join()


def _channel_of(process1: int) -> socket.socket:
    """A copy of the end that ``process1`` speaks to its keeper on (pidfd_getfd(2))."""
    pidfd = os.pidfd_open(process1)
    libc = ctypes.CDLL(None, use_errno=True)
    try:
        for fd in sorted(int(each.name) for each in Path(f"/proc/{process1}/fd").iterdir()):
            if fd > 2 and os.readlink(f"/proc/{process1}/fd/{fd}").startswith("socket:"):
                copy = socket.socket(fileno=libc.syscall(438, pidfd, fd, 0))
                if not copy.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                    return copy
                copy.close()
    finally:
        os.close(pidfd)
    raise AssertionError("it has none")


def test_starts_survive_that_what_they_are_cloned_from_is_killed_again_and_again(
    containers: Containers, starter: Starter
) -> None:
    over = threading.Event()
    killed = 0

    def kill() -> None:
        nonlocal killed
        while not over.is_set() and killed < 20:
            known = {directory.process1_of(place(containers, id_)) for id_ in containers.ids_of_all()}
            for pid in set(children(starter.pid)) - known:
                with suppress(OSError):
                    if not Path(f"/proc/{pid}/ns/pid").samefile("/proc/self/ns/pid"):
                        continue
                    os.kill(pid, signal.SIGKILL)
                    killed += 1
            over.wait(0.1)

    def whole_life(number: int) -> bool:
        id_ = f"n{number}"
        containers.create(id_, SPEC)
        done = b""
        # A child that does something for a container may be killed, too: then it is asked again.
        for _ in range(20):
            with suppress(Exception):
                done = containers.run(id_, ["echo", "ran"]).output
                break
        containers.stop(id_)
        return done == b"ran\n"

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        with ThreadPoolExecutor(4) as workers:
            assert all(workers.map(whole_life, range(12)))
    finally:
        over.set()
        killer.join()
    assert killed
    containers.sweep(())
    # Nor is anything left that was cloned by one that could not tell.
    eventually(lambda: not kept(starter), "the end of what it started")


def test_nothing_stays_open_for_containers_that_are_gone(containers: Containers, starter: Starter) -> None:
    need("root")

    def count() -> int:
        return len(os.listdir(f"/proc/{starter.pid}/fd"))

    def life(id_: str) -> None:
        containers.create(id_, SPEC)
        containers.run(id_, [PYTHON, "-Ic", ASK], timeout_s=20)
        containers.set_credentials(id_, [])
        containers.delete(id_)

    life("first")
    before = count()
    for number in range(5):
        life(f"n{number}")
    assert count() == before
