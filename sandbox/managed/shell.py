"""The agent toolset's ``bash``: a shell that lasts, so that directory and variables stay from command to command."""

import os
import re
import select
import shlex
import time
from collections.abc import Callable
from fcntl import ioctl
from struct import unpack
from termios import FIONREAD
from typing import NamedTuple

from sandbox.containers.collecting import Tail
from sandbox.containers.containers import Containers
from sandbox.containers.execution import Given, StoppedError, pipe

TIMEOUT_S = 120.0
LIMIT = 100 << 10
NO_OUTPUT = "(no output)"
TRUNCATED = "[output truncated]\n"
TERMINATED = "bash: bash session terminated; restart required"
INTERRUPTED = "bash: the command was interrupted"
_ANSI = re.compile(
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[PX^_][^\x1b]*\x1b\\|[ -/]*[0-~])"
)
_CHUNK = 65536
# How soon an interrupt that another process wrote down is noticed.
_LOOK_S = 0.05
_ENVIRONMENT = {"PS1": "", "PS2": "", "TERM": "dumb"}


class Said(NamedTuple):
    """What a command came to. ``interrupted``: it was, and its shell is gone."""

    text: str
    is_error: bool
    interrupted: bool = False


class Shell:
    """A bash in a container, reading commands from a pipe. Its standard error is ours: it tells when a command has
    ended. Commands have the output for both.

    Failures of the engine's when it can't be started.
    """

    def __init__(self, containers: Containers, container: str) -> None:
        self.ended = False
        self._fds: list[int] = []
        theirs: list[int] = []
        try:
            for ours in (1, 0, 0):
                ends = pipe()
                self._fds.append(ends[ours])
                theirs.append(ends[1 - ours])
            for fd in self._fds:
                os.set_blocking(fd, False)
            self._exec = containers.exec(
                container,
                ["/bin/bash", "--noprofile", "--norc"],
                environment=_ENVIRONMENT,
                given=Given(*theirs),
            )
        except BaseException:
            self._close_fds()
            raise
        finally:
            for fd in theirs:
                os.close(fd)
        self._input, self._output, self._control = self._fds

    def run(self, command: str, interrupted: Callable[[], bool], timeout_s: float | None = None) -> Said:
        """Run one command to its end. After a time limit, an interrupt or an ``exit``, the shell has ``ended``."""
        nonce = os.urandom(16).hex()
        quoted = shlex.quote(command.replace("\0", ""))
        line = f"eval {quoted} </dev/null 2>&1; builtin printf '\\n%s %d\\n' {nonce} $? >&2\n"
        answer = re.compile(rb"\n" + nonce.encode() + rb" (\d+)\n")
        kept = Tail(LIMIT)
        control = bytearray()
        left = memoryview(line.encode("utf-8", "surrogateescape"))
        limit_s = TIMEOUT_S if timeout_s is None else timeout_s
        deadline = time.monotonic() + limit_s
        poll = select.poll()
        poll.register(self._input, select.POLLOUT)
        for fd in (self._exec.fileno(), self._output, self._control):
            poll.register(fd, select.POLLIN)
        while True:
            ready = {fd for fd, _ in poll.poll(_LOOK_S * 1000)}
            if self._output in ready:
                self._read(self._output, kept.add)
            if self._control in ready:
                self._read(self._control, control.extend)
                found = answer.search(control)
                if found is not None:
                    self._drain(kept)
                    return _said(kept, int(found[1]))
                del control[:-256]
            if self._input in ready and left:
                left = self._feed(left)
                if not left:
                    poll.unregister(self._input)
            if self._exec.fileno() in ready and self._over():
                self._drain(kept)
                code = self._exec.ended.code if self._exec.ended is not None else 137
                self.close()
                return _said(kept, code, otherwise=TERMINATED)
            if interrupted():
                self.close()
                return Said(INTERRUPTED, True, interrupted=True)
            if time.monotonic() >= deadline:
                self.close()
                return Said(f"bash: bash command timed out after {limit_s:g}s", True)

    def _over(self) -> bool:
        try:
            return self._exec.poll() is not None
        except StoppedError:
            return True

    def _feed(self, left: memoryview) -> memoryview:
        try:
            return left[os.write(self._input, left[:_CHUNK]) :]
        except BlockingIOError:
            return left
        except BrokenPipeError:
            return left[:0]

    def _read(self, fd: int, take: Callable[[bytes], None]) -> None:
        try:
            take(os.read(fd, _CHUNK))
        except BlockingIOError:
            pass

    def _drain(self, kept: Tail) -> None:
        """What the command wrote is in the pipe by now. What it left in the background may go on writing."""
        count = unpack("i", ioctl(self._output, FIONREAD, b"\0" * 4))[0]
        while count > 0:
            data = os.read(self._output, min(count, _CHUNK))
            kept.add(data)
            count = count - len(data) if data else 0

    def close(self) -> None:
        """Kill it, with what it runs."""
        if self.ended:
            return
        self.ended = True
        self._exec.close()
        self._close_fds()

    def _close_fds(self) -> None:
        while self._fds:
            os.close(self._fds.pop())


def _said(kept: Tail, code: int, *, otherwise: str = "") -> Said:
    text = _ANSI.sub("", kept.take().decode(errors="replace")).rstrip("\n")
    if kept.omitted:
        text = TRUNCATED + text
    failed = code != 0
    return Said(text or (otherwise if failed else "") or NO_OUTPUT, failed)
