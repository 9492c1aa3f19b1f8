"""What the command gets as standard input, output and error.

A descriptor that enters a session can be opened again there through /proc with other rights, a socket can be
connected anew, and a directory leads out of the root. So only pipes and /dev/null go in as they are; a terminal is
replaced by one of the session's own, and everything else is carried through a pipe.
"""

import os
import stat
from collections.abc import Callable
from typing import NamedTuple

from sandbox.errors import InputError

_NAMES = ("standard input", "standard output", "standard error")
_CHUNK = 65536


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
            pumps.append(Pump(0, ours, (ours,)) if fd == 0 else Pump(ours, fd, (ours,)))
            inside.append(theirs)
            close_after.append(theirs)
    return Stdio(
        inside=(inside[0], inside[1], inside[2]),
        close_after=tuple(close_after),
        terminal=terminals[0] if terminals else None,
        typed=0 in terminals,
        pumps=tuple(pumps),
    )


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
        return "direct"
    if stat.S_ISCHR(found.st_mode):
        if os.isatty(fd):
            return "terminal"
        if found.st_rdev == os.makedev(1, 3):
            return "direct"
    return "carried"
