"""DNS of an unrestricted session: each query is judged by its name and passed to the host's name servers."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from contextlib import suppress
from time import time

from netpolicy import dns
from netpolicy.audit import Decision
from netpolicy.dnsreply import read_reply
from netpolicy.errors import PeerError
from netpolicy.hosts import presentation
from netpolicy.nameserver import prepare_datagrams, reply_control
from netpolicy.ownership import has_route
from netpolicy.policy import Request, Verdict, decide
from netpolicy.reactor import READ, WRITE, Timer
from netpolicy.wall import Wall, hang_up

MAX_LOOKUPS = 256  # at once; further queries over datagrams are dropped, as a busy server does
_BATCH = 64
_CONTROL_SPACE = 128
_MAX_MESSAGE = 65_535
# Addresses of the public Internet, for whether the host has a way there. Nothing is sent to them.
_ANYWHERE = {dns.A: "192.0.2.1", dns.AAAA: "2000::1"}

Answered = Callable[[bytes | None], None]


def judge(wall: Wall, message: bytes) -> tuple[bytes | None, str]:
    """(answer, "") for a query that goes nowhere, else (None, the name that it asks for)."""
    try:
        query = dns.parse(message)
    except PeerError:
        return dns.answer(message, wall.names), ""
    name = presentation(query.labels)
    if dns.is_local(query) or wall.keyring.names(name):
        # What is attached to a name is added by that name, wherever it may be rewritten to.
        return dns.answer(message, wall.names), ""
    verdict = decide(wall.policy, Request("dns", name, 53))
    if not verdict.allow:
        wall.denied("dns", name, 53, verdict)
        return dns.refuse(query), ""
    if query.type in _ANYWHERE and _only_other(query.type):
        # Addresses of a family that the host does not have would be tried, and fail, first.
        return dns.nothing(query), ""
    return None, name


def _only_other(kind: int) -> bool:
    """Whether the host has a way out in the other address family alone."""
    other = dns.A if kind == dns.AAAA else dns.AAAA
    return not has_route(_ANYWHERE[kind]) and has_route(_ANYWHERE[other])


def judge_reply(wall: Wall, query: bytes, name: str, reply: bytes, started: float) -> bytes:
    """The reply, unless it leads through a blocked name; keeps what it teaches about addresses."""
    try:
        found = read_reply(reply)
    except PeerError as error:
        verdict = Verdict(False, str(error), None, "", error.code)
        wall.denied("dns", name, 53, verdict)
        return dns.refuse(dns.parse(query))
    for alias in found.names:
        verdict = decide(wall.policy, Request("dns", alias, 53))
        if not verdict.allow:
            wall.denied("dns", name, 53, verdict)
            return dns.refuse(dns.parse(query))
    wall.recent.learn(name, found.addresses)
    rule = decide(wall.policy, Request("dns", name, 53)).rule
    wall.ended("dns", name, 53, "allowed", "", "", rule, len(query), len(reply), started)
    return reply


class Lookup:
    """One query on its way to the host's name servers, one after the other; `answered` gets None when none does."""

    def __init__(self, wall: Wall, query: bytes, name: str, stream: bool, answered: Answered) -> None:
        self._wall = wall
        self._query = query
        self._name = name
        self._stream = stream
        self._answered = answered
        self._servers = list(wall.name_servers())
        self._started = wall.reactor.now
        self._socket: socket.socket | None = None
        self._timer: Timer | None = None
        self._out = b""
        self._in = bytearray()
        # Nobody who can't see the query shall be able to answer it.
        self._sent = os.urandom(2) + query[2:]

    def start(self) -> None:
        self._next()

    def cancel(self) -> None:
        self._drop()

    def _next(self) -> None:
        self._drop()
        while self._servers:
            address, port = self._servers.pop(0)
            kind = socket.SOCK_STREAM if self._stream else socket.SOCK_DGRAM
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            try:
                made = socket.socket(family, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
            except OSError:
                continue
            try:
                with suppress(BlockingIOError):
                    made.connect((address, port))
                if not self._stream:
                    made.send(self._sent)
            except OSError:
                made.close()
                continue
            self._out = len(self._sent).to_bytes(2, "big") + self._sent if self._stream else b""
            self._in.clear()
            self._socket = made
            self._wall.reactor.watch(made.fileno(), WRITE if self._stream else READ, self._handle)
            self._timer = self._wall.reactor.after(self._wall.timeouts.name_server, self._next)
            return
        self._fail()

    def _fail(self) -> None:
        reason = f"none of the host's name servers answered for {self._name}"
        self._wall.audit.record(Decision(time(), "dns", self._name, 53, "failed", reason, "resolve"))
        self._answered(None)

    def _handle(self, _event: int) -> None:
        if self._socket is None:
            return
        try:
            if self._out:
                self._out = self._out[self._socket.send(self._out) :]
                if not self._out:
                    self._wall.reactor.change(self._socket.fileno(), READ)
                return
            data = self._socket.recv(_MAX_MESSAGE)
        except BlockingIOError:
            return
        except OSError:
            self._next()
            return
        if self._stream:
            self._take_piece(data)
        elif self._answers(data):
            self._finish(data)

    def _take_piece(self, data: bytes) -> None:
        self._in += data
        end = 2 + int.from_bytes(self._in[:2], "big")
        if len(self._in) >= end > 2 and self._answers(bytes(self._in[2:end])):
            self._finish(bytes(self._in[2:end]))
        elif not data or len(self._in) >= end > 2:
            self._next()

    def _answers(self, reply: bytes) -> bool:
        """Whether it is the response to this query: its number, and the question word for word."""
        question = dns.parse(self._query).question
        return (
            reply[:2] == self._sent[:2]
            and len(reply) >= 12
            and bool(reply[2] & 0x80)
            and reply[12 : 12 + len(question)].lower() == question.lower()
        )

    def _finish(self, reply: bytes) -> None:
        self._drop()
        reply = self._query[:2] + reply[2:]
        self._answered(judge_reply(self._wall, self._query, self._name, reply, self._started))

    def _drop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._socket is not None:
            self._wall.reactor.forget(self._socket.fileno())
            self._socket.close()
            self._socket = None


class Datagrams:
    """Queries that come as datagrams."""

    unsent = False

    def __init__(self, wall: Wall, listener: socket.socket) -> None:
        self._wall = wall
        self._listener = listener
        self._lookups: set[Lookup] = set()

    @property
    def asked(self) -> tuple[str, str, int]:
        return "dns", "", 53

    def start(self) -> None:
        prepare_datagrams(self._listener)
        self._wall.reactor.watch(self._listener.fileno(), READ, self._read)

    def finish(self) -> None:
        self._wall.reactor.forget(self._listener.fileno())
        self.abandon()

    def abandon(self) -> None:
        for each in self._lookups:
            each.cancel()
        self._lookups.clear()

    def _read(self, _event: int) -> None:
        for _ in range(_BATCH):
            try:
                query, control, _flags, sender = self._listener.recvmsg(4096, _CONTROL_SPACE)
            except OSError:
                return
            self._take(query, reply_control(control), sender)

    def _take(self, query: bytes, control: list[tuple[int, int, bytes]], sender: tuple[str, int]) -> None:
        answer, name = judge(self._wall, query)
        if not name:
            self._say(answer, control, sender)
            return
        if len(self._lookups) >= MAX_LOOKUPS:
            return

        def answered(reply: bytes | None) -> None:
            self._lookups.discard(lookup)
            self._say(reply or dns.failure(dns.parse(query)), control, sender)

        lookup = Lookup(self._wall, query, name, False, answered)
        self._lookups.add(lookup)
        lookup.start()

    def _say(
        self, answer: bytes | None, control: list[tuple[int, int, bytes]], sender: tuple[str, int]
    ) -> None:
        if answer is not None:
            # A full buffer or an impossible sender loses a datagram, which DNS clients bear.
            with suppress(OSError):
                self._listener.sendmsg([answer], control, 0, sender)


class Stream:
    """One DNS connection, one query at a time (RFC 1035 4.2.2)."""

    unsent = False

    def __init__(self, wall: Wall, client: socket.socket, closed: Callable[[Stream], None]) -> None:
        self._wall = wall
        self._client = client
        self._closed = closed
        self._in = bytearray()
        self._out = bytearray()
        self._lookup: Lookup | None = None
        self._timer: Timer | None = None

    @property
    def asked(self) -> tuple[str, str, int]:
        return "dns", "", 53

    def start(self) -> None:
        self._wall.reactor.watch(self._client.fileno(), READ, self._handle)
        self._restart_timer()

    def finish(self) -> None:
        self._stop()
        self._client.close()
        self._closed(self)

    def abandon(self) -> None:
        self._stop()
        hang_up(self._client)

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._lookup is not None:
            self._lookup.cancel()
            self._lookup = None
        if self._client.fileno() >= 0:
            self._wall.reactor.forget(self._client.fileno())

    def _handle(self, event: int) -> None:
        try:
            if event & ~WRITE and self._lookup is None and not self._out:
                data = self._client.recv(16_384)
                if not data:
                    self.finish()
                    return
                self._in += data
                self._advance()
            if self._out:
                del self._out[: self._client.send(self._out)]
                if not self._out:
                    self._advance()
        except BlockingIOError:
            pass
        except OSError:
            self.finish()
            return
        if self._client.fileno() >= 0:
            self._await()

    def _await(self) -> None:
        # Whoever asks more than it reads waits.
        wanted = WRITE if self._out else 0 if self._lookup is not None else READ
        self._wall.reactor.change(self._client.fileno(), wanted)

    def _advance(self) -> None:
        while self._lookup is None and not self._out and len(self._in) >= 2:
            end = 2 + int.from_bytes(self._in[:2], "big")
            if len(self._in) < end:
                return
            query = bytes(self._in[2:end])
            del self._in[:end]
            self._restart_timer()
            answer, name = judge(self._wall, query)
            if name:
                self._look_up(query, name)
            elif answer is not None:
                self._out += len(answer).to_bytes(2, "big") + answer

    def _look_up(self, query: bytes, name: str) -> None:
        def answered(reply: bytes | None) -> None:
            self._lookup = None
            answer = reply or dns.failure(dns.parse(query))
            self._out += len(answer).to_bytes(2, "big") + answer
            self._await()

        self._lookup = Lookup(self._wall, query, name, True, answered)
        self._lookup.start()

    def _restart_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        limit = self._wall.timeouts.hello + 3 * self._wall.timeouts.name_server
        self._timer = self._wall.reactor.after(limit, self.finish)
