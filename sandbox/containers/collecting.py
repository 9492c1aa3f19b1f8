"""Run a command in a container and keep what it says."""

import os
import select
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress

from sandbox.containers.execution import Exec, Given, pipe
from sandbox.containers.spec import Completed

_CHUNK = 65536
MOST_PIECES = 256
"""More than a pipe holds. What a command left in the background may go on writing for ever."""


class Tail:
    """The last ``limit`` bytes of what is added; ``omitted``: how many went before them."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.omitted = 0
        self._kept = bytearray()

    def add(self, data: bytes) -> None:
        self._kept += data
        # Now and then, for each time moves what is kept.
        if len(self._kept) > 2 * self.limit + _CHUNK:
            self._cut()

    def _cut(self) -> None:
        over = len(self._kept) - self.limit
        if over > 0:
            del self._kept[:over]
            self.omitted += over

    def take(self) -> bytes:
        """What is kept."""
        self._cut()
        return bytes(self._kept)


def run(
    begin: Callable[[Given], Exec], given: bytes, *, timeout_s: float | None, limit: int, together: bool
) -> Completed:
    """Begin a command with pipes, feed it, and gather until it ends. See Containers.run."""
    with ExitStack() as stack:
        ours: list[int] = []
        theirs: list[int] = []

        def closes(fds: list[int]) -> None:
            while fds:
                os.close(fds.pop())

        stack.callback(closes, ours)
        stack.callback(closes, theirs)
        output, errors = Tail(limit), Tail(limit)
        readers: dict[int, Tail] = {}
        stdin, feed = pipe() if given else (None, -1)
        if stdin is not None:
            theirs.append(stdin)
            ours.append(feed)
            os.set_blocking(feed, False)
        ends: list[int] = []
        for tail in (output,) if together else (output, errors):
            read, write = pipe()
            ours.append(read)
            theirs.append(write)
            ends.append(write)
            readers[read] = tail
            os.set_blocking(read, False)
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        command = stack.enter_context(begin(Given(stdin, ends[0], ends[-1])))
        closes(theirs)
        timed_out = _carry(command, readers, feed if given else -1, given, deadline)
        if timed_out:
            command.kill()
        ended = command.wait()
        for fd, tail in readers.items():
            _read_all(fd, tail)
        assert ended is not None
        return Completed(ended, output.take(), errors.take(), timed_out, output.omitted + errors.omitted)


def _carry(command: Exec, readers: dict[int, Tail], feed: int, left: bytes, deadline: float | None) -> bool:
    """Until the command has ended; True when it had not by the ``deadline``."""
    poll = select.poll()
    poll.register(command, select.POLLIN)
    for fd in readers:
        poll.register(fd, select.POLLIN)
    view = memoryview(left)
    if feed >= 0:
        poll.register(feed, select.POLLOUT)
    while command.poll() is None:
        wait = None if deadline is None else max(0.0, deadline - time.monotonic())
        if wait == 0.0:
            return True
        for fd, _ in poll.poll(None if wait is None else wait * 1000):
            if fd in readers:
                data = _read(fd)
                readers[fd].add(data or b"")
                if data == b"":
                    poll.unregister(fd)
            elif fd == feed:
                try:
                    view = view[os.write(feed, view[:_CHUNK]) :]
                except BlockingIOError:
                    continue
                except BrokenPipeError:
                    view = view[:0]
                if not view:
                    poll.unregister(feed)
                    _hang_up(feed)
    return False


def _hang_up(feed: int) -> None:
    """Let the reader see the end, and keep the number: whoever opened it closes it."""
    null = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    with suppress(OSError):
        os.dup2(null, feed, inheritable=False)
    os.close(null)


def _read(fd: int) -> bytes | None:
    """What is there now, empty at the end, None when nothing is."""
    try:
        return os.read(fd, _CHUNK)
    except BlockingIOError:
        return None


def _read_all(fd: int, tail: Tail) -> None:
    for _ in range(MOST_PIECES):
        data = _read(fd)
        if not data:
            return
        tail.add(data)
