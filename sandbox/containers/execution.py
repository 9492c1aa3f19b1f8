"""A command in a running container, as whoever asked for it sees it."""

import errno
import os
import select
import signal
import socket
import stat
import struct
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from types import MappingProxyType, TracebackType
from typing import NamedTuple

from sandbox.channel import hear, say
from sandbox.containers import orders
from sandbox.containers.spec import Ended, Size
from sandbox.errors import Failure, InputError, SetupError
from sandbox.setup import NOT_FOUND, NOT_RUNNABLE, TerminalSettings

# Process 1 answers at once. What runs beside it may keep it from that, and must not keep whoever asks.
_ANSWER_S = 60.0
DYING_S = 5.0


class StoppedError(Failure):
    """The container was stopped while the command ran, or before it could begin."""


class NotTakenError(Exception):
    """The container ended before it took the command, which did not run: start it and ask again."""


class Given(NamedTuple):
    """What a command gets as 0, 1 and 2: descriptors of pipes or /dev/null, the caller's to close; None for the
    terminal, or for nothing where there is none."""

    stdin: int | None = None
    stdout: int | None = None
    stderr: int | None = None


NOTHING = Given()


class Exec:
    """A command in a container. The end of the ``with`` block hangs up: what has not ended by then is killed, with its
    process group.

    ``pid``: its number in the container; 0 when it could not be run. ``terminal``: the master of its terminal
    (non-blocking, the caller's to read and write, closed with this object), -1 without one. Its output is in the
    descriptors that the caller gave; all that the command wrote is there when it has ended, but their end may not show
    while something that it left in the background holds them.
    """

    def __init__(self, connection: socket.socket) -> None:
        self.pid = 0
        self.terminal = -1
        self.ended: Ended | None = None
        self._connection = connection
        self._name = ""
        self._unrunnable: tuple[int, str] | None = None
        self._dead: float | None = None

    def fileno(self) -> int:
        """Readable when `poll` has something to do; for select, epoll and asyncio's add_reader."""
        return self._connection.fileno()

    def poll(self) -> Ended | None:
        """How the command ended, None while it runs. Never waits. StoppedError when the container went away."""
        return self.wait(0)

    def wait(self, timeout_s: float | None = None) -> Ended | None:
        """Wait until the command has ended; None when it had not within ``timeout_s``. StoppedError as in poll."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while self.ended is None:
            ends = [each for each in (deadline, self._dead) if each is not None]
            left = max(0.0, min(ends) - time.monotonic()) if ends else None
            if _readable(self._connection, left):
                self._listen()
            elif self._dead is not None and time.monotonic() >= self._dead:
                self.ended = Ended(128 + signal.SIGKILL, signal.SIGKILL)
            else:
                return None
        return self.ended

    def signal(self, number: int) -> None:
        """Send a signal to the command's process group; nothing happens when it has ended."""
        if self.ended is None:
            with suppress(OSError):
                say(self._connection, f"signal {number:d}")

    def kill(self) -> None:
        """Kill the command's process group. It counts as ended after DYING_S, whatever is told of it: of what a
        stranger in the container traces, its parent is not told that it is dead."""
        self.signal(signal.SIGKILL)
        self._dead = self._dead or time.monotonic() + DYING_S

    def resize(self, size: Size) -> None:
        """Give its terminal another window size."""
        import fcntl
        import termios

        if self.terminal >= 0:
            fcntl.ioctl(self.terminal, termios.TIOCSWINSZ, window(size))

    def close(self) -> None:
        """Hang up."""
        self._connection.close()
        if self.terminal >= 0:
            fd, self.terminal = self.terminal, -1
            os.close(fd)

    def __enter__(self) -> "Exec":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _begin(self, name: str) -> None:
        """Wait until the container took the command, and it runs or can't."""
        self._name = name
        self._await_answer()
        taken = self._hear()
        if taken is None:
            raise NotTakenError
        for fd in taken[1]:
            os.close(fd)
        while self.ended is None and (not self.pid or self._unrunnable is not None):
            self._await_answer()
            self._listen()

    def _await_answer(self) -> None:
        if not _readable(self._connection, _ANSWER_S):
            raise SetupError(
                f"the container does not say what becomes of the command, after {_ANSWER_S:.0f} s",
                hint="stop the container, and run the command again",
            )

    def _hear(self) -> tuple[str, tuple[int, ...]] | None:
        try:
            return hear(self._connection)
        except OSError as error:
            if error.errno in (errno.ECONNRESET, errno.EPIPE):
                return None
            raise

    def _listen(self) -> None:
        """Read one message. What process 1 says is a stranger's: text, of which little is believed."""
        message = self._hear()
        if message is None:
            raise StoppedError("the container was stopped", hint="start it and run the command again")
        words, fds = message
        spare = list(fds)
        try:
            kind, _, rest = words.partition(" ")
            if kind == "started":
                self.pid = int(rest)
            elif kind == "terminal" and self.terminal < 0 and os.isatty(fds[0]):
                self.terminal = spare.pop(0)
                os.set_blocking(self.terminal, False)
            elif kind == "unrunnable":
                number, where = rest.split()
                self._unrunnable = (int(number), where)
            elif kind == "exited":
                self.ended = self._outcome(rest.split())
        except (ValueError, IndexError) as error:
            raise SetupError(f"the container gave no sensible answer ({words[:60]!r})") from error
        finally:
            for fd in spare:
                os.close(fd)

    def _outcome(self, words: list[str]) -> Ended:
        code, number = int(words[0]), int(words[1])
        user, system, rss = float(words[2]), float(words[3]), int(words[4])
        if self._unrunnable is not None:
            reason, where = self._unrunnable
            text = os.strerror(reason)
            if where == "chdir":
                return Ended(NOT_RUNNABLE, message=f"the working directory can't be entered: {text}")
            missing = reason == errno.ENOENT
            why = "not found in the session" if missing else f"can't be run: {text}"
            return Ended(NOT_FOUND if missing else NOT_RUNNABLE, message=f"{self._name}: {why}")
        return Ended(128 + number if number else code, number, user, system, rss)


def begin(
    path: str,
    arguments: Sequence[str],
    *,
    environment: Mapping[str, str] = MappingProxyType({}),
    workdir: str | None = None,
    given: Given = NOTHING,
    terminal: Size | TerminalSettings | None = None,
) -> Exec:
    """Run ``arguments`` in the container that takes commands at the socket ``path``.

    ``environment`` adds to the container's. NotTakenError when nobody listens there, or no longer. InputError when the
    arguments can't be a command's, or a descriptor is neither a pipe nor /dev/null.
    """
    _check(arguments, environment, workdir)
    descriptors: list[int] = []
    places: list[int | None] = []
    opened = -1
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
    order_fd = -1
    try:
        for fd in given:
            if fd is None and terminal is not None:
                places.append(None)
                continue
            if fd is None:
                opened = opened if opened >= 0 else os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
                fd = opened
            _check_descriptor(fd)
            places.append(len(descriptors))
            descriptors.append(fd)
        if isinstance(terminal, Size):
            terminal = TerminalSettings(None, window(terminal))
        order = orders.Order(
            tuple(arguments), tuple(environment.items()), workdir, (places[0], places[1], places[2]), terminal
        )
        order_fd = orders.in_memory(orders.encode(order))
        try:
            connection.connect(path)
            say(connection, "exec", (order_fd, *descriptors))
        except (ConnectionError, FileNotFoundError) as error:
            raise NotTakenError from error
        made = Exec(connection)
        made._begin(arguments[0])
    except BaseException:
        connection.close()
        raise
    finally:
        for fd in (opened, order_fd):
            if fd >= 0:
                os.close(fd)
    return made


def _check(arguments: Sequence[str], environment: Mapping[str, str], workdir: str | None) -> None:
    if not arguments or not arguments[0]:
        raise InputError("there is no command to run", hint="name a program")
    if any("\0" in text for text in (*arguments, *environment, *environment.values(), workdir or "")):
        raise InputError("a command, its variables and its directory can't contain a zero byte")
    if any(not name or "=" in name for name in environment):
        raise InputError("a variable's name can't be empty or contain =")


def _check_descriptor(fd: int) -> None:
    """A descriptor can be opened again in the session with other rights, so it has to be harmless whatever they are."""
    found = os.fstat(fd)
    null = stat.S_ISCHR(found.st_mode) and found.st_rdev == os.makedev(1, 3)
    if not null and not stat.S_ISFIFO(found.st_mode):
        raise InputError(
            f"descriptor {fd} is neither a pipe nor /dev/null, so it can't be given to a session",
            hint="carry its bytes through a pipe",
        )


def pipe() -> tuple[int, int]:
    """A pipe of which either end may be given to a command, as (read, write)."""
    read, write = os.pipe2(os.O_CLOEXEC)
    # Whoever is who in the session, /dev/stdout and its like can be opened there.
    os.fchmod(read, 0o666)
    return read, write


def window(size: Size) -> bytes:
    """The size as struct winsize."""
    return struct.pack("HHHH", size.rows, size.columns, 0, 0)


def _readable(connection: socket.socket, timeout_s: float | None) -> bool:
    poll = select.poll()
    poll.register(connection, select.POLLIN)
    return bool(poll.poll(None if timeout_s is None else timeout_s * 1000))
