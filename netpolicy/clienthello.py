"""The one thing that is read of a TLS connection: which server its first message asks for."""

from __future__ import annotations

from typing import NamedTuple

from netpolicy.errors import PeerError
from netpolicy.hosts import peer_name

MAX_HELLO = 65_536  # octets of the handshake message; post-quantum hellos have about 2,000
MAX_WIRE = 98_304  # octets of all records together, their headers included

ACCESS_DENIED = 49
INTERNAL_ERROR = 80

_HANDSHAKE = 22
_MAX_RECORD = 16_384  # RFC 8446 5.1
_CLIENT_HELLO = 1
_SERVER_NAME = 0


class ClientHello(NamedTuple):
    """`host` is the canonical server name, or None when the client named none."""

    host: str | None


class HelloReader:
    """Takes the bytes of a connection as they come; work is proportional to them, however they are split."""

    def __init__(self) -> None:
        self._wire = bytearray()  # what is not part of a whole record yet
        self._size = 0
        self._message = bytearray()

    def feed(self, data: bytes | bytearray | memoryview) -> ClientHello | None:
        """The greeting once it is whole, else None. Bytes after its last record are not looked at."""
        self._wire += data
        self._size += len(data)
        while (body := self._record()) is not None:
            self._message += body
            hello = _hello(self._message)
            if hello is not None:
                return hello
        if self._size >= MAX_WIRE:
            raise PeerError(f"the TLS greeting exceeds {MAX_WIRE} bytes", "too-large")
        return None

    def _record(self) -> bytes | None:
        """The content of the next whole record."""
        wire = self._wire
        have = len(wire)
        if have and wire[0] != _HANDSHAKE:
            raise PeerError("the connection does not start with a TLS greeting", "not-tls")
        if have > 1 and wire[1] != 3:
            raise PeerError("the TLS record has an unknown version", "not-tls")
        if have < 5:
            return None
        length = int.from_bytes(wire[3:5], "big")
        if not 0 < length <= _MAX_RECORD:
            raise PeerError(f"a TLS record of {length} bytes is not permitted in a greeting")
        if have < 5 + length:
            return None
        body = bytes(wire[5 : 5 + length])
        # Cheap however often: CPython moves the start of a bytearray, not what follows.
        del wire[: 5 + length]
        return body


def parse(data: bytes) -> ClientHello | None:
    """The greeting at the start of `data`, None when more bytes are needed, PeerError when it is unusable."""
    return HelloReader().feed(data)


def alert(description: int) -> bytes:
    """A fatal TLS alert, as sent before any key exists."""
    return bytes((21, 3, 3, 0, 2, 2, description))


class _Fields:
    """A bounds-checked walk over one structure."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, count: int) -> bytes:
        end = self._at + count
        if end > len(self._data):
            raise PeerError("a length in the TLS greeting points past its end")
        part = self._data[self._at : end]
        self._at = end
        return part

    def number(self, octets: int) -> int:
        return int.from_bytes(self.take(octets), "big")

    def vector(self, octets: int) -> bytes:
        return self.take(self.number(octets))

    def more(self) -> bool:
        return self._at < len(self._data)

    def end(self) -> None:
        if self.more():
            raise PeerError("the TLS greeting has bytes that belong to nothing")


def _hello(message: bytearray) -> ClientHello | None:
    if message[0] != _CLIENT_HELLO:
        raise PeerError("the first TLS message is no client greeting", "not-tls")
    if len(message) < 4:
        return None
    length = int.from_bytes(message[1:4], "big")
    if length > MAX_HELLO:
        raise PeerError(f"the TLS greeting exceeds {MAX_HELLO} bytes", "too-large")
    if len(message) < 4 + length:
        return None
    fields = _Fields(bytes(message))
    fields.take(1)
    body = _Fields(fields.vector(3))
    fields.end()
    if body.number(1) != 3:
        raise PeerError("the TLS greeting has an unknown version", "not-tls")
    body.take(1 + 32)
    if len(body.vector(1)) > 32:
        raise PeerError("the session id of the TLS greeting is too long")
    suites = body.vector(2)
    if len(suites) < 2 or len(suites) % 2:
        raise PeerError("the cipher suites of the TLS greeting are malformed")
    if 0 not in body.vector(1):
        raise PeerError("the compression methods of the TLS greeting are malformed")
    # RFC 5246 7.4.1.2 lets a client leave out the extensions altogether.
    extensions = _Fields(body.vector(2) if body.more() else b"")
    body.end()
    return ClientHello(_server_name(extensions))


def _server_name(extensions: _Fields) -> str | None:
    """RFC 6066 section 3: at most one name of each type, and one type has ever been defined."""
    host = None
    seen = set()
    while extensions.more():
        kind = extensions.number(2)
        content = extensions.vector(2)
        if kind in seen:
            raise PeerError("an extension of the TLS greeting is repeated", "repeated")
        seen.add(kind)
        if kind != _SERVER_NAME:
            continue
        field = _Fields(content)
        names = _Fields(field.vector(2))
        field.end()
        if names.number(1) != 0:
            raise PeerError("the server name in the TLS greeting is of an unknown type", "bad-name")
        host = peer_name(names.vector(2), "the server name in the TLS greeting")
        if names.more():
            raise PeerError("the TLS greeting names several servers", "repeated")
    return host
