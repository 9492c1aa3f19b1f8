"""The far side of a plain HTTP exchange, and bytes that wait for a socket to take them."""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Iterable

import h11

from netpolicy.relay import Buffer

MAX_HEAD = 65_536  # octets of a request's or response's head
_ENOUGH = 262_144  # octets waiting for a slow reader before its source is left unread


class Outbox:
    """Bytes for one socket that are not sent yet."""

    __slots__ = ("_buffer", "_parts", "size")

    def __init__(self, buffer: Buffer) -> None:
        self._buffer = buffer
        self._parts: deque[memoryview] = deque()
        self.size = 0

    def put(self, parts: Iterable[bytes | bytearray | memoryview]) -> None:
        for part in parts:
            if part:
                self._parts.append(memoryview(part))
                self.size += len(part)
                self._buffer.held += len(part)

    @property
    def full(self) -> bool:
        """Whether so much waits that its source is to be left unread."""
        return self.size >= min(_ENOUGH, self._buffer.room)

    def drop(self) -> None:
        """Give up what waits."""
        self._parts.clear()
        self._buffer.held -= self.size
        self.size = 0

    def flush(self, target: socket.socket) -> int:
        """Send what the socket takes; returns how much that was."""
        total = 0
        parts = self._parts
        while parts:
            try:
                sent = target.sendmsg([parts[at] for at in range(min(len(parts), 32))])
            except BlockingIOError:
                break
            total += sent
            while parts and sent >= len(parts[0]):
                sent -= len(parts.popleft())
            if sent:
                parts[0] = parts[0][sent:]
        self.size -= total
        self._buffer.held -= total
        return total


class Upstream:
    """A connection to one host, and what was written to and read from it for the present request."""

    __slots__ = ("host", "http", "out", "received", "sent", "socket", "used")

    def __init__(self, host: str, connection: socket.socket, buffer: Buffer) -> None:
        self.host = host
        self.socket = connection
        self.http = h11.Connection(h11.CLIENT, MAX_HEAD)
        self.out = Outbox(buffer)
        self.used = False
        self.sent = 0
        self.received = 0
