"""Answers the session's DNS queries, over datagrams and streams."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable

from netpolicy import dns
from netpolicy.reactor import READ, WRITE, Timer
from netpolicy.wall import Wall, hang_up

_BATCH = 64
_CONTROL_SPACE = 128
_MAX_QUEUED = 65_536
# The socket module has these names only from Python 3.12 on, or not at all.
_IP_PKTINFO = 8
_IPV6_PKTINFO = 50
_IPV6_FREEBIND = 78


def prepare_datagrams(listener: socket.socket) -> None:
    """Let an IPv6 socket answer from any address: the kernel takes only those of an interface otherwise."""
    if listener.family == socket.AF_INET6:
        listener.setsockopt(socket.IPPROTO_IPV6, _IPV6_FREEBIND, 1)


def serve_datagrams(wall: Wall, listener: socket.socket) -> None:
    """Answer what waits on the socket, at most a batch in one turn, each from the address that was asked."""
    for _ in range(_BATCH):
        try:
            query, control, _flags, sender = listener.recvmsg(4096, _CONTROL_SPACE)
        except OSError:
            return
        try:
            response = dns.answer(query, wall.names)
        except Exception as error:
            wall.broke("dns", "", 53, error)
            continue
        if response is None:
            continue
        try:
            listener.sendmsg([response], reply_control(control), 0, sender)
        except OSError:
            # A full buffer or an impossible sender loses a datagram, which DNS clients bear.
            continue


def reply_control(control: list[tuple[int, int, bytes]]) -> list[tuple[int, int, bytes]]:
    """Make the queried address the source. ip(7): only ipi_spec_dst counts on sending; ipv6(7): ipi6_addr."""
    for level, kind, data in control:
        if level == socket.IPPROTO_IP and kind == _IP_PKTINFO:
            return [(level, kind, struct.pack("=i4s4s", 0, data[4:8], bytes(4)))]
        if level == socket.IPPROTO_IPV6 and kind == _IPV6_PKTINFO:
            return [(level, kind, data[:16] + bytes(4))]
    return []


class DnsStream:
    """One DNS connection: messages with a two-octet length before each (RFC 1035 4.2.2)."""

    __slots__ = ("_client", "_closed", "_in", "_out", "_timer", "_wall")

    unsent = False

    def __init__(self, wall: Wall, client: socket.socket, closed: Callable[[DnsStream], None]) -> None:
        self._wall = wall
        self._client = client
        self._closed = closed
        self._in = bytearray()
        self._out = bytearray()
        self._timer: Timer | None = None

    def start(self) -> None:
        self._wall.reactor.watch(self._client.fileno(), READ, self._handle)
        self._restart_timer()

    def finish(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._wall.reactor.forget(self._client.fileno())
        self._client.close()
        self._closed(self)

    @property
    def asked(self) -> tuple[str, str, int]:
        """Protocol, host or what is known instead, and port."""
        return "dns", "", 53

    def abandon(self) -> None:
        """Cut it, in whatever state it is."""
        hang_up(self._client)

    def _handle(self, event: int) -> None:
        try:
            if event & ~WRITE and len(self._out) < _MAX_QUEUED:
                data = self._client.recv(16_384)
                if not data:
                    self.finish()
                    return
                self._in += data
                self._answer()
            if self._out:
                del self._out[: self._client.send(self._out)]
        except BlockingIOError:
            pass
        except OSError:
            self.finish()
            return
        reading = READ if len(self._out) < _MAX_QUEUED else 0
        self._wall.reactor.change(self._client.fileno(), reading | WRITE if self._out else reading)

    def _answer(self) -> None:
        while len(self._in) >= 2:
            end = 2 + int.from_bytes(self._in[:2], "big")
            if len(self._in) < end:
                return
            response = dns.answer(bytes(self._in[2:end]), self._wall.names)
            del self._in[:end]
            if response is not None:
                self._out += len(response).to_bytes(2, "big") + response
            self._restart_timer()

    def _restart_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._wall.reactor.after(self._wall.timeouts.hello, self.finish)
