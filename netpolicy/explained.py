"""A refusal inside TLS: the handshake for a denied name, answered by the wall itself, and a 403 that says why."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable

import h11

from netpolicy.httprules import explanation, refusal
from netpolicy.policy import Verdict
from netpolicy.reactor import READ
from netpolicy.upstream import MAX_HEAD
from netpolicy.wall import Farewell, Refusals, Wall

_CHUNK = 16_384


class Explanation:
    """One denied connection from its greeting, which was read already, to its end.

    The client's first request is answered, whatever it asks; nothing is dialled. A client that does not trust the
    installation's authority ends the handshake itself. ``context`` came from ``refusals``, which are told of the end.
    ``closed`` is called once nothing is left of it.
    """

    def __init__(
        self,
        wall: Wall,
        refusals: Refusals,
        client: socket.socket,
        context: ssl.SSLContext,
        first: bytes,
        verdict: Verdict,
        closed: Callable[[], None],
    ) -> None:
        self._wall = wall
        self._refusals = refusals
        self._client = client
        self._verdict = verdict
        self._closed = closed
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._http = h11.Connection(h11.SERVER, MAX_HEAD)
        self._agreed = False
        self._farewell: Farewell | None = None
        # One limit for all of it: there is nothing here that may take long.
        self._timer = wall.reactor.after(wall.timeouts.hello, self.close)
        wall.reactor.watch(client.fileno(), READ, self._read)
        self._incoming.write(first)
        self._advance()

    def close(self) -> None:
        """End now."""
        if self._farewell is not None:
            self._farewell.close()
            return
        self._stop()
        self._client.close()
        self._closed()

    def _stop(self) -> None:
        self._refusals.end()
        self._timer.cancel()
        self._wall.reactor.forget(self._client.fileno())

    def _read(self, _event: int) -> None:
        try:
            data = self._client.recv(_CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.close()
            return
        self._incoming.write(data)
        self._advance()

    def _advance(self) -> None:
        try:
            if not self._agreed:
                self._tls.do_handshake()
                self._agreed = True
            request = self._request()
        except ssl.SSLWantReadError:
            self._flush()
            return
        except (ssl.SSLError, h11.RemoteProtocolError):
            # It does not trust this, or does not speak HTTP. An alert may be on its way out.
            self._leave()
            return
        if request is None:
            self._leave()
            return
        text = explanation(self._verdict.reason, self._verdict.hint)
        self._tls.write(refusal(403, self._verdict.code, text, with_body=request.method != b"HEAD"))
        try:
            self._tls.unwrap()
        except ssl.SSLError:
            # The client's own goodbye is not waited for.
            pass
        self._leave()

    def _request(self) -> h11.Request | None:
        """The first request's head; None when the client ended instead. SSLWantReadError until it is whole."""
        while True:
            event = self._http.next_event()
            if isinstance(event, h11.Request):
                return event
            if event is not h11.NEED_DATA:
                return None
            try:
                data = self._tls.read(_CHUNK)
            except ssl.SSLZeroReturnError:
                data = b""
            self._http.receive_data(data)

    def _flush(self) -> None:
        data = self._outgoing.read()
        try:
            if data and self._client.send(data) < len(data):
                # A handshake fits the empty send buffer of every client that reads.
                self.close()
        except OSError:
            self.close()

    def _leave(self) -> None:
        self._stop()
        self._farewell = Farewell(self._wall, self._client, self._outgoing.read(), self._closed)
