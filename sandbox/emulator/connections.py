"""Connections to the server: how many there may be, how long and how large a request's head may be, and which of the
machine's users is at the other end."""

import asyncio
import socket
import struct
from functools import cached_property

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

LARGEST_HEAD = 128 << 10
# What is beyond the limit is told so; what is beyond that, too, is not listened to.
_TOLD = 64
_LATE_S = 30.0
Address = tuple[str, int | None]


class Connection(HttpToolsProtocol):
    """A connection whose requests carry its `Peer` as ``state["peer"]``; and as ``state["crowd"]`` the number of
    connections that the server takes (uvicorn's ``limit_concurrency``), where this one is beyond it, else 0."""

    _heads = 0
    _head = 0
    _in_head = True
    _late: asyncio.TimerHandle | None = None
    _crowd = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        most, self.limit_concurrency = self.limit_concurrency, None
        there = len(self.connections)
        if most is not None and there > most:
            self._crowd = most
            if there > most + _TOLD:
                transport.abort()
                return
        self.app_state = {**self.app_state, "peer": Peer(self.client, self.server), "crowd": self._crowd}
        self._expect()

    def connection_lost(self, exc: Exception | None) -> None:
        self._came()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        heads = self._heads
        super().data_received(data)
        # The parser itself takes any amount, in any time, whoever sends it.
        if self._in_head and heads == self._heads:
            self._head += len(data)
            if self._head > LARGEST_HEAD and not self.transport.is_closing():
                self.send_400_response("The head of the request is too large.")
            elif self._late is None:
                self._expect()

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._came()
        super().on_headers_complete()
        if self._crowd:
            self.cycle.keep_alive = False

    def on_message_complete(self) -> None:
        self._in_head, self._head = True, 0
        self._heads += 1
        self._came()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not self._in_head:
            # Refused before its body was there. What is left of that has to come, or the client may not read why.
            self._expect()

    def _expect(self) -> None:
        """What comes next has to be whole before long."""
        self._came()
        if not self.transport.is_closing():
            self._late = self.loop.call_later(_LATE_S, self.transport.close)

    def _came(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None


class Peer:
    """The other end of a connection."""

    def __init__(self, address: Address | None, ours: Address | None) -> None:
        self._address = address
        self._ours = ours

    @cached_property
    def user(self) -> int | None:
        """The id of the user of this machine whose socket it is; None when that isn't certain."""
        if self._address is None or self._ours is None:
            return None
        try:
            return owner(self._address, self._ours)
        except OSError:
            return None


def owner(local: Address, remote: Address) -> int | None:
    """The user of this machine's TCP socket at ``local`` that is connected to ``remote`` (proc_pid_net(5)); None when
    there is none, or a program let go of it."""
    for name, shown in _tables(local, remote):
        with open(f"/proc/net/{name}", encoding="ascii") as table:
            for line in table:
                fields = line.split(maxsplit=10)
                # What nobody holds any more has no inode, and belongs to root whoever made it.
                if fields[1:3] == shown and fields[9] != "0":
                    return int(fields[7])
    return None


def _tables(local: Address, remote: Address) -> list[tuple[str, list[str]]]:
    if ":" in local[0]:
        return [("tcp6", [_shown(socket.AF_INET6, *each) for each in (local, remote)])]
    mapped = [(f"::ffff:{host}", port) for host, port in (local, remote)]
    # A program may speak IPv4 through a socket for both.
    return [
        ("tcp", [_shown(socket.AF_INET, *each) for each in (local, remote)]),
        ("tcp6", [_shown(socket.AF_INET6, *each) for each in mapped]),
    ]


def _shown(family: int, host: str, port: int | None) -> str:
    """An address as the kernel writes it there: words of 32 bits, each in the machine's own order."""
    packed = socket.inet_pton(family, host)
    words = struct.unpack(f"={len(packed) // 4}I", packed)
    return "".join(f"{word:08X}" for word in words) + f":{port or 0:04X}"
