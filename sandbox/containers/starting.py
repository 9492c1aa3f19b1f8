"""Asking the starter (sandbox.containers.starter): one that stays, for a server, or one for each request."""

import os
import select
import socket
import subprocess
import sys
import threading
import time
from types import TracebackType
from typing import Protocol

from sandbox.channel import hear, say
from sandbox.containers import requests
from sandbox.containers.requests import Request
from sandbox.errors import HostError

_PATIENCE_S = 120.0
_END_S = 10.0


class Asked(Protocol):
    """Takes a request for a process with one thread."""

    def ask(self, word: str, request: Request) -> tuple[str, tuple[int, ...]] | None:
        """The answer with its descriptors; None when the process that was to give it died."""


class Starter:
    """A process that keeps containers, for as long as the ``with`` block lasts; the containers that it started end with
    it, and with this process however that ends. Threads may share it. When it dies, the next request starts another.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: socket.socket | None = None

    @property
    def pid(self) -> int:
        """Its process id, 0 when it does not run."""
        return self._process.pid if self._process else 0

    def __enter__(self) -> "Starter":
        with self._lock:
            self._spawn()
        return self

    def ask(self, word: str, request: Request) -> tuple[str, tuple[int, ...]] | None:
        """See Asked."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
        values, secret = requests.write(request)
        try:
            with ours:
                with theirs:
                    self._send(word, (values, theirs.fileno(), secret))
                return answer(ours)
        finally:
            os.close(values)
            os.close(secret)

    def _send(self, word: str, fds: tuple[int, ...]) -> None:
        with self._lock:
            if self._channel is not None:
                try:
                    say(self._channel, word, fds)
                except OSError:
                    self._bury()
                else:
                    return
            self._spawn()
            assert self._channel is not None
            say(self._channel, word, fds)

    def _spawn(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
        with theirs:
            self._process = subprocess.Popen(
                _command(theirs),
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                cwd="/",
                # A terminal's ^C is for whoever owns the terminal.
                start_new_session=True,
            )
        self._channel = ours

    def _bury(self) -> None:
        channel, process = self._channel, self._process
        self._channel, self._process = None, None
        if channel is not None:
            channel.close()
        if process is not None:
            try:
                process.wait(_END_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def close(self) -> None:
        """End it, and the containers that it started."""
        with self._lock:
            self._bury()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Alone:
    """Starts a process for each request. Containers that are started so outlive this process."""

    def ask(self, word: str, request: Request) -> tuple[str, tuple[int, ...]] | None:
        """See Asked."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
        sender, receiver = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
        values, secret = requests.write(request)
        try:
            with ours, sender:
                with theirs, receiver:
                    say(sender, word, (values, theirs.fileno(), secret))
                    subprocess.run(
                        [*_command(receiver), "once"],
                        pass_fds=(receiver.fileno(),),
                        stdin=subprocess.DEVNULL,
                        stdout=subprocess.DEVNULL,
                        stderr=subprocess.DEVNULL,
                        cwd="/",
                        check=True,
                    )
                    # What was not taken out of the channel must not keep the answer's other end open.
                sender.close()
                return answer(ours)
        finally:
            os.close(values)
            os.close(secret)


def _command(channel: socket.socket) -> list[str]:
    return [sys.executable, "-P", "-m", "sandbox.containers.starter", str(channel.fileno())]


def answer(channel: socket.socket) -> tuple[str, tuple[int, ...]] | None:
    """The next message on ``channel``, None at its end. HostError when nothing comes for very long."""
    poll = select.poll()
    poll.register(channel, select.POLLIN)
    begun = time.monotonic()
    if not poll.poll(_PATIENCE_S * 1000):
        raise HostError(
            f"a container's process gave no answer for {time.monotonic() - begun:.0f} s",
            hint="the machine may be overloaded",
        )
    return hear(channel)
