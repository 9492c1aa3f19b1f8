"""Connections that are relayed as they are: TLS by the name in its greeting, TCP by the name looked up."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

from netpolicy import clienthello
from netpolicy.blocklist import Block
from netpolicy.errors import PeerError
from netpolicy.policy import Request, Rule, Verdict, decide, opens_address
from netpolicy.reach import Reach, Unreachable
from netpolicy.reactor import READ, Timer
from netpolicy.relay import RESET, Relay
from netpolicy.wall import Farewell, Wall, hang_up

if TYPE_CHECKING:
    from netpolicy.attached import Attachment
    from netpolicy.explained import Explanation
    from netpolicy.tunnel import Tunnel

_CHUNK = 16_384


class Stream:
    """One client connection from its first byte to its end; `closed` is called once nothing is left of it.

    `protocol` "tls": nothing is dialled until the whole greeting was read and its name allowed. A denied name
    is told why inside TLS where the wall can do that; any other refusal is a TLS alert. "tcp": the name is the
    one whose address the client connected to; a refusal is a reset.
    """

    __slots__ = (
        "_attachment",
        "_client",
        "_closed",
        "_farewell",
        "_first",
        "_host",
        "_port",
        "_protocol",
        "_reach",
        "_reader",
        "_relay",
        "_rule",
        "_started",
        "_timer",
        "_wall",
    )

    def __init__(
        self,
        wall: Wall,
        client: socket.socket,
        port: int,
        protocol: Literal["tls", "tcp"],
        closed: Callable[[Stream], None],
    ) -> None:
        self._wall = wall
        self._client = client
        self._port = port
        self._protocol = protocol
        self._closed = closed
        self._host = ""
        self._rule: Rule | Block | None = None
        self._first = bytearray()
        self._reach: Reach | Tunnel | None = None
        self._farewell: Farewell | Explanation | None = None
        self._attachment: Attachment | None = None
        self._reader: clienthello.HelloReader | None = None
        self._relay: Relay | None = None
        self._timer: Timer | None = None
        self._started = wall.reactor.now

    def start(self) -> None:
        if self._protocol == "tcp":
            self._judge(self._wall.wanted(self._client))
            return
        self._reader = clienthello.HelloReader()
        self._timer = self._wall.reactor.after(self._wall.timeouts.hello, self._hello_expired)
        self._wall.reactor.watch(self._client.fileno(), READ, self._read_hello)
        self._read_hello(READ)

    @property
    def unsent(self) -> bool:
        """Whether the session has said something on an allowed connection that is not out yet."""
        if self._attachment is not None:
            return self._attachment.unsent
        return self._relay is not None and self._relay.unsent

    def finish(self) -> None:
        """End now, whatever the phase, and record what was decided."""
        if self._attachment is not None:
            self._attachment.finish()
            return
        if self._relay is not None:
            self._relay.close("the session ended")
            return
        if self._farewell is not None:
            self._farewell.close()
            return
        if self._reach is not None:
            self._reach.cancel()
            self._record("failed", "the session ended before the connection was made", "ended")
        self._drop()

    @property
    def asked(self) -> tuple[str, str, int]:
        """Protocol, host or what is known instead, and port."""
        if self._attachment is not None:
            return self._attachment.asked
        return self._protocol, self._host or self._wall.destination(self._client), self._port

    def abandon(self) -> None:
        """Cut everything, in whatever state it is."""
        if self._reach is not None:
            self._reach.cancel()
        if self._farewell is not None:
            self._farewell.close()
        if self._attachment is not None:
            self._attachment.abandon()
        hang_up(self._client)
        self._take_first()
        if self._relay is not None:
            self._relay.release()
            hang_up(self._relay.up.target)

    def _read_hello(self, _event: int) -> None:
        assert self._reader is not None
        try:
            data = self._client.recv(_CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            if self._first:
                self._refuse(PeerError("the connection ended within the TLS greeting", "cut-short"))
            else:
                # A probe that says nothing asks for nothing: there is no decision to record.
                self._drop()
            return
        self._first += data
        self._wall.buffer.held += len(data)
        try:
            if len(self._first) > self._wall.buffer.room:
                raise PeerError("the TLS greeting is too large while so many others wait", "too-large")
            hello = self._reader.feed(data)
        except PeerError as error:
            self._refuse(error)
            return
        if hello is not None:
            self._judge(hello.host)

    def _hello_expired(self) -> None:
        self._refuse(PeerError("the TLS greeting did not arrive in time", "hello-timeout"))

    def _judge(self, host: str | None) -> None:
        self._stop_reading()
        if host is None and self._protocol == "tls":
            address = self._wall.destination(self._client)
            host = address if opens_address(self._wall.policy, address, self._port) else None
        self._host = self._wall.destination(self._client) if host is None or self._protocol == "tcp" else host
        verdict = decide(self._wall.policy, Request(self._protocol, host, self._port))
        attached = (
            host is not None and self._protocol == "tls" and self._wall.keyring.covers(self._host, self._port)
        )
        if attached and verdict.code not in ("blocked", "no-network"):
            self._attach()
            return
        if not verdict.allow:
            self._deny(verdict)
            return
        assert host is not None
        self._rule = verdict.rule
        self._reach = self._wall.reach(host, self._port, self._reached)

    def _attach(self) -> None:
        """The user attached something to this host: its requests are read, and judged each."""
        refusals = self._wall.refusals
        context = refusals.begin(self._host) if refusals is not None else None
        if refusals is None or context is None:
            why = "there are too many" if refusals is not None else "the wall has no certificate authority"
            self._record("failed", f"what is attached to {self._host} can't be added: {why}", "attached")
            self._turn_away(clienthello.INTERNAL_ERROR)
            return
        from netpolicy.attached import Attachment

        first = self._take_first()
        self._attachment = Attachment(
            self._wall,
            refusals,
            self._client,
            context,
            first,
            self._host,
            self._port,
            lambda: self._closed(self),
        )

    def _refuse(self, error: PeerError) -> None:
        self._stop_reading()
        self._host = self._wall.destination(self._client)
        verdict = Verdict(False, str(error), None, "", error.code)
        self._wall.denied(self._protocol, self._host, self._port, verdict)
        self._turn_away(clienthello.ACCESS_DENIED)

    def _deny(self, verdict: Verdict) -> None:
        self._wall.denied(self._protocol, self._host, self._port, verdict)
        self._explain(verdict)

    def _explain(self, verdict: Verdict) -> None:
        refusals = self._wall.refusals if self._protocol == "tls" else None
        context = refusals.begin(self._host) if refusals is not None else None
        if refusals is None or context is None:
            self._turn_away(clienthello.ACCESS_DENIED)
            return
        from netpolicy.explained import Explanation

        first = self._take_first()
        self._farewell = Explanation(
            self._wall, refusals, self._client, context, first, verdict, lambda: self._closed(self)
        )

    def _take_first(self) -> bytes:
        """What the client said before it was judged; it counts no longer as held."""
        first, self._first = bytes(self._first), bytearray()
        self._wall.buffer.held -= len(first)
        return first

    def _turn_away(self, description: int) -> None:
        self._take_first()
        if self._protocol == "tls":
            last = clienthello.alert(description)
            self._farewell = Farewell(self._wall, self._client, last, lambda: self._closed(self))
        else:
            self._client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            self._drop()

    def _reached(self, result: socket.socket | Unreachable) -> None:
        self._reach = None
        if isinstance(result, Unreachable):
            self._wall.unreachable(self._protocol, self._host, self._port, result, self._rule, self._started)
            if result.kind == "denied":
                self._explain(Verdict(False, result.reason, None, result.hint, result.code))
            else:
                self._turn_away(clienthello.INTERNAL_ERROR)
            return
        wall = self._wall
        self._relay = Relay(
            wall.reactor,
            self._client,
            result,
            wall.buffer,
            wall.timeouts.idle,
            wall.timeouts.half_closed,
            self._relayed,
        )
        first = self._take_first()
        self._relay.start(first)

    def _relayed(self, relay: Relay, reason: str) -> None:
        self._record("allowed", reason, "", relay.up.count, relay.down.count)
        self._closed(self)

    def _record(
        self, outcome: Literal["allowed", "failed"], reason: str, code: str, sent: int = 0, received: int = 0
    ) -> None:
        self._wall.ended(
            self._protocol,
            self._host,
            self._port,
            outcome,
            reason,
            code,
            self._rule,
            sent,
            received,
            self._started,
        )

    def _stop_reading(self) -> None:
        self._reader = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._wall.reactor.forget(self._client.fileno())

    def _drop(self) -> None:
        self._stop_reading()
        self._take_first()
        self._client.close()
        self._closed(self)
