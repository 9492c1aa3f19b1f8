"""UDP of an unrestricted session: each pair of ports has a socket of its own outside, while it is used."""

from __future__ import annotations

import socket
import struct
from time import time

from netpolicy import packets
from netpolicy.audit import Decision
from netpolicy.packets import Ends
from netpolicy.policy import Request, Rule, decide
from netpolicy.reach import refusal
from netpolicy.reactor import READ, Timer
from netpolicy.wall import Wall

MAX_FLOWS = 1_024
_BATCH = 64
_MAX_DATAGRAM = 65_535
_CONTROL_SPACE = 256
# The socket module lacks these names, or has them only from Python 3.12 on.
_IP_ORIGDSTADDR, _IPV6_ORIGDSTADDR = 20, 74


class _Flow:
    """From one port of the session to one port outside. `outer` is None when it was refused."""

    __slots__ = ("ends", "host", "outer", "received", "rule", "sent", "started", "used")

    def __init__(self, ends: Ends, host: str, now: float) -> None:
        self.ends = ends
        self.host = host
        self.outer: socket.socket | None = None
        self.rule: Rule | None = None
        self.sent = 0
        self.received = 0
        self.started = self.used = now


class Datagrams:
    """What a session's socket for every UDP port gets, in one address family.

    `raw` sends into the session. The flow that was quiet for longest makes room at MAX_FLOWS. A flow is recorded
    when it ends, a refusal at its first datagram.
    """

    unsent = False

    def __init__(self, wall: Wall, listener: socket.socket, raw: socket.socket) -> None:
        self._wall = wall
        self._listener = listener
        self._raw = raw
        self._flows: dict[Ends, _Flow] = {}
        self._sweep: Timer | None = None
        self._most = packets.MAX_PAYLOAD_V6 if listener.family == socket.AF_INET6 else packets.MAX_PAYLOAD_V4

    def start(self) -> None:
        self._wall.reactor.watch(self._listener.fileno(), READ, self._read)

    def finish(self) -> None:
        self._wall.reactor.forget(self._listener.fileno())
        if self._sweep is not None:
            self._sweep.cancel()
        for flow in list(self._flows.values()):
            self._end(flow, "the session ended")

    @property
    def asked(self) -> tuple[str, str, int]:
        return "udp", "", 0

    def abandon(self) -> None:
        """Cut every flow, in whatever state it is."""
        for flow in self._flows.values():
            if flow.outer is not None:
                flow.outer.close()
        self._flows.clear()

    def _read(self, _event: int) -> None:
        for _ in range(_BATCH):
            try:
                data, control, _flags, sender = self._listener.recvmsg(_MAX_DATAGRAM, _CONTROL_SPACE)
            except OSError:
                return
            target = _target(control)
            if target is not None:
                self._carry(Ends(sender[0].partition("%")[0], sender[1], *target), data)

    def _carry(self, ends: Ends, data: bytes) -> None:
        flow = self._flows.pop(ends, None)
        if flow is None:
            flow = self._open(ends)
        flow.used = self._wall.reactor.now
        self._flows[ends] = flow
        if flow.outer is None:
            self._refuse(ends)
            return
        try:
            flow.sent += flow.outer.send(data)
        except BlockingIOError:
            # A full buffer loses datagrams, here as anywhere.
            return
        except OSError:
            self._refuse(ends)

    def _open(self, ends: Ends) -> _Flow:
        wall = self._wall
        if len(self._flows) >= MAX_FLOWS:
            self._end(next(iter(self._flows.values())), "too many at once")
        # Records tell the name that the address was known by when it was first used.
        flow = _Flow(ends, wall.recent.name_of(ends.target) or ends.target, wall.reactor.now)
        verdict = decide(wall.policy, Request("udp", ends.target, ends.target_port))
        refused = refusal(wall.policy, ends.target, False, wall.own) if verdict.allow else verdict
        if refused is not None:
            wall.denied("udp", flow.host, ends.target_port, refused)
        else:
            assert verdict.rule is None or isinstance(verdict.rule, Rule)
            flow.rule = verdict.rule
            flow.outer = self._connect(ends, flow.host)
        if self._sweep is None:
            self._sweep = wall.reactor.after(wall.timeouts.datagrams, self._end_idle)
        return flow

    def _connect(self, ends: Ends, host: str) -> socket.socket | None:
        family = socket.AF_INET6 if ":" in ends.target else socket.AF_INET
        outer = None
        try:
            outer = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
            outer.connect((ends.target, ends.target_port))
        except OSError as error:
            if outer is not None:
                outer.close()
            reason = f"{ends.target} can't be sent to: {error.strerror}"
            self._wall.audit.record(
                Decision(time(), "udp", host, ends.target_port, "failed", reason, "connect")
            )
            return None
        self._wall.reactor.watch(outer.fileno(), READ, lambda _event: self._answer(ends))
        return outer

    def _answer(self, ends: Ends) -> None:
        flow = self._flows.get(ends)
        if flow is None or flow.outer is None:
            return
        for _ in range(_BATCH):
            try:
                data = flow.outer.recv(_MAX_DATAGRAM)
            except BlockingIOError:
                return
            except OSError:
                self._refuse(ends)
                return
            flow.used = self._wall.reactor.now
            flow.received += len(data)
            if len(data) <= self._most:
                self._send(ends, packets.answer(ends, data))

    def _refuse(self, ends: Ends) -> None:
        self._send(ends, packets.unreachable(ends))

    def _send(self, ends: Ends, packet: bytes) -> None:
        try:
            self._raw.sendto(packet, (ends.client, 0))
        except OSError:
            # The session's queue is full, or it flushed its routes: a datagram less.
            return

    def _end_idle(self) -> None:
        wall = self._wall
        limit = wall.reactor.now - wall.timeouts.datagrams
        for flow in [flow for flow in self._flows.values() if flow.used <= limit]:
            self._end(flow, "idle")
        self._sweep = None
        if self._flows:
            self._sweep = wall.reactor.after(wall.timeouts.datagrams / 4, self._end_idle)

    def _end(self, flow: _Flow, reason: str) -> None:
        self._flows.pop(flow.ends, None)
        if flow.outer is None:
            return
        wall = self._wall
        wall.reactor.forget(flow.outer.fileno())
        flow.outer.close()
        wall.ended(
            "udp",
            flow.host,
            flow.ends.target_port,
            "allowed",
            reason,
            "",
            flow.rule,
            flow.sent,
            flow.received,
            flow.started,
        )


def _target(control: list[tuple[int, int, bytes]]) -> tuple[str, int] | None:
    """Where a datagram was sent: struct sockaddr_in or sockaddr_in6."""
    for level, kind, data in control:
        if level == socket.IPPROTO_IP and kind == _IP_ORIGDSTADDR:
            return socket.inet_ntop(socket.AF_INET, data[4:8]), struct.unpack_from("!H", data, 2)[0]
        if level == socket.IPPROTO_IPV6 and kind == _IPV6_ORIGDSTADDR:
            return socket.inet_ntop(socket.AF_INET6, data[8:24]), struct.unpack_from("!H", data, 2)[0]
    return None
