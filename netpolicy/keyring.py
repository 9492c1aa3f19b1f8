"""The credentials that a running wall holds, and the line of words by which they are replaced."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import TYPE_CHECKING

from netpolicy.reactor import READ, Reactor

if TYPE_CHECKING:
    from ssl import SSLContext

    from netpolicy.credentials import Credential


class Keyring:
    """What is attached to hosts now. `roots`: the authorities (PEM) that vouch for hosts."""

    def __init__(self, credentials: Sequence[Credential] = (), roots: bytes = b"") -> None:
        self.credentials = tuple(credentials)
        self._roots = roots
        self._contexts: dict[bytes, SSLContext] = {}

    def replace(self, credentials: Sequence[Credential], roots: bytes) -> None:
        """Of requests that are not judged yet, none gets what is gone."""
        self.credentials = tuple(credentials)
        self._roots = roots
        self._contexts.clear()

    def covers(self, host: str, port: int) -> bool:
        """Whether any of them is for this host and port, whose TLS the wall then ends itself."""
        return any(each.host == host and each.port == port for each in self.credentials)

    def names(self, host: str) -> bool:
        return any(each.host == host for each in self.credentials)

    def context(self, authorities: bytes = b"") -> SSLContext:
        """The TLS side towards a host: it has to prove its name to these authorities, else to the host's own."""
        context = self._contexts.get(authorities)
        if context is None:
            context = self._contexts[authorities] = _verifying(authorities or self._roots)
        return context


def _verifying(authorities: bytes) -> SSLContext:
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # Python's default takes a connection that breaks off for one that ended.
    context.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF
    context.set_alpn_protocols(["http/1.1"])
    # Without any authority, or without one that can be read, no certificate is accepted.
    text = authorities.decode("ascii", "ignore")
    if "BEGIN" in text:
        try:
            context.load_verify_locations(cadata=text)
        except ssl.SSLError:
            return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    return context


class Listening:
    """Takes new credentials from a socket, a line each time, and says "ok" once they hold."""

    def __init__(self, reactor: Reactor, words: socket.socket, keyring: Keyring) -> None:
        self._reactor = reactor
        self._words = words
        self._keyring = keyring
        self._said = bytearray()
        words.setblocking(False)
        reactor.watch(words.fileno(), READ, self._hear)

    def _hear(self, _event: int) -> None:
        try:
            data = self._words.recv(262_144)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.close()
            return
        self._said += data
        while b"\n" in self._said:
            line, _, rest = bytes(self._said).partition(b"\n")
            self._said = bytearray(rest)
            from netpolicy.credentials import decode

            self._keyring.replace(*decode(line))
            self._words.send(b"ok\n")

    def close(self) -> None:
        self._reactor.forget(self._words.fileno())
