"""The process that the process 1 of every container is cloned from.

What a process changes of the memory that it shares with the one that it was forked from, it keeps for itself, and so
does that one. So the processes that stay, one for each container, are cloned from one that does nothing else and
therefore changes next to nothing. They are the starter's children all the same (CLONE_PARENT).

It is told nothing but to clone, and holds no descriptor of any container's.
"""

import errno
import os
import resource
import signal
import socket
import sys
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn

from sandbox.begin import Begun, begin
from sandbox.channel import hear, say
from sandbox.containers import serve
from sandbox.containers.jobs import forked
from sandbox.descriptors import close_all_but

_MOST_DEATHS = 3

Taker = Callable[[Begun], None]


class Zygote:
    """A child of this process, made again when it died. One process 1 is asked of it at a time, and not waited for."""

    def __init__(self) -> None:
        self._limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._takers: deque[Taker] = deque()
        self._deaths = 0
        self._channel: socket.socket | None = None
        self._make()

    @property
    def busy(self) -> bool:
        """Whether a process 1 may be there that nobody knows of yet."""
        return bool(self._takers)

    def fds(self) -> tuple[int, ...]:
        """Become readable when `turn` has something to do: what it said, and its end."""
        return () if self._channel is None else (self._channel.fileno(), self._pidfd)

    def ask(self, taker: Taker) -> None:
        """Have a process 1 made, for a container; ``taker`` gets it in a `turn` to come. OSError when it died and there
        can't be another one."""
        if self._channel is None:
            self._make()
        self._takers.append(taker)
        if len(self._takers) == 1:
            self._ask()

    def turn(self) -> None:
        """Take what it said, or make another one when it died."""
        assert self._channel is not None
        try:
            message = hear(self._channel)
        except BlockingIOError:
            # What it said last is taken first.
            if os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
                return
            message = None
        if message is None:
            self._replace()
            return
        pid, number = (int(word) for word in message[0].split())
        fds = message[1]
        self._deaths = 0
        self._give(Begun(pid, fds[0]) if fds else Begun(0, -1, OSError(number, os.strerror(number))))

    def _replace(self) -> None:
        self.close()
        self._deaths += 1
        try:
            self._make()
            failed = self._deaths % _MOST_DEATHS == 0
        except OSError:
            failed = True
        if failed:
            takers, self._takers = self._takers, deque()
            for taker in takers:
                taker(Begun(0, -1, OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))))
        elif self._takers:
            self._ask()

    def _ask(self) -> None:
        assert self._channel is not None
        # When it died, `turn` finds that.
        with suppress(OSError):
            say(self._channel, "clone")

    def _give(self, begun: Begun) -> None:
        if not self._takers:
            with begun:
                return
        taker = self._takers.popleft()
        if self._takers:
            self._ask()
        taker(begun)

    def _make(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
        with theirs:
            try:
                self.pid = forked(lambda: _be_zygote(theirs, self._limits), (theirs.fileno(),))
                self._pidfd = os.pidfd_open(self.pid)
            except BaseException:
                ours.close()
                raise
        ours.setblocking(False)
        self._channel = ours

    def close(self) -> None:
        """End it; those that were cloned from it live on."""
        if self._channel is not None:
            self._channel.close()
            self._channel = None
            os.close(self._pidfd)
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)


def _be_zygote(channel: socket.socket, limits: tuple[int, int]) -> NoReturn:
    resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    # Each process 1 would do it for itself (restrict.load_nothing), and keep the memory that this changes.
    sys.path_importer_cache.clear()

    def become(theirs: int) -> NoReturn:
        # Nobody else must keep this channel open: its end tells that the zygote died.
        close_all_but((0, 1, 2, theirs))
        serve.become(theirs)

    while hear(channel) is not None:
        begun = begin(become, for_parent=True)
        if begun.error is not None:
            say(channel, f"0 {begun.error.errno}")
            continue
        pid, inner, _ = begun.take()
        say(channel, f"{pid} 0", (inner,))
        os.close(inner)
    os._exit(0)
