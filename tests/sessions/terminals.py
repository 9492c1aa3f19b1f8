"""A real pseudo-terminal with a program on it, and what a person does there."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tests.sessions.running import PATIENCE

_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b\][^\x07]*\x07|\x1b[=>]")


class Terminal:
    """The person's side. Made by `terminal`."""

    def __init__(self, rows: int, columns: int) -> None:
        self.master, self.slave = os.openpty()
        self.resize(rows, columns)
        self.seen = ""

    def resize(self, rows: int, columns: int) -> None:
        """As a window manager does it: who is in the foreground gets SIGWINCH."""
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def attributes(self) -> list[Any]:
        """How the terminal behaves now."""
        return termios.tcgetattr(self.slave)

    def start(
        self,
        command: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        streams: Mapping[str, Any] | None = None,
    ) -> subprocess.Popen[bytes]:
        """Start a program as the leader of the terminal's session; ``streams`` replaces stdin, stdout or stderr."""
        slave = self.slave

        def lead() -> None:
            fcntl.ioctl(slave, termios.TIOCSCTTY, 0)

        ends = {"stdin": slave, "stdout": slave, "stderr": slave, **(streams or {})}
        return subprocess.Popen(
            command,
            start_new_session=True,
            preexec_fn=lead,
            env={**os.environ, "TERM": "xterm-256color", **(env or {})},
            pass_fds=(slave,) if streams else (),
            **ends,
        )

    def type(self, text: str) -> None:
        """Type keys; \\x03 is ^C and \\x1a is ^Z."""
        os.write(self.master, text.encode())

    def until(self, text: str) -> str:
        """Read until ``text`` was shown, and return what came before it since the last call."""
        deadline = time.monotonic() + PATIENCE
        while text not in self.seen:
            left = deadline - time.monotonic()
            assert left > 0, f"{text!r} was not shown, but {self.seen!r}"
            if select.select([self.master], [], [], left)[0]:
                self.seen += _ESCAPES.sub("", os.read(self.master, 65536).decode(errors="replace"))
        before, _, self.seen = self.seen.partition(text)
        return before

    def rest(self) -> str:
        """What else was shown by now."""
        while select.select([self.master], [], [], 0)[0]:
            self.seen += os.read(self.master, 65536).decode(errors="replace")
        found, self.seen = self.seen, ""
        return found


@contextlib.contextmanager
def terminal(rows: int = 24, columns: int = 80) -> Iterator[Terminal]:
    """A terminal whose every process is gone afterwards."""
    made = Terminal(rows, columns)
    try:
        yield made
    finally:
        os.close(made.slave)
        os.close(made.master)


@contextlib.contextmanager
def shell_on(made: Terminal) -> Iterator[None]:
    """An interactive shell with job control, at its first prompt, which is ``outside> ``."""
    shell = ["bash", "--norc", "--noprofile", "-i"]
    with on_terminal(made, shell, env={"PS1": "outside> "}, end=signal.SIGKILL):
        made.until("outside> ")
        yield


@contextlib.contextmanager
def on_terminal(
    made: Terminal, command: Sequence[str], *, end: signal.Signals = signal.SIGHUP, **options: Any
) -> Iterator[subprocess.Popen[bytes]]:
    """A program on the terminal, which gets the signal ``end`` afterwards if it is still there."""
    running = made.start(command, **options)
    try:
        yield running
    finally:
        if running.poll() is None:
            running.send_signal(end)
            try:
                running.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                running.kill()
                running.wait()
                raise


def ended(running: subprocess.Popen[bytes]) -> int:
    """The exit code, when the program has ended."""
    return running.wait(PATIENCE)
