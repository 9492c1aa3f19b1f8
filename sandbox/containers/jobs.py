"""What takes time for one container is done by a child of the process that keeps them all, which waits for nothing."""

import os
import signal
import socket
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import NoReturn

from sandbox import restrict
from sandbox.channel import hear, say
from sandbox.containers import requests
from sandbox.descriptors import close_all_but

_SIGNALS = (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Job:
    """A child that does ``work`` and says on a channel how that goes: the last message is the outcome, ``failed …`` as
    sandbox.containers.requests has it. It holds no descriptor but ``keep``, and ends with this process.

    ``then`` is for whoever waits: what to do with a message (None: the child died before the last one); it returns
    whether that was the last one.
    """

    def __init__(
        self,
        work: Callable[[socket.socket], None],
        keep: Iterable[int],
        then: Callable[[tuple[str, tuple[int, ...]] | None], bool],
    ) -> None:
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
        self._then = then
        with theirs:
            try:
                self.pid = forked(lambda: _work(work, theirs), (*keep, theirs.fileno()))
                self.pidfd = os.pidfd_open(self.pid)
            except BaseException:
                self._channel.close()
                raise
        self._channel.setblocking(False)

    def fds(self) -> tuple[int, ...]:
        """Become readable when `turn` has something to do; none when it is over."""
        return (self._channel.fileno(), self.pidfd) if self.pid else ()

    def turn(self) -> None:
        """Take what the child said."""
        try:
            message = hear(self._channel)
        except BlockingIOError:
            if not self.reap():
                return
            message = None
        if self._then(message) or message is None:
            self.kill()
            # It has said its last word, or hung up.
            self.reap(0)

    def kill(self) -> None:
        """Let it not go on."""
        if self.pid:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    def reap(self, how: int = os.WNOHANG) -> bool:
        """Whether it is gone; then nothing of it is left here."""
        if self.pid and os.waitpid(self.pid, how)[0]:
            self.pid = 0
            self._channel.close()
            os.close(self.pidfd)
        return not self.pid


def forked(work: Callable[[], None], keep: Iterable[int]) -> int:
    """The process id of a child that does ``work`` and ends, and ends with this process; it holds ``keep`` alone."""
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        _be_child(parent, work, keep)
    return pid


def _be_child(parent: int, work: Callable[[], None], keep: Iterable[int]) -> NoReturn:
    try:
        # Other containers' locks and tokens above all.
        close_all_but((0, 1, 2, *keep))
        # Whoever gives this process's children their ids has to look into them.
        restrict.allow_inspection()
        signal.set_wakeup_fd(-1)
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        restrict.die_with_parent()
        if os.getppid() == parent:
            work()
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        os._exit(0)


def _work(work: Callable[[socket.socket], None], told: socket.socket) -> None:
    # Whoever waited may have gone.
    with suppress(BrokenPipeError):
        try:
            work(told)
        except BrokenPipeError:
            raise
        except Exception as error:
            say(told, requests.told(error))
