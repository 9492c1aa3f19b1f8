"""What the command gets as standard input, output and error.

A descriptor that enters a session can be opened again there through /proc with other rights: what may only be read
from a pipe could be written to, for instance the commands of the shell that called. A socket can be connected anew,
and a directory leads out of the root. So nothing but /dev/null goes in as it is; a terminal is replaced by one of the
session's own, and everything else is carried through a pipe.
"""

import fcntl
import os
import select
import stat
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

from sandbox.errors import InputError

_NAMES = ("standard input", "standard output", "standard error")
_CHUNK = 65536
_ONE_SLOT = 4096
_MUCH = 1 << 18
_FIONREAD = 0x541B
# What `pending` is where no bytes are held, only the target awaited.
_AWAITED = b"\0"


class Pump:
    """Carries bytes from ``source`` to ``target`` (a descriptor, or a function that takes them).

    ``owned``: those of the two that are the pump's to close.
    """

    def __init__(self, source: int, target: int | Callable[[bytes], None], owned: tuple[int, ...]) -> None:
        self.source = source
        self.target = target
        self.pending = b""
        self.ended = False
        self._owned = owned

    def fill(self) -> None:
        """Read once. The source's end, also a terminal's (EIO), ends the pump once all is written."""
        try:
            self.pending = os.read(self.source, _CHUNK)
        except BlockingIOError:
            return
        except OSError:
            self.pending = b""
        self.ended = not self.pending
        if self.pending and not isinstance(self.target, int):
            data, self.pending = self.pending, b""
            self.target(data)

    def drain(self) -> None:
        """Write what is pending, as much as the target takes now. A target that is gone ends the pump."""
        assert isinstance(self.target, int)
        try:
            self.pending = self.pending[os.write(self.target, self.pending) :]
        except BlockingIOError:
            return
        except OSError:
            self.pending = b""
            self.ended = True

    def close(self) -> None:
        """Close what the pump owns; its other end sees the end, or a broken pipe."""
        owned, self._owned = self._owned, ()
        for fd in owned:
            os.close(fd)


class PipePump(Pump):
    """A pump between two pipes. The caller's may be in blocking mode and shared, so it is never written in one go."""

    def fill(self) -> None:
        """Move what both pipes allow now."""
        assert isinstance(self.target, int)
        try:
            self.ended = not os.splice(self.source, self.target, _CHUNK, flags=os.SPLICE_F_NONBLOCK)
        except BlockingIOError:
            self.pending = _AWAITED
        except OSError:
            self.ended = True

    def drain(self) -> None:
        """The target has room again, or its reader is gone, which the next move finds out."""
        self.pending = b""


class PipeInput(PipePump):
    """Lends the session what is in the caller's pipe, and takes from that pipe only what the session has read.

    What the command leaves unread is there for whoever reads the pipe next, as if both had the same pipe. The target
    is a pipe with room for a single piece: it can be written again when the piece was read to its end. A command that
    has read _MUCH is taken to read on, and gets the rest as fast as it goes.
    """

    def __init__(self, source: int, target: int) -> None:
        self._null = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
        super().__init__(source, target, (target, self._null))
        fcntl.fcntl(target, fcntl.F_SETPIPE_SZ, _ONE_SLOT)
        self._lent = 0
        self._carried = 0

    def fill(self) -> None:
        """Lend a piece, or move what there is."""
        if self._carried >= _MUCH:
            super().fill()
            return
        from sandbox.syscalls import tee

        assert isinstance(self.target, int)
        try:
            self._lent = tee(self.source, self.target, _CHUNK, os.SPLICE_F_NONBLOCK)
        except BlockingIOError:
            return
        except OSError:
            self.ended = True
            return
        self.ended = not self._lent
        self.pending = _AWAITED if self._lent else b""

    def drain(self) -> None:
        """The piece was read to its end, or nobody is there to read any more."""
        self.pending = b""
        if _reader_is_gone(self.target):
            self.ended = True
            return
        self._carried += self._lent
        self._take(self._lent)
        if self._carried >= _MUCH:
            assert isinstance(self.target, int)
            # A user with very many pipes gets no larger one, and the small one does.
            with suppress(OSError):
                fcntl.fcntl(self.target, fcntl.F_SETPIPE_SZ, _CHUNK)

    def close(self) -> None:
        if self._lent:
            assert isinstance(self.target, int)
            left = int.from_bytes(fcntl.ioctl(self.target, _FIONREAD, bytes(4)), "little")
            self._take(self._lent - left)
        super().close()

    def _take(self, count: int) -> None:
        """Take ``count`` bytes of what was lent out of the caller's pipe, without waiting for others that read it."""
        self._lent = 0
        while count > 0:
            try:
                moved = os.splice(self.source, self._null, count, flags=os.SPLICE_F_NONBLOCK)
            except OSError:
                return
            if not moved:
                return
            count -= moved


class Stdio(NamedTuple):
    """``inside``: the descriptors for the command, None where it gets its terminal. ``close_after``: ends of pipes
    that belong to the session alone once it runs. ``terminal``: the user's terminal, None without one; ``typed``:
    it is the session's input as well. ``pumps`` carry the rest."""

    inside: tuple[int | None, int | None, int | None]
    close_after: tuple[int, ...]
    terminal: int | None
    typed: bool
    pumps: tuple[Pump, ...]


def connect() -> Stdio:
    """Sort this process's own 0, 1 and 2 for a command. InputError when one of them is a directory."""
    inside: list[int | None] = []
    close_after: list[int] = []
    pumps: list[Pump] = []
    terminals: list[int] = []
    for fd in (0, 1, 2):
        kind = _kind(fd)
        if kind == "terminal":
            terminals.append(fd)
            inside.append(None)
        elif kind == "closed":
            null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
            close_after.append(null)
            inside.append(null)
        elif kind == "direct":
            inside.append(fd)
        elif fd == 2 and inside[1] in close_after and _same_file(1, 2):
            # One pipe for both, so that what the command wrote stays in its order.
            inside.append(inside[1])
        else:
            read, write = os.pipe2(os.O_CLOEXEC)
            ours, theirs = (write, read) if fd == 0 else (read, write)
            os.set_blocking(ours, False)
            # Whoever is who in the session, /dev/stdout and its like can be opened there.
            os.fchmod(theirs, 0o666)
            pumps.append(_pump(kind, fd, ours))
            inside.append(theirs)
            close_after.append(theirs)
    return Stdio(
        inside=(inside[0], inside[1], inside[2]),
        close_after=tuple(close_after),
        terminal=terminals[0] if terminals else None,
        typed=0 in terminals,
        pumps=tuple(pumps),
    )


def _reader_is_gone(pipe: int | Callable[[bytes], None]) -> bool:
    assert isinstance(pipe, int)
    poll = select.poll()
    poll.register(pipe, 0)
    return bool(poll.poll(0))


def _pump(kind: str, fd: int, ours: int) -> Pump:
    if kind == "pipe":
        return PipeInput(fd, ours) if fd == 0 else PipePump(ours, fd, (ours,))
    return Pump(fd, ours, (ours,)) if fd == 0 else Pump(ours, fd, (ours,))


def collect(output: Callable[[bytes], None]) -> Stdio:
    """No input; output and error together go to ``output``, in chunks as they come."""
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    read, write = os.pipe2(os.O_CLOEXEC)
    return Stdio((null, write, write), (null, write), None, False, (Pump(read, output, (read,)),))


def _same_file(one: int, other: int) -> bool:
    first, second = os.fstat(one), os.fstat(other)
    return (first.st_dev, first.st_ino) == (second.st_dev, second.st_ino)


def _kind(fd: int) -> str:
    try:
        found = os.fstat(fd)
    except OSError:
        return "closed"
    if stat.S_ISDIR(found.st_mode):
        raise InputError(
            f"{_NAMES[fd]} is a directory, which would lead out of the session",
            hint="redirect it from a file, a pipe or /dev/null",
        )
    if stat.S_ISFIFO(found.st_mode):
        return "pipe"
    if stat.S_ISCHR(found.st_mode):
        if os.isatty(fd):
            return "terminal"
        if found.st_rdev == os.makedev(1, 3):
            return "direct"
    return "carried"
