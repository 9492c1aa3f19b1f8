"""Which requests of an HTTP connection may go out, and how their host is reached."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple, Protocol

import h11

from netpolicy.blocklist import Block
from netpolicy.errors import PeerError
from netpolicy.httprules import Forward, read_request
from netpolicy.policy import Request, Rule, Verdict, decide
from netpolicy.reach import Reach, Unreachable
from netpolicy.upstream import End
from netpolicy.wall import Wall

if TYPE_CHECKING:
    from netpolicy.tunnel import Tunnel

Done = Callable[[End | Unreachable], None]


class Passage(NamedTuple):
    """A request that may go out, as it goes out. Those with one `place` may share a connection."""

    forward: Forward
    rule: Rule | Block | None
    place: object


class Refused(NamedTuple):
    """A request that may not. `host` is None when it is not certain."""

    host: str | None
    verdict: Verdict


class Attempt(Protocol):
    """A connection that is being made."""

    def cancel(self) -> None: ...


class Outlet(Protocol):
    """`protocol` as the record calls it, and the port that the session's program connected to."""

    @property
    def protocol(self) -> str: ...
    @property
    def port(self) -> int: ...
    def judge(self, request: h11.Request) -> Passage | Refused: ...
    def reach(self, passage: Passage, done: Done) -> Attempt: ...


class Plain:
    """Plain HTTP: each request is for the host that it names, if the policy allows that."""

    protocol = "http"

    def __init__(self, wall: Wall, port: int) -> None:
        self._wall = wall
        self.port = port

    def judge(self, request: h11.Request) -> Passage | Refused:
        try:
            forward = read_request(
                request.method, request.target, request.http_version, list(request.headers), self.port
            )
        except PeerError as error:
            return Refused(None, Verdict(False, str(error), None, "", error.code))
        verdict = decide(self._wall.policy, Request("http", forward.host, self.port))
        if not verdict.allow:
            return Refused(forward.host, verdict)
        return Passage(self._wall.rewritten(forward, self.port), verdict.rule, forward.host)

    def reach(self, passage: Passage, done: Done) -> Reach | Tunnel:
        def reached(result: socket.socket | Unreachable) -> None:
            done(result if isinstance(result, Unreachable) else End(result, self._wall.buffer))

        return self._wall.reach(passage.forward.host, self.port, reached, plain=True)
