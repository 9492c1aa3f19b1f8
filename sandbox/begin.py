"""The first step of every session: process 1, in its namespaces, waiting to be told what to become.

It is made as soon as the code that both need is loaded: the kernel makes the namespaces, and process 1 loads the
rest of its own code, while the supervisor is still reading its options.
"""

import os
import signal
import socket
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import NoReturn

from sandbox import setup as _for_both
from sandbox import syscalls as sys_

NAMESPACES = (
    sys_.CLONE_NEWUSER
    | sys_.CLONE_NEWNS
    | sys_.CLONE_NEWPID
    | sys_.CLONE_NEWNET
    | sys_.CLONE_NEWIPC
    | sys_.CLONE_NEWUTS
    | sys_.CLONE_NEWCGROUP
)


class Begun:
    """Process 1 of a session to come. The end of the ``with`` block ends it, unless somebody took it over.

    ``pid``: 0 when the kernel refused, with the reason in ``error``. ``channel``: the supervisor's end (see
    sandbox.channel).
    """

    __slots__ = ("_mapped", "channel", "error", "pid")

    def __init__(self, pid: int, channel: int, error: OSError | None = None) -> None:
        self.pid = pid
        self.channel = channel
        self.error = error
        self._mapped: Callable[[], None] | None = None

    def give_ids(self, give: Callable[[int], Callable[[], None]]) -> None:
        """Have process 1 given its ids by ``give``, which doesn't wait but returns what does (see
        sandbox.idmap.begin_maps). The sooner, the less there is to wait for. Once is enough."""
        if self.pid and self._mapped is None:
            self._mapped = give(self.pid)

    def take(self) -> tuple[int, int, Callable[[], None] | None]:
        """The process id, the channel, and what waits for the ids, which are the caller's from now on."""
        taken = self.pid, self.channel, self._mapped
        self.pid, self.channel, self._mapped = 0, -1, None
        return taken

    def __enter__(self) -> "Begun":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pid, channel, mapped = self.take()
        if mapped is not None:
            # While process 1 is there: its helper processes would complain that it is not.
            with suppress(Exception):
                mapped()
        if channel >= 0:
            os.close(channel)
        if pid:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def begin(become: Callable[[int], NoReturn] | None = None, *, for_parent: bool = False) -> Begun:
    """Make process 1. The calling process must have one thread only.

    ``become``: what it does, given its end of the channel; by default, one command (see sandbox.process1).
    ``for_parent``: it is a child of this process's parent, which has to wait for it.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
    try:
        pid = sys_.clone(NAMESPACES | (sys_.CLONE_PARENT if for_parent else 0))
    except OSError as error:
        ours.close()
        theirs.close()
        return Begun(0, -1, error)
    if pid == 0:
        assert _for_both
        try:
            if become is not None:
                become(theirs.detach())
            from sandbox.process1 import run

            run(theirs.detach())
        finally:
            os._exit(125)
    theirs.close()
    return Begun(pid, ours.detach())
