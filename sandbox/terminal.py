"""The user's terminal, and what is between it and the session's own."""

import fcntl
import os
import signal
import termios
from types import TracebackType

from sandbox.setup import TerminalSettings

_IFLAG, _OFLAG, _CFLAG, _LFLAG, _CC = 0, 1, 2, 3, 6


def settings(fd: int, *, reading: bool) -> TerminalSettings:
    """What the session's terminal starts with, taken from the user's terminal ``fd``.

    ``reading``: the user types into the session, so the user's own terminal will be raw. Otherwise it goes on
    translating line ends itself, and the session's must not do so a second time.
    """
    attributes = termios.tcgetattr(fd)
    if not reading:
        attributes[_OFLAG] &= ~termios.OPOST
    return TerminalSettings(attributes, size(fd))


def size(fd: int) -> bytes:
    """The window size of the terminal ``fd``, as struct winsize."""
    return fcntl.ioctl(fd, termios.TIOCGWINSZ, b"\0" * 8)


def copy_size(source: int, target: int) -> None:
    """Give ``target`` the window size of ``source``; its foreground processes get SIGWINCH."""
    fcntl.ioctl(target, termios.TIOCSWINSZ, size(source))


class Raw:
    """The user's terminal in raw mode: every key reaches the session, ^C and ^Z too. Restored at the end."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._before: list[int | list[bytes | int]] | None = None

    def __enter__(self) -> "Raw":
        self.enter()
        return self

    def enter(self) -> None:
        """Go raw. A background process stops here until it is in the foreground, as any that uses its terminal."""
        self._before = termios.tcgetattr(self.fd)
        raw = termios.tcgetattr(self.fd)
        raw[_IFLAG] &= ~(
            termios.BRKINT
            | termios.ICRNL
            | termios.INPCK
            | termios.ISTRIP
            | termios.IXON
            | termios.INLCR
            | termios.IGNCR
            | termios.PARMRK
        )
        raw[_OFLAG] &= ~termios.OPOST
        raw[_CFLAG] = raw[_CFLAG] & ~(termios.CSIZE | termios.PARENB) | termios.CS8
        raw[_LFLAG] &= ~(termios.ECHO | termios.ECHONL | termios.ICANON | termios.IEXTEN | termios.ISIG)
        raw[_CC][termios.VMIN], raw[_CC][termios.VTIME] = 1, 0
        termios.tcsetattr(self.fd, termios.TCSADRAIN, raw)

    @property
    def active(self) -> bool:
        """Whether the terminal is raw now."""
        return self._before is not None

    def leave(self) -> None:
        """Put the terminal back as it was. A terminal that is gone needs nothing."""
        if self._before is not None:
            before, self._before = self._before, None
            try:
                termios.tcsetattr(self.fd, termios.TCSADRAIN, before)
            except termios.error:
                return

    def suspend(self) -> None:
        """Stop this process as ^Z does, with the terminal as the user's shell expects it; go on where it was.

        Where no shell could continue it, the kernel lets this signal do nothing (an orphaned process group).
        """
        self.leave()
        os.kill(os.getpid(), signal.SIGTSTP)
        self.enter()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.leave()
