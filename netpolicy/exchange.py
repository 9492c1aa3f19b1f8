"""HTTP: each request of a connection is judged on its own and written anew for the host it names."""

from __future__ import annotations

import socket
from collections.abc import Callable
from enum import Enum
from typing import Literal

import h11

from netpolicy.httprules import explanation, refusal, response_headers
from netpolicy.outlet import Attempt, Outlet, Passage, Refused
from netpolicy.policy import Verdict
from netpolicy.reach import Unreachable
from netpolicy.reactor import READ, WRITE
from netpolicy.relay import RESET, Share
from netpolicy.upstream import MAX_HEAD, End, Upstream
from netpolicy.wall import Farewell, Wall, hang_up

_STATUS = {"smuggling": 400, "malformed": 400, "host-header": 400, "bad-target": 400, "too-large": 431}
_REPEATABLE = (b"GET", b"HEAD")  # asking twice changes nothing (RFC 9110 9.2.1)


class Phase(Enum):
    WAITING = "for a request"
    REACHING = "its host"
    EXCHANGING = "request and response"
    LEAVING = "with last bytes to flush"
    GONE = "all closed"


class HttpConnection:
    """One client's connection; `outlet` judges its requests; `closed` is called once nothing is left of it.

    Both sides are parsed and written by h11, so what goes out is what was judged. One request is under way at
    a time; pipelined ones wait unread. A connection to the same host is used again.
    """

    def __init__(
        self, wall: Wall, client: End, outlet: Outlet, closed: Callable[[HttpConnection], None]
    ) -> None:
        self._wall = wall
        self._client = client
        self._outlet = outlet
        self._closed = closed
        self._http = h11.Connection(h11.SERVER, MAX_HEAD)
        self._phase = Phase.WAITING
        self._request: h11.Request | None = None
        self._passage: Passage | None = None
        self._reach: Attempt | None = None
        self._upstream: Upstream | None = None
        self._answered = False
        self._unread = Share(wall.buffer)
        self._farewell: Farewell | None = None
        self._started = wall.reactor.now
        self._deadline = wall.reactor.now + wall.timeouts.hello
        self._timer = wall.reactor.after(wall.timeouts.hello, self._check_deadline)

    def start(self) -> None:
        self._client.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._wall.reactor.watch(self._client.socket.fileno(), READ, self._on_client)
        # Inside TLS the first request may have come with the handshake's last bytes.
        self._on_client(READ)

    @property
    def unsent(self) -> bool:
        return self._upstream is not None and self._upstream.end.unsent

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
        return self._outlet.protocol, self._named(), self._outlet.port

    def _named(self) -> str:
        """The host of the present request, or what else is known of where it goes."""
        passage = self._passage
        return self._wall.destination(self._client.socket) if passage is None else passage.forward.host

    def abandon(self) -> None:
        """Cut everything, in whatever state it is."""
        if self._reach is not None:
            self._reach.cancel()
        self._unread.set(0)
        for end in (self._client, None if self._upstream is None else self._upstream.end):
            if end is not None:
                end.drop()
                hang_up(end.socket)

    # Events

    def _on_client(self, event: int) -> None:
        try:
            if self._client.unsent and event & ~READ:
                self._client.flush()
            if event & ~WRITE and self._reads_client():
                self._feed_client()
        except OSError:
            self._client_lost()
            return
        self._advance()

    def _feed_client(self) -> None:
        try:
            data = self._client.receive()
        except BlockingIOError:
            return
        self._touch()
        try:
            self._http.receive_data(data)
            if data and self._client.ended:
                self._http.receive_data(b"")
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
                upstream.receive()
                self._touch()
        except BlockingIOError:
            pass
        except (OSError, h11.RemoteProtocolError):
            self._upstream_lost("the connection was reset")
            return
        self._advance()

    def _reads_client(self) -> bool:
        if self._phase is Phase.WAITING:
            return not self._client.out.full
        upstream = self._upstream
        return (
            self._phase is Phase.EXCHANGING
            and upstream is not None
            and not upstream.end.out.full
            and self._http.their_state is h11.SEND_BODY
        )

    def _reads_upstream(self) -> bool:
        return self._phase is Phase.EXCHANGING and not self._client.out.full

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
                self._client.flush()
            except OSError:
                self._client_lost()
                return
            if self._upstream is not None and self._upstream.flush():
                self._touch()
        if self._phase is Phase.LEAVING and not self._client.unsent:
            self._leave()
            return
        if not self._outgrows_its_room():
            self._await()

    def _outgrows_its_room(self) -> bool:
        """Count what was read and not used yet as held, and refuse a head that a crowd leaves no room for."""
        upstream, out = self._upstream, self._client.out
        unread = len(self._http.trailing_data[0])
        answer = 0 if upstream is None else len(upstream.http.trailing_data[0])
        self._unread.set(unread + answer)
        room = self._wall.buffer.room
        if out.full or max(unread, answer) <= room:
            return False
        if self._phase is Phase.WAITING:
            reason = "the request's head is too large while so many others wait"
            self._deny(Refused(None, Verdict(False, reason, None, "", "too-large")))
            self._advance()
            return True
        if upstream is not None and answer > room and upstream.http.their_state is h11.SEND_RESPONSE:
            self._upstream_lost("the head of its answer is too large while so many others wait")
            return True
        return False

    def _step(self) -> bool:
        if self._phase is Phase.WAITING:
            return not self._client.out.full and self._take_request()
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
        found = self._outlet.judge(request)
        if isinstance(found, Refused):
            self._deny(found)
            return
        self._passage = found
        if self._upstream is not None and self._upstream.place == found.place:
            self._send_head()
        else:
            self._connect(found)

    def _connect(self, passage: Passage) -> None:
        self._drop_upstream()
        self._phase = Phase.REACHING
        self._reach = self._outlet.reach(passage, self._reached)

    def _reached(self, result: End | Unreachable) -> None:
        self._reach = None
        passage, outlet = self._passage, self._outlet
        assert passage is not None
        if isinstance(result, Unreachable):
            self._wall.unreachable(
                outlet.protocol, passage.forward.host, outlet.port, result, passage.rule, self._started
            )
            denied = result.kind == "denied"
            status = 403 if denied else 504 if result.code.endswith("timeout") else 502
            self._say_last(status, result.code, explanation(result.reason, result.hint))
        else:
            self._upstream = Upstream(passage.place, result)
            self._wall.reactor.watch(result.socket.fileno(), 0, self._on_upstream)
            self._send_head()
        self._advance()

    def _send_head(self) -> None:
        upstream, passage, request = self._upstream, self._passage, self._request
        assert upstream is not None and passage is not None and request is not None
        forward = passage.forward
        upstream.begin(h11.Request(method=request.method, target=forward.target, headers=forward.headers))
        self._phase = Phase.EXCHANGING
        self._touch()

    def _carry_request(self) -> bool:
        """Pass on one piece of the request's body, when there is one and room for it."""
        upstream = self._upstream
        if upstream is None or upstream.end.out.full or self._http.their_state is not h11.SEND_BODY:
            return False
        try:
            event = self._http.next_event()
        except h11.RemoteProtocolError:
            # The body broke off or is malformed: the host must not take it for a whole one.
            self._client_lost()
            return False
        if isinstance(event, h11.Data):
            upstream.put(h11.Data(data=event.data))
            return True
        if isinstance(event, h11.EndOfMessage):
            upstream.put(h11.EndOfMessage())
            return True
        return False

    def _carry_response(self) -> bool:
        upstream = self._upstream
        if upstream is None or self._client.out.full:
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

    def _send_client(self, event: h11.Event) -> None:
        self._client.out.put(self._http.send_with_data_passthrough(event) or [])

    def _complete(self) -> None:
        """The response is whole. Whatever can't serve a further request is closed."""
        upstream = self._upstream
        assert upstream is not None
        self._record("allowed", "", "")
        if not upstream.renew():
            self._drop_upstream()
        self._request = self._passage = None
        if self._http.our_state is h11.DONE and self._http.their_state is h11.DONE:
            self._http.start_next_cycle()
            self._phase = Phase.WAITING
            self._deadline = self._wall.reactor.now + self._wall.timeouts.keep_alive
        else:
            self._phase = Phase.LEAVING

    # Refusals and failures

    def _deny(self, refused: Refused) -> None:
        verdict = refused.verdict
        self._passage = None
        host = self._named() if refused.host is None else refused.host
        self._wall.denied(self._outlet.protocol, host, self._outlet.port, verdict)
        status = _STATUS.get(verdict.code, 403)
        self._say_last(status, verdict.code, explanation(verdict.reason, verdict.hint))

    def _refuse_bytes(self, error: h11.RemoteProtocolError) -> None:
        verdict = Verdict(False, "the request is malformed", None, "", "malformed")
        self._wall.denied(self._outlet.protocol, self._named(), self._outlet.port, verdict)
        status = error.error_status_hint if error.error_status_hint in (400, 431) else 400
        self._say_last(status, "malformed", "")

    def _say_last(self, status: int, code: str, text: str) -> None:
        head = self._request is not None and self._request.method == b"HEAD"
        self._client.out.put([refusal(status, code, text, with_body=not head)])
        self._request = None
        self._drop_upstream()
        self._phase = Phase.LEAVING

    def _upstream_lost(self, why: str, status: int = 502) -> None:
        upstream, passage, request = self._upstream, self._passage, self._request
        assert upstream is not None and passage is not None and request is not None
        if self._answered:
            # A response that broke off must not look whole.
            self._record("allowed", "the response broke off", "cut-short")
            self._close(reset=True)
        elif status == 502 and upstream.used and not upstream.received and request.method in _REPEATABLE:
            # RFC 9112 9.3.1: the host closed an idle connection just as this request came.
            self._connect(passage)
            self._await()
        else:
            said = f"{passage.forward.host}: {why}"
            self._record("failed", said, "upstream")
            self._say_last(status, "upstream", f"{said}.")
            self._advance()

    def _client_lost(self) -> None:
        if self._phase in (Phase.REACHING, Phase.EXCHANGING):
            self._record("allowed", "the client broke off", "cut-short")
        self._close(reset=True)

    def _record(self, outcome: Literal["allowed", "failed"], reason: str, code: str) -> None:
        upstream, passage, outlet = self._upstream, self._passage, self._outlet
        assert passage is not None
        sent, received = (upstream.sent, upstream.received) if upstream is not None else (0, 0)
        host, rule, started = passage.forward.host, passage.rule, self._started
        self._wall.ended(
            outlet.protocol, host, outlet.port, outcome, reason, code, rule, sent, received, started
        )

    # Waiting and ending

    def _await(self) -> None:
        change = self._wall.reactor.change
        reading = READ if self._reads_client() else 0
        client = self._client
        change(client.socket.fileno(), reading | WRITE if client.unsent else reading)
        upstream = self._upstream
        if upstream is None:
            return
        reading = READ if self._phase is not Phase.EXCHANGING or self._reads_upstream() else 0
        end = upstream.end
        change(end.socket.fileno(), reading | WRITE if end.unsent else reading)

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
            self._close(reset=self._client.unsent)

    def _leave(self) -> None:
        self._drop_upstream()
        self._timer.cancel()
        client = self._client
        self._wall.reactor.forget(client.socket.fileno())
        self._farewell = Farewell(self._wall, client.socket, client.goodbye(), self._gone)

    def _drop_upstream(self) -> None:
        upstream, self._upstream = self._upstream, None
        if upstream is not None:
            upstream.end.drop()
            self._wall.reactor.forget(upstream.end.socket.fileno())
            upstream.end.socket.close()

    def _close(self, reset: bool = False) -> None:
        if self._reach is not None:
            self._reach.cancel()
        self._drop_upstream()
        self._timer.cancel()
        client = self._client.socket
        self._wall.reactor.forget(client.fileno())
        if reset:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        client.close()
        self._gone()

    def _gone(self) -> None:
        self._client.drop()
        self._unread.set(0)
        self._phase = Phase.GONE
        self._closed(self)
