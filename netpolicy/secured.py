"""TLS that the wall ends itself, on either side of an exchange."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable

from netpolicy.reactor import READ, WRITE
from netpolicy.relay import Buffer
from netpolicy.upstream import CHUNK, End, Outbox
from netpolicy.wall import Wall

TOO_LONG = "the TLS handshake took too long"
_AT_ONCE = 65_536  # octets encrypted before the socket is asked to take them


_CERTIFICATE = "its certificate is not accepted: "


class SecuredEnd(End):
    """A side of an exchange inside TLS: as a client of `server` or, without one, as the server.

    `first`: what the other side said already. Nothing is received or sent until `agree` has returned True.
    """

    __slots__ = ("_incoming", "_outgoing", "_sealed", "_tls")

    def __init__(
        self,
        connection: socket.socket,
        buffer: Buffer,
        context: ssl.SSLContext,
        server: str | None = None,
        first: bytes = b"",
    ) -> None:
        super().__init__(connection, buffer)
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._sealed = Outbox(buffer)
        self._incoming.write(first)
        self._tls = context.wrap_bio(
            self._incoming, self._outgoing, server_side=server is None, server_hostname=server
        )

    def agree(self) -> bool:
        """Go on with the handshake; whether it is done. OSError, of which ssl.SSLError is one, when it failed."""
        self._read_socket()
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self._send_sealed()
            return False
        except ssl.SSLError:
            # The other side is told why, as far as it listens.
            self._send_sealed()
            raise
        self._send_sealed()
        return True

    @property
    def speaking(self) -> bool:
        """Whether what the handshake has to say waits for the socket."""
        return self._sealed.size > 0

    def receive(self) -> bytes:
        # More than a record's worth may be there already: it came with the handshake.
        data = self._open()
        if not data and not self.ended and self._read_socket():
            data = self._open()
        if not data and not self.ended:
            raise BlockingIOError
        return data

    def _read_socket(self) -> bool:
        """Take in what came; False when that is nothing."""
        view = self._buffer.view
        try:
            size = self.socket.recv_into(view, min(CHUNK, self._buffer.room))
        except BlockingIOError:
            return False
        if size:
            self._incoming.write(view[:size])
        else:
            self._incoming.write_eof()
        return True

    def _open(self) -> bytes:
        pieces = []
        while True:
            try:
                piece = self._tls.read(CHUNK)
            except ssl.SSLWantReadError:
                break
            except ssl.SSLZeroReturnError:
                piece = b""
            if not piece:
                self.ended = True
                break
            pieces.append(piece)
        self._seal()
        return b"".join(pieces)

    @property
    def unsent(self) -> bool:
        return self.out.size > 0 or self._sealed.size > 0

    def flush(self) -> int:
        total = 0
        self._send_sealed()
        while self.out.size and not self._sealed.size:
            total += self._tls.write(self.out.take(_AT_ONCE))
            self._send_sealed()
        return total

    def drop(self) -> None:
        super().drop()
        self._sealed.drop()

    def goodbye(self) -> bytes:
        try:
            self._tls.unwrap()
        except ssl.SSLError:
            # The other side's own goodbye is not waited for.
            pass
        return self._outgoing.read()

    def _seal(self) -> None:
        data = self._outgoing.read()
        if data:
            self._sealed.put([data])

    def _send_sealed(self) -> None:
        self._seal()
        self._sealed.flush(self.socket)


class Handshake:
    """Until both sides agree; `done` is called once, with why they don't or an empty text, unless cancelled.

    The socket is watched meanwhile, and left to whoever made this.
    """

    def __init__(self, wall: Wall, end: SecuredEnd, seconds: float, done: Callable[[str], None]) -> None:
        self._reactor = wall.reactor
        self._end = end
        self._done: Callable[[str], None] | None = done
        self._timer = wall.reactor.after(seconds, lambda: self._finish(TOO_LONG))
        wall.reactor.watch(end.socket.fileno(), READ, self._go_on)
        # What is there already is no event.
        self._first = wall.reactor.after(0, lambda: self._go_on(READ))

    def cancel(self) -> None:
        self._done = None
        self._stop()

    def _go_on(self, _event: int) -> None:
        if self._done is None:
            return
        try:
            agreed = self._end.agree()
        except OSError as error:
            self._finish(reason(error))
            return
        if agreed:
            self._finish("")
            return
        self._reactor.change(self._end.socket.fileno(), READ | WRITE if self._end.speaking else READ)

    def _finish(self, why: str) -> None:
        done, self._done = self._done, None
        self._stop()
        if done is not None:
            done(why)

    def _stop(self) -> None:
        self._timer.cancel()
        self._first.cancel()
        self._reactor.forget(self._end.socket.fileno())


def code(why: str) -> str:
    """The word for programs that goes with the reason of a failed handshake with a host."""
    if why.startswith(_CERTIFICATE):
        return "certificate"
    return "connect-timeout" if why == TOO_LONG else "tls"


def reason(error: OSError) -> str:
    """Why a handshake failed, in words that hold nothing of what was said in it."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"{_CERTIFICATE}{error.verify_message}"
    if isinstance(error, (ssl.SSLEOFError, ssl.SSLZeroReturnError)):
        return "the connection ended within the TLS handshake"
    if isinstance(error, ssl.SSLError):
        return f"the TLS handshake failed: {(error.reason or 'unknown').replace('_', ' ').lower()}"
    return error.strerror or "the connection was reset"
