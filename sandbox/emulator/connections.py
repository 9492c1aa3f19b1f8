"""Connections to the server: how much head a request may have, and which of the machine's users is at the other end."""

import asyncio
import socket
import struct
from functools import cached_property

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

LARGEST_HEAD = 128 << 10
Address = tuple[str, int | None]


class Connection(HttpToolsProtocol):
    """A connection whose requests carry its `Peer` as ``state["peer"]``."""

    _heads = 0
    _head = 0
    _in_head = True

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.app_state = {**self.app_state, "peer": Peer(self.client, self.server)}

    def data_received(self, data: bytes) -> None:
        heads = self._heads
        super().data_received(data)
        # The parser itself takes any amount, whoever sends it.
        if self._in_head and heads == self._heads:
            self._head += len(data)
            if self._head > LARGEST_HEAD and not self.transport.is_closing():
                self.send_400_response("The head of the request is too large.")

    def on_headers_complete(self) -> None:
        self._in_head = False
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._in_head, self._head = True, 0
        self._heads += 1
        super().on_message_complete()


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
