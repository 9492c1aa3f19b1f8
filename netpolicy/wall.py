"""What every connection of a session's proxy shares."""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import suppress
from time import time
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

from netpolicy.audit import Audit, Decision, denied
from netpolicy.blocklist import Block
from netpolicy.hostproxy import HostProxies, HostProxy, choose
from netpolicy.hosts import looks_like_address
from netpolicy.keyring import Keyring
from netpolicy.policy import Policy, Rule, Verdict, target_for
from netpolicy.reach import Reach, Unreachable
from netpolicy.reactor import READ, Reactor
from netpolicy.recent import NameServers, RecentNames
from netpolicy.relay import RESET, Buffer
from netpolicy.resolver import Resolver
from netpolicy.synthetic import SyntheticNames

if TYPE_CHECKING:
    from ssl import SSLContext

    from netpolicy.httprules import Forward
    from netpolicy.tunnel import Tunnel


class Timeouts(NamedTuple):
    """Seconds for each phase of a connection."""

    hello: float = 10.0  # until the TLS greeting or a request's head is whole
    resolve: float = 15.0
    connect: float = 15.0  # all addresses of a name together
    response: float = 300.0  # without a byte in either direction of an HTTP exchange
    keep_alive: float = 75.0  # between the requests of an HTTP connection
    idle: float = 3600.0  # a relayed connection without a byte in either direction
    half_closed: float = 300.0  # the same, after one side has said its last
    linger: float = 2.0  # for the client to take in a refusal
    datagrams: float = 60.0  # UDP between two ports without a datagram in either direction
    name_server: float = 4.0  # until one of the host's name servers has answered
    drain: float = 1.0  # for what a session has said to get out after its end


class Refusals(Protocol):
    """Where the TLS side of a denied name comes from; see netpolicy.certificates."""

    def begin(self, host: str) -> SSLContext | None: ...
    def end(self) -> None: ...


class Wall(NamedTuple):
    reactor: Reactor
    policy: Policy
    resolver: Resolver
    names: SyntheticNames
    audit: Audit
    timeouts: Timeouts
    own: frozenset[str]
    buffer: Buffer
    recent: RecentNames
    name_servers: NameServers
    keyring: Keyring
    refusals: Refusals | None = None
    host_proxies: HostProxies | None = None

    def reach(
        self, host: str, port: int, done: Callable[[socket.socket | Unreachable], None], plain: bool = False
    ) -> Reach | Tunnel:
        """Connect to a host that was allowed. `plain`: for plain HTTP, see `rewritten`."""
        proxy = self._host_proxy(host, port, plain)
        if proxy is not None:
            from netpolicy.tunnel import Tunnel

            return Tunnel(self, proxy, host, port, plain, done)
        return self.dial(host, port, done)

    def reach_named(
        self, host: str, port: int, done: Callable[[socket.socket | Unreachable], None]
    ) -> Reach | Tunnel:
        """Connect to where the user said that something is. No address of it is refused."""
        proxy = None
        if self.host_proxies is not None and not looks_like_address(host) and host != "localhost":
            proxy = choose(self.host_proxies, host, port, False)
        if proxy is not None:
            from netpolicy.tunnel import Tunnel

            return Tunnel(self, proxy, host, port, False, done)
        return self.dial(host, port, done, trusted=True)

    def dial(
        self,
        host: str,
        port: int,
        done: Callable[[socket.socket | Unreachable], None],
        trusted: bool = False,
    ) -> Reach:
        """Connect directly. `trusted`: the host's own configuration names it, and no address of it is refused."""
        return Reach(
            self.reactor,
            self.policy,
            self.resolver,
            self.own,
            self.timeouts.resolve,
            self.timeouts.connect,
            host,
            port,
            done,
            trusted,
            # Sessions that look names up choose by what connects, and here everything connects at once.
            (lambda: self.recent.siblings(host)) if looks_like_address(host) and not trusted else None,
        )

    def rewritten(self, forward: Forward, port: int) -> Forward:
        """A request as it goes out: in absolute form where the host's proxy takes it."""
        proxy = self._host_proxy(forward.host, port, plain=True)
        if not isinstance(proxy, HostProxy):
            return forward
        from netpolicy.httprules import through_proxy

        return through_proxy(forward, port, proxy.authorization)

    def _host_proxy(self, host: str, port: int, plain: bool) -> HostProxy | str | None:
        if self.host_proxies is None or target_for(self.policy, host, port) is not None:
            return None
        chosen = choose(self.host_proxies, host, port, plain)
        known = self.recent.name_of(host)
        # NO_PROXY may name an address' network or the name that led to it.
        return chosen if known is None or chosen is None else choose(self.host_proxies, known, port, plain)

    def wanted(self, client: socket.socket) -> str | None:
        """What the policy judges when no greeting names a host.

        Where sessions look names up, it is the address itself, but for a name that the wall answered for."""
        found = self.looked_up(client)
        return _address(client) if found is None and self.policy.mode == "unrestricted" else found

    def looked_up(self, client: socket.socket) -> str | None:
        """The name whose synthetic address the client connected to."""
        return self.names.name_at(socket.inet_pton(client.family, _address(client)))

    def destination(self, client: socket.socket) -> str:
        """What is known of a client's target when it names none: the looked-up name or the address."""
        address = _address(client)
        return self.looked_up(client) or self.recent.name_of(address) or address

    def denied(self, protocol: str, host: str, port: int, verdict: Verdict) -> None:
        self.audit.record(denied(time(), protocol, host, port, verdict))

    def unreachable(
        self,
        protocol: str,
        host: str,
        port: int,
        failure: Unreachable,
        rule: Rule | Block | None,
        started: float,
    ) -> None:
        """Record that an allowed host has no connection; `rule` allowed it, `started` is by the reactor's clock."""
        kind, reason, code, hint, refused_by = failure
        rule, duration = refused_by or rule, self.reactor.now - started
        self.audit.record(
            Decision(time(), protocol, host, port, kind, reason, code, hint, rule, duration=duration)
        )

    def broke(self, protocol: str, host: str, port: int, error: Exception) -> None:
        """Record a fault of this program's own, by its place: its text could hold bytes of a peer."""
        trace = error.__traceback__
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        place = ""
        if trace is not None:
            place = f" at {trace.tb_frame.f_code.co_filename.rpartition('/')[2]}:{trace.tb_lineno}"
        reason = f"a fault of the proxy itself ended the connection ({type(error).__name__}{place})"
        self.audit.record(Decision(time(), protocol, host, port, "failed", reason, "internal"))

    def ended(
        self,
        protocol: str,
        host: str,
        port: int,
        outcome: Literal["allowed", "failed"],
        reason: str,
        code: str,
        rule: Rule | Block | None,
        sent: int,
        received: int,
        started: float,
    ) -> None:
        """Record what an allowed connection or request came to; `started` is by the reactor's clock."""
        duration = self.reactor.now - started
        self.audit.record(
            Decision(time(), protocol, host, port, outcome, reason, code, "", rule, sent, received, duration)
        )


def hang_up(connection: socket.socket) -> None:
    """Close at once and without a goodbye: the peer gets a reset. A closed socket stays closed."""
    with suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    connection.close()


def _address(client: socket.socket) -> str:
    """The address that a client connected to; a link-local one comes from the kernel with its interface."""
    return str(client.getsockname()[0]).partition("%")[0]


class Farewell:
    """Gives a client its last bytes, then waits until it has hung up.

    Closing with unread input would make the kernel send a reset, which discards what the client has not read.
    """

    def __init__(self, wall: Wall, client: socket.socket, last: bytes, closed: Callable[[], None]) -> None:
        self._wall = wall
        self._client = client
        self._closed = closed
        try:
            # Bytes of a few hundred fit the empty send buffer of a client that has been told nothing yet.
            client.send(last)
            client.shutdown(socket.SHUT_WR)
        except OSError:
            pass
        self._timer = wall.reactor.after(wall.timeouts.linger, self.close)
        wall.reactor.watch(client.fileno(), READ, self._discard)

    def close(self) -> None:
        self._timer.cancel()
        self._wall.reactor.forget(self._client.fileno())
        self._client.close()
        self._closed()

    def _discard(self, _event: int) -> None:
        try:
            if self._client.recv_into(self._wall.buffer.view):
                return
        except BlockingIOError:
            return
        except OSError:
            pass
        self.close()
