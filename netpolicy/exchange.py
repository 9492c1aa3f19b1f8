"""Plain HTTP: each request of a connection is judged on its own and written anew for the host it names."""

from __future__ import annotations

import socket
from collections.abc import Callable
from enum import Enum
from typing import Literal

import h11

from netpolicy.errors import PeerError
from netpolicy.httprules import Forward, explanation, read_request, refusal, response_headers
from netpolicy.policy import Request, Verdict, decide
from netpolicy.reach import Reach, Unreachable
from netpolicy.reactor import READ, WRITE
from netpolicy.relay import RESET
from netpolicy.tunnel import Tunnel
from netpolicy.upstream import MAX_HEAD, Outbox, Upstream
from netpolicy.wall import Farewell, Wall, hang_up

_CHUNK = 262_144
_REPEATABLE = (b"GET", b"HEAD")  # asking twice changes nothing (RFC 9110 9.2.1)


class Phase(Enum):
    WAITING = "for a request"
    REACHING = "its host"
    EXCHANGING = "request and response"
    LEAVING = "with last bytes to flush"
    GONE = "all closed"


class HttpConnection:
    """One client's connection; `closed` is called once nothing is left of it.

    Both sides are parsed and written by h11, so what goes out is what was judged. One request is under way at
    a time; pipelined ones wait unread. A connection to the same host is used again.
    """

    def __init__(
        self, wall: Wall, client: socket.socket, port: int, closed: Callable[[HttpConnection], None]
    ) -> None:
        self._wall = wall
        self._client = client
        self._port = port
        self._closed = closed
        self._http = h11.Connection(h11.SERVER, MAX_HEAD)
        self._out = Outbox(wall.buffer)
        self._phase = Phase.WAITING
        self._request: h11.Request | None = None
        self._forward: Forward | None = None
        self._verdict: Verdict | None = None
        self._reach: Reach | Tunnel | None = None
        self._upstream: Upstream | None = None
        self._answered = False
        self._farewell: Farewell | None = None
        self._started = wall.reactor.now
        self._deadline = wall.reactor.now + wall.timeouts.hello
        self._timer = wall.reactor.after(wall.timeouts.hello, self._check_deadline)

    def start(self) -> None:
        self._client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._wall.reactor.watch(self._client.fileno(), READ, self._on_client)

    @property
    def unsent(self) -> bool:
        return self._upstream is not None and self._upstream.out.size > 0

    def finish(self) -> None:
        if self._farewell is not None:
            self._farewell.close()
            return
        if self._phase in (Phase.REACHING, Phase.EXCHANGING):
            outcome: Literal["allowed", "failed"] = "allowed" if self._answered else "failed"
            self._record(outcome, "the session ended", "ended")
        self._close()

    @property
    def asked(self) -> tuple[str, str, int]:
        """Protocol, host or what is known instead, and port."""
        forward = self._forward
        return "http", self._wall.destination(self._client) if forward is None else forward.host, self._port

    def abandon(self) -> None:
        """Cut everything, in whatever state it is."""
        if self._reach is not None:
            self._reach.cancel()
        hang_up(self._client)
        self._out.drop()
        if self._upstream is not None:
            self._upstream.out.drop()
            hang_up(self._upstream.socket)

    # Events

    def _on_client(self, event: int) -> None:
        try:
            if self._out.size and event & ~READ:
                self._out.flush(self._client)
            if event & ~WRITE and self._reads_client():
                self._feed_client()
        except OSError:
            self._client_lost()
            return
        self._advance()

    def _feed_client(self) -> None:
        try:
            size = self._client.recv_into(self._wall.buffer.view, min(_CHUNK, self._wall.buffer.room))
        except BlockingIOError:
            return
        self._touch()
        try:
            self._http.receive_data(bytes(self._wall.buffer.view[:size]))
        except h11.RemoteProtocolError:
            # Bytes after the client said that it has no more to say.
            raise ConnectionResetError from None

    def _on_upstream(self, event: int) -> None:
        upstream = self._upstream
        if upstream is None:
            return
        if self._phase is not Phase.EXCHANGING:
            # An idle connection has nothing to say but that it ends.
            self._drop_upstream()
            return
        try:
            if event & ~WRITE and self._reads_upstream():
                size = upstream.socket.recv_into(self._wall.buffer.view, min(_CHUNK, self._wall.buffer.room))
                upstream.received += size
                self._touch()
                upstream.http.receive_data(bytes(self._wall.buffer.view[:size]))
        except BlockingIOError:
            pass
        except (OSError, h11.RemoteProtocolError):
            self._upstream_lost("the connection was reset")
            return
        self._advance()

    def _reads_client(self) -> bool:
        if self._phase is Phase.WAITING:
            return not self._out.full
        upstream = self._upstream
        return (
            self._phase is Phase.EXCHANGING
            and upstream is not None
            and not upstream.out.full
            and self._http.their_state is h11.SEND_BODY
        )

    def _reads_upstream(self) -> bool:
        return self._phase is Phase.EXCHANGING and not self._out.full

    # Progress

    def _advance(self) -> None:
        """Do all that can be done with what was read, then await what is missing."""
        moving = True
        while moving:
            moving = False
            while self._step():
                moving = True
            if self._phase is Phase.GONE or self._farewell is not None:
                return
            try:
                self._out.flush(self._client)
            except OSError:
                self._client_lost()
                return
            self._flush_upstream()
        if self._phase is Phase.LEAVING and not self._out.size:
            self._leave()
            return
        self._await()

    def _step(self) -> bool:
        if self._phase is Phase.WAITING:
            return not self._out.full and self._take_request()
        if self._phase is Phase.EXCHANGING:
            try:
                return self._carry_request() or self._carry_response()
            except h11.ProtocolError:
                self._upstream_lost("it sent a malformed response")
        return False

    def _take_request(self) -> bool:
        try:
            event = self._http.next_event()
        except h11.RemoteProtocolError as error:
            self._refuse_bytes(error)
            return True
        if isinstance(event, h11.ConnectionClosed):
            self._phase = Phase.LEAVING
            return True
        if not isinstance(event, h11.Request):
            return False
        self._request = event
        self._started = self._wall.reactor.now
        self._answered = False
        self._judge(event)
        return True

    def _judge(self, request: h11.Request) -> None:
        try:
            forward = read_request(
                request.method, request.target, request.http_version, list(request.headers), self._port
            )
        except PeerError as error:
            host = self._wall.destination(self._client)
            self._deny(host, Verdict(False, str(error), None, "", error.code))
            return
        verdict = decide(self._wall.policy, Request("http", forward.host, self._port))
        if not verdict.allow:
            self._deny(forward.host, verdict)
            return
        self._forward = forward = self._wall.rewritten(forward, self._port)
        self._verdict = verdict
        if self._upstream is not None and self._upstream.host == forward.host:
            self._send_head()
        else:
            self._connect(forward)

    def _connect(self, forward: Forward) -> None:
        self._drop_upstream()
        self._phase = Phase.REACHING
        self._reach = self._wall.reach(forward.host, self._port, self._reached, plain=True)

    def _reached(self, result: socket.socket | Unreachable) -> None:
        self._reach = None
        assert self._forward is not None and self._verdict is not None
        if isinstance(result, Unreachable):
            rule, started = self._verdict.rule, self._started
            self._wall.unreachable("http", self._forward.host, self._port, result, rule, started)
            denied = result.kind == "denied"
            status = 403 if denied else 504 if result.code.endswith("timeout") else 502
            self._say_last(status, result.code, explanation(result.reason, result.hint))
        else:
            self._upstream = Upstream(self._forward.host, result, self._wall.buffer)
            self._wall.reactor.watch(result.fileno(), 0, self._on_upstream)
            self._send_head()
        self._advance()

    def _send_head(self) -> None:
        upstream, forward, request = self._upstream, self._forward, self._request
        assert upstream is not None and forward is not None and request is not None
        upstream.sent = upstream.received = 0
        head = h11.Request(method=request.method, target=forward.target, headers=forward.headers)
        self._send_upstream(head)
        self._phase = Phase.EXCHANGING
        self._touch()

    def _send_upstream(self, event: h11.Event) -> None:
        assert self._upstream is not None
        self._upstream.out.put(self._upstream.http.send_with_data_passthrough(event) or [])

    def _carry_request(self) -> bool:
        """Pass on one piece of the request's body, when there is one and room for it."""
        upstream = self._upstream
        if upstream is None or upstream.out.full or self._http.their_state is not h11.SEND_BODY:
            return False
        try:
            event = self._http.next_event()
        except h11.RemoteProtocolError:
            # The body broke off or is malformed: the host must not take it for a whole one.
            self._client_lost()
            return False
        if isinstance(event, h11.Data):
            self._send_upstream(h11.Data(data=event.data))
            return True
        if isinstance(event, h11.EndOfMessage):
            self._send_upstream(h11.EndOfMessage())
            return True
        return False

    def _carry_response(self) -> bool:
        upstream = self._upstream
        if upstream is None or self._out.full:
            return False
        event = upstream.http.next_event()
        if isinstance(event, (h11.InformationalResponse, h11.Response)):
            if event.status_code == 101:
                raise h11.RemoteProtocolError("a change of protocol that nobody asked for")
            self._answered = isinstance(event, h11.Response)
            headers = response_headers(list(event.headers))
            self._send_client(
                type(event)(status_code=event.status_code, headers=headers, reason=event.reason)
            )
            return True
        if isinstance(event, h11.Data):
            self._send_client(h11.Data(data=event.data))
            return True
        if isinstance(event, h11.EndOfMessage):
            self._send_client(h11.EndOfMessage())
            self._complete()
            return True
        if isinstance(event, h11.ConnectionClosed):
            self._upstream_lost("it closed the connection without a response")
        return False

    def _flush_upstream(self) -> None:
        upstream = self._upstream
        if upstream is not None:
            try:
                sent = upstream.out.flush(upstream.socket)
            except OSError:
                # A host may answer and hang up before it has read all: its answer counts.
                upstream.out.drop()
                return
            if sent:
                upstream.sent += sent
                self._touch()

    def _send_client(self, event: h11.Event) -> None:
        self._out.put(self._http.send_with_data_passthrough(event) or [])

    def _complete(self) -> None:
        """The response is whole. Whatever can't serve a further request is closed."""
        upstream = self._upstream
        assert upstream is not None
        self._record("allowed", "", "")
        if (
            upstream.http.our_state is h11.DONE
            and upstream.http.their_state is h11.DONE
            and not upstream.out.size
        ):
            upstream.http.start_next_cycle()
            upstream.used = True
        else:
            self._drop_upstream()
        self._request = self._forward = self._verdict = None
        if self._http.our_state is h11.DONE and self._http.their_state is h11.DONE:
            self._http.start_next_cycle()
            self._phase = Phase.WAITING
            self._deadline = self._wall.reactor.now + self._wall.timeouts.keep_alive
        else:
            self._phase = Phase.LEAVING

    # Refusals and failures

    def _deny(self, host: str, verdict: Verdict) -> None:
        self._wall.denied("http", host, self._port, verdict)
        status = 400 if verdict.code in ("smuggling", "malformed", "host-header", "bad-target") else 403
        self._say_last(status, verdict.code, explanation(verdict.reason, verdict.hint))

    def _refuse_bytes(self, error: h11.RemoteProtocolError) -> None:
        self._wall.denied(
            "http",
            self._wall.destination(self._client),
            self._port,
            Verdict(False, "the request is malformed", None, "", "malformed"),
        )
        self._say_last(
            error.error_status_hint if error.error_status_hint in (400, 431) else 400, "malformed", ""
        )

    def _say_last(self, status: int, code: str, text: str) -> None:
        head = self._request is not None and self._request.method == b"HEAD"
        self._out.put([refusal(status, code, text, with_body=not head)])
        self._request = None
        self._drop_upstream()
        self._phase = Phase.LEAVING

    def _upstream_lost(self, why: str, status: int = 502) -> None:
        upstream, forward, request = self._upstream, self._forward, self._request
        assert upstream is not None and forward is not None and request is not None
        if self._answered:
            # A response that broke off must not look whole.
            self._record("allowed", "the response broke off", "cut-short")
            self._close(reset=True)
        elif status == 502 and upstream.used and not upstream.received and request.method in _REPEATABLE:
            # RFC 9112 9.3.1: the host closed an idle connection just as this request came.
            self._connect(forward)
            self._await()
        else:
            self._record("failed", f"{forward.host}: {why}", "upstream")
            self._say_last(status, "upstream", f"{forward.host}: {why}.")
            self._advance()

    def _client_lost(self) -> None:
        if self._phase in (Phase.REACHING, Phase.EXCHANGING):
            self._record("allowed", "the client broke off", "cut-short")
        self._close(reset=True)

    def _record(self, outcome: Literal["allowed", "failed"], reason: str, code: str) -> None:
        upstream, forward, verdict = self._upstream, self._forward, self._verdict
        assert forward is not None and verdict is not None
        sent, received = (upstream.sent, upstream.received) if upstream is not None else (0, 0)
        rule, started = verdict.rule, self._started
        self._wall.ended(
            "http", forward.host, self._port, outcome, reason, code, rule, sent, received, started
        )

    # Waiting and ending

    def _await(self) -> None:
        change = self._wall.reactor.change
        reading = READ if self._reads_client() else 0
        change(self._client.fileno(), reading | WRITE if self._out.size else reading)
        upstream = self._upstream
        if upstream is None:
            return
        reading = READ if self._phase is not Phase.EXCHANGING or self._reads_upstream() else 0
        change(upstream.socket.fileno(), reading | WRITE if upstream.out.size else reading)

    def _touch(self) -> None:
        """Something moved. A request's head has a fixed time, however it trickles."""
        if self._phase is Phase.EXCHANGING:
            self._deadline = self._wall.reactor.now + self._wall.timeouts.response

    def _check_deadline(self) -> None:
        left = self._deadline - self._wall.reactor.now
        if left > 0 or self._phase is Phase.REACHING:
            # The deadline also moves to earlier times, so look again before long.
            pause = min(max(left, 1.0), self._wall.timeouts.hello)
            self._timer = self._wall.reactor.after(pause, self._check_deadline)
        elif self._phase is Phase.EXCHANGING:
            self._upstream_lost("nothing moved for too long", 504)
        else:
            self._close(reset=self._out.size > 0)

    def _leave(self) -> None:
        self._drop_upstream()
        self._timer.cancel()
        self._wall.reactor.forget(self._client.fileno())
        self._farewell = Farewell(self._wall, self._client, b"", self._gone)

    def _drop_upstream(self) -> None:
        upstream, self._upstream = self._upstream, None
        if upstream is not None:
            upstream.out.drop()
            self._wall.reactor.forget(upstream.socket.fileno())
            upstream.socket.close()

    def _close(self, reset: bool = False) -> None:
        if self._reach is not None:
            self._reach.cancel()
        self._drop_upstream()
        self._timer.cancel()
        self._wall.reactor.forget(self._client.fileno())
        if reset:
            self._client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self._client.close()
        self._gone()

    def _gone(self) -> None:
        self._out.drop()
        self._phase = Phase.GONE
        self._closed(self)
