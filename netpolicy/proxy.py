"""The way out of a session: accepts its connections, lets the policy judge each, and serves those allowed."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple, Protocol, cast

from netpolicy.audit import Audit
from netpolicy.hostproxy import HostProxies
from netpolicy.keyring import Keyring, Listening
from netpolicy.policy import Policy, Role, protocol_for, request_for
from netpolicy.reactor import READ, Reactor
from netpolicy.recent import NameServers, RecentNames, parse_name_servers
from netpolicy.relay import Buffer
from netpolicy.resolver import Resolve, Resolver, host_resolve
from netpolicy.synthetic import SyntheticNames
from netpolicy.wall import Timeouts, Wall

if TYPE_CHECKING:
    from ssl import SSLContext

    from netpolicy.authority import Authority
    from netpolicy.certificates import Issuer
    from netpolicy.credentials import Credential

MAX_LOG = 64 * 1024 * 1024
MAX_EXPLAINED = 256

_ACCEPTS = 64  # a turn, so that a flood of connections does not hold up those that are served
_DESCRIPTORS = 2  # of each connection: the client's socket and the one outside
_SPARE_DESCRIPTORS = 64
_MOST_CONNECTIONS = 16_384
_MOST_DESCRIPTORS = 2 * _MOST_CONNECTIONS + _SPARE_DESCRIPTORS


class Listener(NamedTuple):
    """A socket made in the session's network namespace: listening, or for "dns-udp" and "any-udp" bound.

    `port` is the port as the session's programs see it, 0 where the socket gets what is meant for any port. A
    "dns-udp" socket has IP_PKTINFO or IPV6_RECVPKTINFO set, so that its answers come from the address that was
    asked; an "any-udp" one has IP_RECVORIGDSTADDR or IPV6_RECVORIGDSTADDR, and there is a "raw" one for its answers.
    """

    role: Role
    port: int
    socket: socket.socket


class Connection(Protocol):
    @property
    def unsent(self) -> bool: ...
    @property
    def asked(self) -> tuple[str, str, int]: ...
    def start(self) -> None: ...
    def finish(self) -> None: ...
    def abandon(self) -> None: ...


def run(
    listeners: Sequence[Listener],
    policy: Policy,
    *,
    control: socket.socket,
    log: int | None = None,
    session: str = "",
    resolve: Resolve = host_resolve,
    own_addresses: frozenset[str] = frozenset(),
    authority: Authority | None = None,
    timeouts: Timeouts = Timeouts(),  # noqa: B008
    max_connections: int | None = None,
    name_servers: NameServers | None = None,
    host_proxies: HostProxies | None = None,
    credentials: Sequence[Credential] = (),
    roots: bytes = b"",
    words: socket.socket | None = None,
) -> None:
    """Serve until `control` reads b"finish" or its end; then send the summary on it as JSON and shut it down.

    What the session had queued by then is still judged and recorded. `log` is a descriptor that gets one JSON line
    for each decision, up to MAX_LOG octets. `resolve` maps a name to addresses as text, in threads.
    `name_servers` (the host's, when None) are asked what an unrestricted session asks.
    `host_proxies` are dialled through, by name; what they resolve a name to is not seen here.
    `own_addresses` are dialled for no name, like those that the kernel knows as this machine's. With `authority`, a
    denied name is told why inside TLS; without, it gets a TLS alert. `credentials`, which take an authority, are added
    to what they are for, at hosts that `roots` (PEM) vouch for; `words` brings new ones, see netpolicy.keyring. Raises
    the limit on descriptors.
    The caller keeps and closes the listeners, `control`, `words` and `log`.
    """
    problems: list[str] = []
    keyring = Keyring(credentials, roots)
    audit = Audit(session, None if log is None else _appender(log, problems))
    with Reactor(lambda owner, error: door.broke(cast(Connection, owner), error)) as reactor:
        wall = Wall(
            reactor,
            policy,
            Resolver(reactor, resolve),
            SyntheticNames(),
            audit,
            timeouts,
            own_addresses,
            Buffer(),
            RecentNames(),
            name_servers or host_name_servers,
            keyring,
            None if authority is None else _Refusals(authority),
            host_proxies,
        )
        if words is not None:
            Listening(reactor, words, keyring)
        door = _Door(wall, listeners, max_connections or make_room())
        try:
            door.open()
            _until_told(reactor, control)
            _drain(reactor, door, timeouts.drain)
        finally:
            door.close()
            wall.resolver.close()
    summary = audit.summary()
    if problems:
        summary["log_error"] = problems[0]
    import json

    control.setblocking(True)
    try:
        control.sendall(json.dumps(summary).encode("ascii"))
        control.shutdown(socket.SHUT_WR)
    except OSError:
        # Whoever started the session is gone; the log has every decision.
        return


def host_name_servers() -> list[tuple[str, int]]:
    """The name servers that resolv.conf(5) names now."""
    try:
        with open("/etc/resolv.conf", encoding="utf-8", errors="replace") as file:
            return parse_name_servers(file.read(65_536))
    except OSError:
        return parse_name_servers("")


def preload(authority: Authority | None = None) -> None:
    """Import everything that serving can need, for a process that is about to lose the right to read files."""
    import encodings.idna
    import json
    import queue
    import resource
    import threading

    import netpolicy.addresses
    import netpolicy.attached
    import netpolicy.datagrams
    import netpolicy.exchange
    import netpolicy.forwarder
    import netpolicy.nameserver
    import netpolicy.streams
    import netpolicy.tunnel

    assert all((encodings.idna, json, queue, resource, threading, netpolicy))
    if authority is not None:
        import netpolicy.explained

        # Making a certificate loads more than importing what makes it.
        _Refusals(authority).begin("preload.invalid")


class _Refusals:
    """Certificates for refusals, from the first one on: what makes them takes a tenth of a second to load.

    A TLS connection of our own takes some 50 KiB, so no more than MAX_EXPLAINED are explained at a time.
    """

    def __init__(self, authority: Authority) -> None:
        self._authority = authority
        self._issuer: Issuer | None = None
        self._open = 0

    def begin(self, host: str) -> SSLContext | None:
        """The TLS side for ``host``, to be followed by `end`; None while there are too many."""
        if self._open >= MAX_EXPLAINED:
            return None
        if self._issuer is None:
            from netpolicy.certificates import Issuer

            self._issuer = Issuer(self._authority)
        context = self._issuer.context(host)
        self._open += 1
        return context

    def end(self) -> None:
        self._open -= 1


class _Door:
    """The listeners while they are served, and the connections that came through them.

    At the limit on connections it stops accepting; the kernel's queue and then its refusals hold the rest.
    """

    def __init__(self, wall: Wall, listeners: Sequence[Listener], limit: int) -> None:
        self._wall = wall
        self._listeners = listeners
        self._limit = limit
        self._accepting = True
        self._lasting: list[Connection] = []
        self.connections: set[Connection] = set()

    def open(self) -> None:
        raw = {each.socket.family: each.socket for each in self._listeners if each.role == "raw"}
        for each in self._listeners:
            each.socket.setblocking(False)
            if each.role == "any-udp":
                self._carry_datagrams(each.socket, raw[each.socket.family])
            elif each.role == "dns-udp":
                self._watch_datagrams(each.socket)
            elif each.role != "raw":
                self._watch_connections(each)

    def close(self) -> None:
        self._accepting = True
        for each in self._listeners:
            self._wall.reactor.forget(each.socket.fileno())
        for connection in [*self._lasting, *self.connections]:
            try:
                connection.finish()
            except Exception as error:
                self.broke(connection, error)

    def broke(self, connection: Connection, error: Exception) -> None:
        """A fault in what serves one connection: it is cut and recorded, the others go on."""
        protocol, host, port = "", "", 0
        try:
            protocol, host, port = connection.asked
        except OSError:
            # Its socket is closed already, which says no more where it led.
            protocol = type(connection).__name__
        self._wall.broke(protocol, host, port, error)
        self._wall.reactor.disown(connection)
        with suppress(Exception):
            connection.abandon()
        self._closed(connection)

    def _carry_datagrams(self, listener: socket.socket, raw: socket.socket) -> None:
        from netpolicy.datagrams import Datagrams

        self._serve(Datagrams(self._wall, listener, raw))

    def _serve(self, lasting: Connection) -> None:
        """Serve what has no end before the session's."""
        self._lasting.append(lasting)
        self._wall.reactor.run_as(lasting, lasting.start)

    def _watch_datagrams(self, listener: socket.socket) -> None:
        if self._wall.policy.mode == "unrestricted":
            from netpolicy.forwarder import Datagrams

            self._serve(Datagrams(self._wall, listener))
            return
        from netpolicy.nameserver import prepare_datagrams, serve_datagrams

        wall = self._wall
        prepare_datagrams(listener)
        wall.reactor.watch(listener.fileno(), READ, lambda _event: serve_datagrams(wall, listener))

    def _watch_connections(self, listener: Listener) -> None:
        self._wall.reactor.watch(listener.socket.fileno(), READ, lambda _event: self._accept(listener))

    def _accept(self, listener: Listener) -> None:
        for _ in range(_ACCEPTS):
            if len(self.connections) >= self._limit:
                self._pause(True)
                return
            try:
                client, _address = listener.socket.accept()
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    self._pause(True)
                    self._wall.reactor.after(0.1, lambda: self._pause(False))
                return
            client.setblocking(False)
            try:
                connection = self._connection(listener, client)
            except Exception as error:
                client.close()
                self._wall.broke(listener.role, "", listener.port, error)
                continue
            self.connections.add(connection)
            self._wall.reactor.run_as(connection, connection.start)

    def _connection(self, listener: Listener, client: socket.socket) -> Connection:
        role, port = listener.role, listener.port
        if role in ("any-tcp", "tcp"):
            port = port or client.getsockname()[1]
        named = self._wall.looked_up(client) if role in ("any-tcp", "tcp") else None
        if named is not None and self._wall.keyring.covers(named, port):
            role = "tls"
        elif role == "any-tcp":
            asked = request_for(self._wall.policy, self._wall.destination(client), port)
            role = "http" if asked.protocol == "http" else "tls" if asked.protocol == "tls" else "tcp"
        elif role == "tcp":
            role = protocol_for(self._wall.policy, self._wall.destination(client), port)
        if role == "http":
            from netpolicy.exchange import HttpConnection
            from netpolicy.outlet import Plain
            from netpolicy.upstream import End

            end = End(client, self._wall.buffer)
            return HttpConnection(self._wall, end, Plain(self._wall, port), self._closed)
        if role == "dns-tcp" and self._wall.policy.mode == "unrestricted":
            from netpolicy import forwarder

            return forwarder.Stream(self._wall, client, self._closed)
        if role == "dns-tcp":
            from netpolicy.nameserver import DnsStream

            return DnsStream(self._wall, client, self._closed)
        from netpolicy.streams import Stream

        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return Stream(self._wall, client, port, "tls" if role == "tls" else "tcp", self._closed)

    def _closed(self, connection: Connection) -> None:
        self.connections.discard(connection)
        if not self._accepting and len(self.connections) < self._limit:
            self._pause(False)

    def _pause(self, pause: bool) -> None:
        if self._accepting != pause:
            return
        self._accepting = not pause
        for each in self._listeners:
            if each.role not in ("dns-udp", "any-udp", "raw"):
                self._wall.reactor.change(each.socket.fileno(), 0 if pause else READ)


def _until_told(reactor: Reactor, control: socket.socket) -> None:
    told = False

    def listen(_event: int) -> None:
        nonlocal told
        try:
            data = control.recv(64)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        told = not data or b"finish" in data

    control.setblocking(False)
    reactor.watch(control.fileno(), READ, listen)
    try:
        while not told:
            reactor.turn()
    finally:
        reactor.forget(control.fileno())


def _drain(reactor: Reactor, door: _Door, longest: float) -> None:
    """Handle what is queued already, and let what the session said on allowed connections get out."""
    end = reactor.now + longest
    while True:
        handled = reactor.turn(0)
        left = end - reactor.now
        if left <= 0:
            return
        if not handled:
            if not any(connection.unsent for connection in door.connections):
                return
            reactor.turn(min(left, 0.05))


def make_room() -> int:
    """Raise the limit on descriptors as far as is useful and allowed; how many connections fit it then."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < _MOST_DESCRIPTORS:
        enough = hard == resource.RLIM_INFINITY or hard >= _MOST_DESCRIPTORS
        # Only root may raise the hard limit, and not in every container.
        raised = [(_MOST_DESCRIPTORS, hard)] if enough else [(_MOST_DESCRIPTORS,) * 2, (hard, hard)]
        for limits in raised:
            with suppress(ValueError, OSError):
                resource.setrlimit(resource.RLIMIT_NOFILE, limits)
                break
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return _MOST_CONNECTIONS
    return max(1, min(_MOST_CONNECTIONS, (soft - _SPARE_DESCRIPTORS) // _DESCRIPTORS))


def _appender(log: int, problems: list[str]) -> Callable[[bytes], None]:
    """What writes lines to a descriptor, until it fails or a session has had its share of the disk."""
    left = MAX_LOG

    def append(line: bytes) -> None:
        nonlocal left
        if problems:
            return
        left -= len(line)
        if left < 0:
            problems.append(f"the egress log reached {MAX_LOG} bytes; later decisions are counted alone")
            return
        try:
            while line:
                line = line[os.write(log, line) :]
        except OSError as error:
            problems.append(f"the egress log could not be written: {error.strerror}")

    return append
