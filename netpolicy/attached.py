"""Hosts that the user attached a credential to: the wall ends the client's TLS, and begins its own to the host.

No other allowed host is treated so.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable

import h11

from netpolicy import credentials
from netpolicy.credentials import Credential, Remote
from netpolicy.errors import PeerError
from netpolicy.exchange import HttpConnection
from netpolicy.httprules import read_request
from netpolicy.outlet import Attempt, Done, Passage, Refused
from netpolicy.policy import Verdict
from netpolicy.reach import Unreachable
from netpolicy.secured import Handshake, SecuredEnd, code
from netpolicy.upstream import End
from netpolicy.wall import Farewell, Refusals, Wall


class Attached:
    """The requests of a connection to a host with credentials: each gets the one that it may have, or none."""

    protocol = "https"

    def __init__(self, wall: Wall, host: str, port: int) -> None:
        self._wall = wall
        self._host = host
        self.port = port

    def judge(self, request: h11.Request) -> Passage | Refused:
        wall, host, port = self._wall, self._host, self.port
        try:
            forward = read_request(
                request.method, request.target, request.http_version, list(request.headers), port, True
            )
            if forward.host != host:
                raise PeerError("the request names another host than the TLS greeting did", "host-mismatch")
        except PeerError as error:
            return Refused(host, Verdict(False, str(error), None, "", error.code))
        held = wall.keyring.credentials
        grant = credentials.judge(
            wall.policy, held, host, port, request.method, request.target, list(request.headers)
        )
        if not grant.verdict.allow:
            return Refused(host, grant.verdict)
        # A host may remember by the connection who asked: none serves requests with and without a credential.
        place = (host, port, grant.credential)
        return Passage(credentials.with_credential(forward, grant), grant.verdict.rule, place)

    def reach(self, passage: Passage, done: Done) -> Attempt:
        credential = passage.place[2] if isinstance(passage.place, tuple) else None
        remote = credential.remote if isinstance(credential, Credential) else None
        return _Reaching(self._wall, self._host, self.port, remote, done)


class _Reaching:
    """A connection to the host, or to its remote, and the proof that it is the one."""

    def __init__(self, wall: Wall, host: str, port: int, remote: Remote | None, done: Done) -> None:
        self._wall = wall
        self._host = host
        self._remote = remote
        self._done = done
        self._end: SecuredEnd | None = None
        self._attempt: Attempt
        if remote is None:
            self._attempt = wall.reach(host, port, self._reached)
        else:
            self._attempt = wall.reach_named(remote.host, remote.port, self._reached)

    def cancel(self) -> None:
        self._attempt.cancel()
        if self._end is not None:
            self._end.drop()
            self._end.socket.close()

    def _reached(self, result: socket.socket | Unreachable) -> None:
        wall, remote = self._wall, self._remote
        if isinstance(result, Unreachable):
            self._done(result)
        elif remote is not None and remote.scheme == "http":
            self._done(End(result, wall.buffer))
        else:
            context = wall.keyring.context(remote.ca if remote is not None else b"")
            server = self._host if remote is None else remote.host
            self._end = SecuredEnd(result, wall.buffer, context, server)
            self._attempt = Handshake(wall, self._end, wall.timeouts.connect, self._agreed)

    def _agreed(self, why: str) -> None:
        end, self._end = self._end, None
        assert end is not None
        if not why:
            self._done(end)
            return
        end.drop()
        end.socket.close()
        self._done(Unreachable("failed", f"{self._host}: {why}", code(why)))


class Attachment:
    """One client's connection to a host with credentials, from its greeting, which was read already, to its end.

    ``context`` came from ``refusals``, which are told of the end. ``closed`` is called once nothing is left of it.
    """

    def __init__(
        self,
        wall: Wall,
        refusals: Refusals,
        client: socket.socket,
        context: ssl.SSLContext,
        first: bytes,
        host: str,
        port: int,
        closed: Callable[[], None],
    ) -> None:
        self._wall = wall
        self._refusals = refusals
        self._host = host
        self._port = port
        self._closed = closed
        self._started = wall.reactor.now
        self._http: HttpConnection | None = None
        self._farewell: Farewell | None = None
        self._given_back = False
        self._end = SecuredEnd(client, wall.buffer, context, first=first)
        self._handshake = Handshake(wall, self._end, wall.timeouts.hello, self._agreed)

    @property
    def unsent(self) -> bool:
        return self._http is not None and self._http.unsent

    @property
    def asked(self) -> tuple[str, str, int]:
        return "https", self._host, self._port

    def finish(self) -> None:
        """End now, and record what was under way."""
        if self._http is not None:
            self._http.finish()
        elif self._farewell is not None:
            self._farewell.close()
        else:
            self._handshake.cancel()
            self._end.drop()
            self._end.socket.close()
            self._gone()

    def abandon(self) -> None:
        """Cut everything, in whatever state it is."""
        if self._http is not None:
            self._http.abandon()
        self._handshake.cancel()
        self._end.drop()
        self._end.socket.close()
        self._give_back()

    def _agreed(self, why: str) -> None:
        if not why:
            outlet = Attached(self._wall, self._host, self._port)
            self._http = HttpConnection(self._wall, self._end, outlet, lambda _: self._gone())
            self._http.start()
            return
        # Most likely it does not trust the installation's authority.
        text = f"the program ended its TLS handshake with the wall, which adds what is attached to this host ({why})"
        self._wall.ended(
            "https", self._host, self._port, "failed", text, "handshake", None, 0, 0, self._started
        )
        self._end.drop()
        self._farewell = Farewell(self._wall, self._end.socket, b"", self._gone)

    def _gone(self) -> None:
        self._give_back()
        self._closed()

    def _give_back(self) -> None:
        if not self._given_back:
            self._given_back = True
            self._refusals.end()
