"""The sides of an HTTP exchange, and bytes that wait for a socket to take them."""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Iterable

import h11

from netpolicy.relay import Buffer

MAX_HEAD = 65_536  # octets of a request's or response's head
CHUNK = 262_144
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

    def take(self, most: int) -> memoryview:
        """The next octets, at most so many, to be sent by other means; there must be some."""
        first = self._parts[0]
        if len(first) <= most:
            self._parts.popleft()
        else:
            self._parts[0], first = first[most:], first[:most]
        self.size -= len(first)
        self._buffer.held -= len(first)
        return first

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


class End:
    """One side of an exchange: a connected socket, what waits to be sent on it, and how its bytes are wrapped."""

    __slots__ = ("_buffer", "ended", "out", "socket")

    def __init__(self, connection: socket.socket, buffer: Buffer) -> None:
        self.ended = False
        self.socket = connection
        self._buffer = buffer
        self.out = Outbox(buffer)

    def receive(self) -> bytes:
        """What came by now, nothing of it being left for later; then `ended` says whether that was the last.

        Empty at the end. BlockingIOError when nothing came, another OSError when the connection broke.
        """
        size = self.socket.recv_into(self._buffer.view, min(CHUNK, self._buffer.room))
        self.ended = not size
        return bytes(self._buffer.view[:size])

    @property
    def unsent(self) -> bool:
        return self.out.size > 0

    def flush(self) -> int:
        """Send what the socket takes; returns how much of what was put in `out` that was."""
        return self.out.flush(self.socket)

    def drop(self) -> None:
        """Give up what waits."""
        self.out.drop()

    def goodbye(self) -> bytes:
        """What has to be said before the end, after all that waited was sent."""
        return b""


class Upstream:
    """A connection to one place, and what was written to and read from it for the present request."""

    __slots__ = ("end", "http", "place", "received", "sent", "used")

    def __init__(self, place: object, end: End) -> None:
        self.place = place
        self.end = end
        self.http = h11.Connection(h11.CLIENT, MAX_HEAD)
        self.used = False
        self.sent = 0
        self.received = 0

    def begin(self, head: h11.Request) -> None:
        """Ask the next thing."""
        self.sent = self.received = 0
        self.put(head)

    def put(self, event: h11.Event) -> None:
        self.end.out.put(self.http.send_with_data_passthrough(event) or [])

    def receive(self) -> None:
        """Read what came; h11.RemoteProtocolError when it was to say nothing more."""
        data = self.end.receive()
        self.received += len(data)
        self.http.receive_data(data)
        if data and self.end.ended:
            self.http.receive_data(b"")

    def flush(self) -> bool:
        """Send what the socket takes; whether that was anything."""
        try:
            sent = self.end.flush()
        except OSError:
            # A host may answer and hang up before it has read all: its answer counts.
            self.end.drop()
            return False
        self.sent += sent
        return sent > 0

    def renew(self) -> bool:
        """After a response: whether a further request may be asked here."""
        http = self.http
        if http.our_state is not h11.DONE or http.their_state is not h11.DONE or self.end.unsent:
            return False
        http.start_next_cycle()
        self.used = True
        return True
