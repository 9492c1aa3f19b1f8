"""ClientHellos: real ones as OpenSSL writes them, and ones put together piece by piece."""

from __future__ import annotations

import ssl


def openssl_hello(name: str | None, alpn: tuple[str, ...] = ()) -> bytes:
    """The first flight of a real client."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    if alpn:
        context.set_alpn_protocols(list(alpn))
    out = ssl.MemoryBIO()
    client = context.wrap_bio(ssl.MemoryBIO(), out, server_hostname=name)
    try:
        client.do_handshake()
    except ssl.SSLWantReadError:
        pass
    return out.read()


def vector(octets: int, content: bytes) -> bytes:
    return len(content).to_bytes(octets, "big") + content


def extension(kind: int, content: bytes) -> bytes:
    return kind.to_bytes(2, "big") + vector(2, content)


def server_name(*names: bytes, kind: int = 0) -> bytes:
    entries = b"".join(bytes((kind,)) + vector(2, name) for name in names)
    return extension(0, vector(2, entries))


def hello(
    *extensions: bytes,
    version: bytes = b"\x03\x03",
    session: bytes = bytes(32),
    suites: bytes = b"\x13\x01\x13\x02",
    compression: bytes = b"\x00",
    after: bytes = b"",
    bare: bool = False,
) -> bytes:
    """A ClientHello message without its records. `bare`: without the extensions field."""
    body = version + bytes(32) + vector(1, session) + vector(2, suites) + vector(1, compression)
    if not bare:
        body += vector(2, b"".join(extensions))
    return b"\x01" + vector(3, body + after)


def records(message: bytes, size: int = 16_384, version: bytes = b"\x03\x01") -> bytes:
    """Put a message into records of at most `size` octets each."""
    parts = [message[at : at + size] for at in range(0, len(message), size)]
    return b"".join(b"\x16" + version + vector(2, part) for part in parts)
