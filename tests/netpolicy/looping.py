"""Drives a reactor from a test until something is true."""

from __future__ import annotations

import socket
from collections.abc import Callable
from time import monotonic

from netpolicy.reactor import Reactor


class Clock:
    """Monotonic time that a test puts forward, so that what comes with time need not be waited for."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return monotonic() + self.ahead


def until(reactor: Reactor, true: Callable[[], object], patience: float = 10.0) -> None:
    """Turn the loop until `true` is; a test that waits in vain fails."""
    end = monotonic() + patience
    while not true():
        assert monotonic() < end, "it never came true"
        reactor.turn(0.05)


def settle(reactor: Reactor) -> None:
    """Turn the loop until nothing more happens by itself."""
    while reactor.turn(0):
        pass


def connection() -> tuple[socket.socket, socket.socket]:
    """Two ends of a TCP connection over loopback."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        one = socket.create_connection(server.getsockname())
        other, _ = server.accept()
    return one, other
