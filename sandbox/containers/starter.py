"""The process that forks keepers, and whatever else has to run in a process with one thread: ``python -m`` this module.

It is a fresh interpreter with what they need loaded, so that they start fast and share its memory. It ends when the
process that started it does, or hangs up; keepers die with it. With ``once`` it does what the first request says, in a
process of its own that nobody waits for.

A request is a word, ``keep`` or a chore's name (sandbox.containers.chores), with three descriptors: a file in memory
with its values, a socket for the answer, and a file in memory with a secret.
"""

import gc
import os
import select
import signal
import socket
import sys
import traceback
from typing import NoReturn

from sandbox import removal, restrict
from sandbox.channel import hear, say
from sandbox.containers import chores, keeper, requests
from sandbox.containers.requests import Request
from sandbox.descriptors import close_all_but

_GRACE_S = 5.0


def main(arguments: list[str]) -> NoReturn:
    """Serve requests on the descriptor that the first argument names."""
    channel = socket.socket(fileno=int(arguments[0]))
    if arguments[1:] == ["once"]:
        message = hear(channel)
        # Whoever asked waits for this process alone.
        if message is not None and os.fork() == 0:
            os.setsid()
            channel.close()
            _obey(*message)
        os._exit(0)
    parent = os.pidfd_open(os.getppid())
    _preload()
    gc.collect()
    gc.freeze()
    wake, waker = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
    signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
    children: set[int] = set()
    poll = select.poll()
    for fd in (channel.fileno(), parent, wake):
        poll.register(fd, select.POLLIN)
    while True:
        ready = {fd for fd, _ in poll.poll()}
        if wake in ready and set(os.read(wake, 4096)) - {signal.SIGCHLD}:
            break
        _reap(children)
        if channel.fileno() in ready:
            message = hear(channel)
            if message is None:
                break
            children.add(_fork(message, children))
        elif parent in ready:
            break
    _end(children)


def _preload() -> None:
    """Load what keepers and the proxies that they start would load each for itself."""
    import pkgcache.store
    from netpolicy import proxy
    from sandbox import authority, terminal

    assert pkgcache.store and proxy and authority and terminal


def _fork(message: tuple[str, tuple[int, ...]], children: set[int]) -> int:
    starter = os.getpid()
    pid = os.fork()
    if pid == 0:
        children.clear()
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        restrict.die_with_parent()
        if os.getppid() != starter:
            os._exit(1)
        # Not the channel above all: whoever asks must see it end with the starter.
        close_all_but((0, 1, 2, *message[1]))
        _obey(*message)
    for fd in message[1]:
        os.close(fd)
    return pid


def _reap(children: set[int]) -> None:
    while children:
        pid, _ = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return
        children.discard(pid)


def _end(children: set[int]) -> NoReturn:
    """Let keepers end in good order. What takes too long is killed by the kernel, as this process's child."""
    for pid in children:
        os.kill(pid, signal.SIGTERM)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, _GRACE_S)
    for pid in children:
        os.waitpid(pid, 0)
    os._exit(0)


def _obey(word: str, fds: tuple[int, ...]) -> NoReturn:
    """Do what a request says, and end."""
    try:
        request = requests.read(fds[0])
        reply = socket.socket(fileno=fds[1])
        os.close(fds[0])
        try:
            if word == "keep":
                _keep(request, reply, fds[2])
            else:
                _do(chores.CHORES[word], request, reply)
        except Exception as error:
            failure = requests.failure(error)
            if failure is None:
                traceback.print_exc()
            say(reply, failure or f"failed bug\n\n{type(error).__name__}: {error}")
    except OSError:
        # Whoever asked has gone.
        pass
    finally:
        sys.stderr.flush()
        os._exit(0)


def _keep(request: Request, reply: socket.socket, credentials: int) -> None:
    (linger_s,) = request.values
    assert linger_s is None or isinstance(linger_s, float)
    try:
        keeper.keep(request.place, keeper.Options(dict(os.environ), linger_s, credentials), reply)
    except keeper.BusyError:
        say(reply, "busy")


def _do(chore: chores.Chore, request: Request, reply: socket.socket) -> None:
    """Do a chore as the owner of the container's files."""
    prepared = chore(request.place, request.values)

    def work() -> None:
        answer, fds = prepared()
        say(reply, "done", (requests.in_memory(answer), *fds))

    removal.as_owner(request.place.ids, work)


if __name__ == "__main__":
    main(sys.argv[1:])
