"""The process that starts and keeps containers, and does whatever else needs a process with one thread: ``python -m``
this module.

It is a fresh interpreter with what its children need loaded, so that they start fast and share its memory. It ends when
the process that started it does, or hangs up; the containers die with it. With ``once`` it does what the first request
says, in a process of its own that nobody waits for, and ends with that container.

A request is a word, ``keep`` or a chore's name (sandbox.containers.chores), with three descriptors: a file in memory
with its values, a socket for the answer, and a file in memory with a secret.
"""

import gc
import os
import resource
import select
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn

from sandbox import removal, restrict
from sandbox.begin import begin
from sandbox.channel import hear, say
from sandbox.containers import chores, requests, serve
from sandbox.containers.jobs import forked
from sandbox.containers.keeper import BusyError, Kept, Options
from sandbox.containers.requests import Request
from sandbox.containers.zygote import Zygote

_GRACE_S = 5.0
_SIGNALS = (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class _Starter:
    """What this process looks after. ``channel``: where requests come from; None when there was but one. ``zygote``:
    what process 1 of a container is cloned from; None: this process. ``parent``: whose end is this one's as well, a
    pidfd."""

    def __init__(self, channel: socket.socket | None, zygote: Zygote | None, parent: int) -> None:
        self.channel = channel
        self.zygote = zygote
        self.parent = parent
        self.kept: dict[Kept, int] = {}
        self.chores: set[int] = set()
        self.wake, waker = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        for number in _SIGNALS:
            signal.signal(number, lambda *_: None)
        signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
        self.poll = select.epoll()
        for fd in (self.wake, *([] if channel is None else [channel.fileno(), parent])):
            self.poll.register(fd, select.EPOLLIN)
        self.zygote_fds: tuple[int, ...] = ()


def main(arguments: list[str]) -> NoReturn:
    """Serve requests on the descriptor that the first argument names."""
    channel = socket.socket(fileno=int(arguments[0]))
    if arguments[1:] == ["once"]:
        message = hear(channel)
        # Whoever asked waits for this process alone.
        if message is None or os.fork() > 0:
            os._exit(0)
        os.setsid()
        channel.close()
        starter = _Starter(None, None, -1)
        _take(starter, *message)
    else:
        parent = os.pidfd_open(os.getppid())
        _preload()
        gc.collect()
        gc.freeze()
        zygote = Zygote()
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        # Some 30 for each container.
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        starter = _Starter(channel, zygote, parent)
        _watch_zygote(starter)
    # Tokens pass through.
    restrict.forbid_inspection()
    restrict.no_core_dumps()
    while starter.channel is not None or starter.kept or starter.chores:
        if not _turn(starter):
            break
    _end(starter)


def _turn(starter: _Starter) -> bool:
    """Wait for something and do it; False when it is time to end."""
    due = [left for kept in starter.kept if (left := kept.wait_s()) is not None]
    ready = {fd for fd, _ in starter.poll.poll(min(due, default=-1.0))}
    if starter.wake in ready:
        if set(os.read(starter.wake, 4096)) - {signal.SIGCHLD}:
            return False
        _reap(starter)
    if starter.channel is not None and starter.channel.fileno() in ready:
        message = hear(starter.channel)
        if message is None:
            return False
        _take(starter, *message)
    _turn_all(starter, ready)
    return starter.parent not in ready


def _turn_all(starter: _Starter, ready: set[int]) -> None:
    for kept, fd in list(starter.kept.items()):
        if fd in ready or kept.wait_s() == 0:
            _drive(starter, kept, kept.turn)
    if starter.zygote is not None and ready.intersection(starter.zygote_fds):
        _unwatch_zygote(starter)
        try:
            starter.zygote.turn()
        finally:
            _watch_zygote(starter)


def _drive(starter: _Starter, kept: Kept, act: Callable[[], None]) -> None:
    """Have a container do something, and wait for its descriptors, which are others after each turn."""
    fd = starter.kept.pop(kept, None)
    if fd is not None:
        # Closing it would not be enough: a child may have a copy.
        starter.poll.unregister(fd)
    try:
        act()
        if not kept.over:
            starter.poll.register(kept.poll, select.EPOLLIN)
            starter.kept[kept] = kept.poll.fileno()
    except Exception as error:
        requests.told(error)
        kept.abandon()


def _ask(starter: _Starter, kept: Kept) -> None:
    """Have process 1 of a container made."""
    if starter.zygote is None:
        kept.given(begin(serve.become))
    else:
        _unwatch_zygote(starter)
        try:
            starter.zygote.ask(lambda begun: _drive(starter, kept, lambda: kept.given(begun)))
        finally:
            _watch_zygote(starter)


def _watch_zygote(starter: _Starter) -> None:
    assert starter.zygote is not None
    starter.zygote_fds = starter.zygote.fds()
    for fd in starter.zygote_fds:
        starter.poll.register(fd, select.EPOLLIN)


def _unwatch_zygote(starter: _Starter) -> None:
    for fd in starter.zygote_fds:
        starter.poll.unregister(fd)


def _preload() -> None:
    """Load what keepers and the proxies that they start would load each for itself."""
    import pkgcache.store
    from netpolicy import proxy
    from sandbox import authority, terminal

    assert pkgcache.store and proxy and authority and terminal


def _take(starter: _Starter, word: str, fds: tuple[int, ...]) -> None:
    """Begin what a request asks for. Its descriptors: values, the socket for the answer, a secret."""
    values, asked, secret = fds
    reply = socket.socket(fileno=asked)
    try:
        if word == "keep":
            request = requests.read(values)
            (linger_s,) = request.values
            options = Options(dict(os.environ), linger_s, secret)
            secret = -1
            kept = Kept(request.place, options, reply, lambda kept: _ask(starter, kept))
            _drive(starter, kept, lambda: None)
            return
        starter.chores.add(
            forked(lambda: _do(chores.CHORES[word], requests.read(values), reply), (values, asked))
        )
        reply.close()
    except BusyError:
        _answer(reply, "busy")
    except Exception as error:
        _answer(reply, requests.told(error))
    finally:
        os.close(values)
        if secret >= 0:
            os.close(secret)


def _answer(reply: socket.socket, words: str) -> None:
    with reply, suppress(OSError):
        say(reply, words)


def _reap(starter: _Starter) -> None:
    for pid in tuple(starter.chores):
        if os.waitpid(pid, os.WNOHANG)[0]:
            starter.chores.discard(pid)
    if starter.zygote is None or starter.zygote.busy:
        return
    # A process 1 that the zygote could not name any more: it was killed in between.
    known = {starter.zygote.pid, *starter.chores}.union(*(kept.pids() for kept in starter.kept))
    while (dead := _dead_child()) and dead not in known:
        os.waitpid(dead, 0)


def _dead_child() -> int:
    with suppress(ChildProcessError):
        found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        return 0 if found is None else found.si_pid
    return 0


def _end(starter: _Starter) -> NoReturn:
    """End all containers in good order. What takes too long is killed by the kernel, as this process's child."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, _GRACE_S)
    if starter.channel is not None:
        starter.poll.unregister(starter.channel)
        starter.poll.unregister(starter.parent)
    for kept in list(starter.kept):
        kept.end()
        _drive(starter, kept, kept.turn)
    while starter.kept:
        due = [left for kept in starter.kept if (left := kept.wait_s()) is not None]
        ready = {fd for fd, _ in starter.poll.poll(min(due, default=-1.0))}
        if starter.wake in ready:
            os.read(starter.wake, 4096)
        _turn_all(starter, ready)
    os._exit(0)


def _do(chore: chores.Chore, request: Request, reply: socket.socket) -> None:
    """Do a chore as the owner of the container's files."""
    try:
        prepared = chore(request.place, request.values)

        def work() -> None:
            answer, fds = prepared()
            say(reply, "done", (requests.in_memory(answer), *fds))

        removal.as_owner(request.place.ids, work)
    except Exception as error:
        _answer(reply, requests.told(error))


if __name__ == "__main__":
    main(sys.argv[1:])
