"""A wall at work on loopback, and canaries behind it that log every hit."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import ssl
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import trustme

from netpolicy.authority import Authority as WallAuthority
from netpolicy.credentials import Credential, encode
from netpolicy.hostproxy import HostProxies
from netpolicy.policy import ConnectTo, Policy, compile_policy
from netpolicy.proxy import Listener, run
from netpolicy.recent import NameServers
from netpolicy.resolver import host_resolve
from netpolicy.wall import Timeouts
from tests.netpolicy.looping import Clock

PATIENCE = 10.0  # seconds until a test gives up on a socket


class Session:
    """What a session sees of its wall, and what its supervisor learns. Made by `session`."""

    def __init__(
        self, listeners: Sequence[Listener], control: socket.socket, log: int, words: socket.socket
    ) -> None:
        self._words = words
        self._listeners = listeners
        self._control = control
        self._log = log
        self._summary: dict[str, Any] | None = None

    def address(self, role: str, family: int = socket.AF_INET) -> tuple[str, int]:
        for each in self._listeners:
            if each.role == role and each.socket.family == family:
                host, port = each.socket.getsockname()[:2]
                return host, port
        raise LookupError(role)

    def connect(self, role: str) -> socket.socket:
        return socket.create_connection(self.address(role), timeout=PATIENCE)

    def skip(self, clock: Clock, seconds: float) -> None:
        """So many seconds and one more pass, which the wall notices at once."""
        clock.ahead += seconds + 1
        # One that says nothing is no decision, and wakes it.
        self.connect("tls").close()

    def finish(self) -> dict[str, Any]:
        """End the session; the summary."""
        if self._summary is None:
            self._control.sendall(b"finish")
            data = b""
            while piece := self._control.recv(65_536):
                data += piece
            self._summary = json.loads(data)
        return self._summary

    def attach(self, *credentials: Credential, roots: bytes = b"") -> None:
        """Replace what is attached."""
        self._words.sendall(encode(credentials, roots))
        assert self._words.recv(100) == b"ok\n"

    def log(self) -> list[dict[str, Any]]:
        """The lines written so far."""
        size = os.fstat(self._log).st_size
        return [json.loads(line) for line in os.pread(self._log, size, 0).splitlines()]


@contextlib.contextmanager
def session(
    policy: Policy,
    *,
    resolve: Callable[[str], Sequence[str]] = host_resolve,
    timeouts: Timeouts = Timeouts(),  # noqa: B008
    tcp_port: int = 5432,
    http_port: int = 80,
    max_connections: int | None = None,
    backlog: int = 128,
    name_servers: NameServers | None = None,
    refusals: WallAuthority | None = None,
    host_proxies: HostProxies | None = None,
    credentials: Sequence[Credential] = (),
    roots: bytes = b"",
) -> Iterator[Session]:
    """Run a proxy in a thread. Its listeners have ports of their own; the policy's are what it believes in."""
    with contextlib.ExitStack() as stack:
        listeners = []
        roles = (("tls", 443), ("http", http_port), ("tcp", tcp_port), ("dns-tcp", 53))
        for role, port in roles:
            listening = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=backlog))
            listeners.append(Listener(role, port, listening))  # type: ignore[arg-type]
        datagrams = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        datagrams.bind(("127.0.0.1", 0))
        listeners.append(Listener("dns-udp", 53, datagrams))
        ours, theirs = socket.socketpair()
        stack.enter_context(ours)
        stack.enter_context(theirs)
        words, heard = socket.socketpair()
        stack.enter_context(words)
        stack.enter_context(heard)
        words.settimeout(PATIENCE)
        ours.settimeout(PATIENCE)
        log = stack.enter_context(tempfile.TemporaryFile())
        failures: list[BaseException] = []

        def serve() -> None:
            try:
                run(
                    listeners,
                    policy,
                    control=theirs,
                    log=log.fileno(),
                    session="s1",
                    resolve=resolve,
                    authority=refusals,
                    timeouts=timeouts,
                    max_connections=max_connections,
                    name_servers=name_servers,
                    host_proxies=host_proxies,
                    credentials=credentials,
                    roots=roots,
                    words=heard,
                )
            except BaseException as error:  # handed to the test's own thread below
                failures.append(error)
                theirs.close()

        thread = threading.Thread(target=serve, name="wall")
        thread.start()
        made = Session(listeners, ours, log.fileno(), words)
        try:
            yield made
        finally:
            try:
                if not failures:
                    made.finish()
            finally:
                thread.join(PATIENCE)
                if failures:
                    raise failures[0]
                assert not thread.is_alive()


class Canary:
    """A server that counts its connections; `serve` talks to each in a thread of its own."""

    def __init__(self, serve: Callable[[socket.socket], None]) -> None:
        self._serve = serve
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self.hits = 0
        self.heard: list[bytes] = []
        self._threads: list[threading.Thread] = []
        self._open: list[socket.socket] = []

    def __enter__(self) -> Canary:
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        # Waking a blocked accept takes a shutdown; closing alone does not.
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        for each in self._open:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        for thread in list(self._threads):
            thread.join(PATIENCE)
            assert not thread.is_alive()
        self._listening.close()

    def _start(self, work: Callable[[], None]) -> None:
        thread = threading.Thread(target=work)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            self.hits += 1
            client.settimeout(PATIENCE)
            self._open.append(client)
            self._start(lambda client=client: self._talk(client))  # type: ignore[misc]

    def _talk(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            self._serve(client)


@contextlib.contextmanager
def closed_port() -> Iterator[int]:
    """A port that refuses, and that nobody else is given meanwhile: it is bound, and not listened on."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


def echo(client: socket.socket) -> None:
    """Say back what is heard until its end, then end too."""
    while data := client.recv(65_536):
        client.sendall(data)
    client.shutdown(socket.SHUT_WR)


def to(canary: Canary, *hosts: str, port: int | None = None) -> list[ConnectTo]:
    return [ConnectTo(host, port, "127.0.0.1", canary.port) for host in hosts]


def allow(*hosts: str, targets: Sequence[ConnectTo] = ()) -> Policy:
    return compile_policy("limited", hosts, connect_to=targets)


class Authority:
    """A certificate authority with one server certificate for the given names."""

    def __init__(self, *names: str) -> None:
        self._authority = trustme.CA()
        self._server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._authority.issue_cert(*names).configure_cert(self._server)
        self.client = ssl.create_default_context()
        self._authority.configure_trust(self.client)

    def echo(self, client: socket.socket) -> None:
        """A TLS server that says back what it hears."""
        with self._server.wrap_socket(client, server_side=True) as secured:
            while data := secured.recv(65_536):
                secured.sendall(data)


def read_all(connection: socket.socket) -> bytes:
    """Everything until the end; a reset raises."""
    data = b""
    while piece := connection.recv(65_536):
        data += piece
    return data


def is_reset(connect: Callable[[], socket.socket]) -> bool:
    """Whether a connection is reset before a byte comes: seen by connect(2) itself when the reset is fast."""
    try:
        with connect() as connection:
            connection.recv(1)
    except ConnectionResetError:
        return True
    return False
