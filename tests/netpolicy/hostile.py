"""What must hold for any bytes that a peer sends: one check a parser, run by properties and by scripts/fuzz.

Each check takes bytes and returns when they were read or refused as they may be. It raises AssertionError when an
independent reader (OpenSSL, dnspython, the standard library) finds something else in them, and lets everything else
out that a parser should not have raised.
"""

from __future__ import annotations

import http.server
import io
import socket
import ssl
import struct
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from ipaddress import ip_address
from posixpath import normpath
from urllib.parse import unquote, urlsplit

import dns.exception
import dns.message
import dns.opcode
import dns.rdataclass
import dns.rdatatype
import h11

from netpolicy import clienthello, dnsreply, forwarder, hostproxy
from netpolicy import dns as server
from netpolicy.attached import Attached
from netpolicy.audit import Audit
from netpolicy.blocklist import parse_blocklist
from netpolicy.clienthello import ClientHello, HelloReader
from netpolicy.credentials import Credential, Secret
from netpolicy.errors import PeerError
from netpolicy.exchange import HttpConnection
from netpolicy.hosts import name_problem, presentation
from netpolicy.httprules import Forward, read_request
from netpolicy.keyring import Keyring
from netpolicy.outlet import Attempt, Done, Outlet, Passage, Plain
from netpolicy.policy import compile_policy
from netpolicy.reach import Unreachable
from netpolicy.reactor import Reactor
from netpolicy.recent import RecentNames
from netpolicy.relay import Buffer
from netpolicy.resolver import Resolver
from netpolicy.synthetic import SyntheticNames
from netpolicy.upstream import MAX_HEAD, End
from netpolicy.wall import Timeouts, Wall
from tests.netpolicy.looping import connection, settle

HOST = "a.test"
OURS = Credential(HOST, 443, "ours", ("/me/ours", "/me/ours.git"), value=Secret("Basic T0tFTg=="))
_SERVER = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)


def check_clienthello(data: bytes) -> None:
    """Whole or in pieces it is the same greeting, and OpenSSL reads no other name in it."""
    found = _hello(iter((data,)))
    assert found == _hello(data[at : at + 1] for at in range(len(data)))
    if isinstance(found, ClientHello):
        assert found.host is None or name_problem(found.host) is None
    named = name_for_openssl(data)
    if named is not None and not isinstance(found, str):
        assert found == named, f"OpenSSL reads {named}"


def name_for_openssl(data: bytes) -> ClientHello | None:
    """What a server of OpenSSL's is told of the greeting's name; None when it refuses or needs more."""
    told: list[ClientHello] = []

    def listen(_tls: object, name: str | None, _context: object) -> int:
        told.append(ClientHello(None if name is None else name.lower()))
        return ssl.ALERT_DESCRIPTION_ACCESS_DENIED

    _SERVER.sni_callback = listen
    incoming = ssl.MemoryBIO()
    incoming.write(data)
    # A name outside ASCII is refused by Python's side of the callback, which tells this hook.
    hook, sys.unraisablehook = sys.unraisablehook, lambda _: None
    try:
        _SERVER.wrap_bio(incoming, ssl.MemoryBIO(), server_side=True).do_handshake()
    except ssl.SSLError:
        pass
    finally:
        sys.unraisablehook = hook
    return told[0] if told else None


def _hello(pieces: Iterable[bytes]) -> ClientHello | str | None:
    reader = HelloReader()
    try:
        for piece in pieces:
            if (found := reader.feed(piece)) is not None:
                return found
    except PeerError as error:
        return error.code
    return None


def check_http(data: bytes) -> None:
    """What would be passed on says the same host to the standard library's parser, and is one request."""
    http = h11.Connection(h11.SERVER, MAX_HEAD)
    try:
        http.receive_data(data)
        event = http.next_event()
        if not isinstance(event, h11.Request):
            return
        forward = read_request(event.method, event.target, event.http_version, list(event.headers), 80)
    except (h11.RemoteProtocolError, PeerError) as error:
        assert str(error).isascii() or isinstance(error, h11.RemoteProtocolError)
        return
    assert _is_canonical(forward.host), forward.host
    head = h11.Request(method=event.method, target=forward.target, headers=forward.headers)
    sent = h11.Connection(h11.CLIENT).send(head)
    assert sent is not None
    check_sent(event.method, forward, sent)


def check_sent(method: bytes, forward: Forward, sent: bytes) -> None:
    try:
        seen = _Request(sent)
    except _TooManyHeaders:
        return
    assert seen.rest == b""
    assert seen.command == method.decode("ascii")
    assert seen.words[1].encode("latin-1") == forward.target
    (host,) = seen.headers.get_all("host", [])
    named = (urlsplit("//" + host.strip()).hostname or "").removesuffix(".")
    assert named == forward.host or str(ip_address(named)) == forward.host
    assert (
        len(seen.headers.get_all("content-length", [])) + len(seen.headers.get_all("transfer-encoding", []))
        < 2
    )


class _TooManyHeaders(Exception):
    """The standard library takes a hundred; it has no opinion on more."""


class _Request(http.server.BaseHTTPRequestHandler):
    """A request as the standard library reads it."""

    def __init__(self, data: bytes) -> None:
        self.rfile, self.wfile = io.BytesIO(data), io.BytesIO()
        self.raw_requestline = self.rfile.readline()
        if not self.parse_request():
            said = self.wfile.getvalue()
            if b" 431 " in said:
                raise _TooManyHeaders
            raise AssertionError(said)
        self.words = self.raw_requestline.decode("latin-1").split()
        self.rest = self.rfile.read()

    def log_message(self, format: str, *arguments: object) -> None:
        pass


def _is_canonical(host: str) -> bool:
    if name_problem(host) is None:
        return True
    try:
        return str(ip_address(host)) == host and "%" not in host
    except ValueError:
        return False


class _Unlinked(Wall):
    """A wall for one allowed host, to which a connection is made at once and without a network."""

    def reach(self, host: str, port: int, done: Callable[..., None], plain: bool = False) -> _Reached:  # type: ignore[override]
        assert (host, port) in ((HOST, 80), (HOST, 443)), "a host that is not allowed is dialled"
        return _Reached(self, done)


class _Reached:
    def __init__(self, wall: Wall, done: Callable[..., None]) -> None:
        self._end = True
        self._wall = wall
        self._done: Callable[..., None] | None = done
        wall.reactor.after(0, self._finish)

    def cancel(self) -> None:
        self._done = None

    def _finish(self) -> None:
        if self._done is not None:
            ours, theirs = connection()
            theirs.setblocking(False)
            _OUTER.append(ours)
            self._done(theirs)


_OUTER: list[socket.socket] = []
_MORE = 4  # connections to the host in one run; more would be the same again


def unlinked(reactor: Reactor, unrestricted: bool = False) -> Wall:
    blocks = parse_blocklist("*.blocked.test\nblocked.test\n", "list")
    policy = (
        compile_policy("unrestricted", blocks=blocks)
        if unrestricted
        else compile_policy("limited", [f"{HOST}:80", HOST])
    )
    return _Unlinked(
        reactor,
        policy,
        Resolver(reactor, lambda _host: []),
        SyntheticNames(),
        Audit("s1", None),
        Timeouts(),
        frozenset(),
        Buffer(),
        RecentNames(),
        list,
        Keyring([OURS]),
    )


def check_exchange(data: bytes) -> None:
    """A whole exchange: what the client says, and after two octets of its length, what the host says.

    No bytes of either side make the wall fail, and the host hears of no other host.
    """
    for said in carried(data, lambda wall: Plain(wall, 80)):
        for _ in _requests(said):
            pass


class InTheClear(Attached):
    """A host with something attached, without TLS on either side."""

    def reach(self, passage: Passage, done: Done) -> Attempt:
        def reached(result: socket.socket | Unreachable) -> None:
            assert isinstance(result, socket.socket)
            done(End(result, self._wall.buffer))

        return self._wall.reach(self._host, self.port, reached)


def check_attached(data: bytes) -> None:
    """The same for a host with something attached: that goes to its path and to no other, whoever reads it."""
    for said in carried(data, lambda wall: InTheClear(wall, HOST, 443)):
        ours = []
        for request in _requests(said):
            values = [value for name, value in request.headers if name == b"authorization"]
            ours.append(b"Basic T0tFTg==" in values)
            if ours[-1]:
                assert len(values) == 1
                assert request.method in (b"GET", b"HEAD", b"POST", b"PUT")
                raw = request.target.partition(b"?")[0].decode("ascii")
                for reading in (raw, unquote(raw), unquote(unquote(raw)).replace("\\", "/")):
                    plain = normpath(reading.partition(";")[0])
                    assert plain in OURS.paths or plain.startswith(("/me/ours/", "/me/ours.git/"))
        assert len(set(ours)) < 2, "one connection for requests with and without it"


def carried(data: bytes, outlet: Callable[[Wall], Outlet]) -> list[bytes]:
    """What the host hears, by connection."""
    at = 2 + int.from_bytes(data[:2], "big")
    client_says, host_says = data[2:at], data[at:]
    del _OUTER[:]
    heard: dict[socket.socket, bytes] = {}
    with Reactor() as reactor:
        wall = unlinked(reactor)
        client, ours = connection()
        ours.setblocking(False)
        served = HttpConnection(wall, End(ours, wall.buffer), outlet(wall), lambda _: None)
        with closing(client):
            served.start()
            for piece in _halves(client_says):
                _say(client, piece)
                settle(reactor)
            _end(client)
            for _ in range(_MORE):
                waiting = [each for each in _OUTER if each not in heard]
                for outer in waiting:
                    heard[outer] = _hear(outer)
                    for piece in _halves(host_says):
                        _say(outer, piece)
                        settle(reactor)
                    _end(outer)
                    settle(reactor)
                    heard[outer] += _hear(outer)
                if not waiting:
                    break
            served.finish()
        assert wall.buffer.held == 0, "what never left is still counted"
        wall.resolver.close()
    for outer in _OUTER:
        outer.close()
    return list(heard.values())


def _halves(data: bytes) -> Iterator[bytes]:
    middle = len(data) // 2
    yield from (data[:middle], data[middle:])


def _say(end: socket.socket, data: bytes) -> None:
    try:
        end.setblocking(False)
        end.send(data)
    except OSError:
        pass


def _end(end: socket.socket) -> None:
    try:
        end.shutdown(socket.SHUT_WR)
    except OSError:
        pass


def _hear(end: socket.socket) -> bytes:
    said = b""
    end.setblocking(False)
    try:
        while piece := end.recv(65_536):
            said += piece
    except OSError:
        pass
    return said


def _requests(said: bytes) -> Iterator[h11.Request]:
    """A stream of requests as another server would read it. None is for another host."""
    http = h11.Connection(h11.SERVER, MAX_HEAD)
    http.receive_data(said)
    while True:
        event = http.next_event()
        if isinstance(event, h11.Request):
            hosts = [value for name, value in event.headers if name == b"host"]
            assert [host.lower().partition(b":")[0].removesuffix(b".") for host in hosts] == [HOST.encode()]
            yield event
        elif isinstance(event, h11.EndOfMessage):
            http.send(h11.Response(status_code=200, headers=[(b"content-length", b"0")]))
            http.send(h11.EndOfMessage())
            if http.our_state is not h11.DONE or http.their_state is not h11.DONE:
                return
            http.start_next_cycle()
        elif not isinstance(event, h11.Data):
            return


def check_dns(data: bytes) -> None:
    """A query is read as dnspython reads it, and any message gets a small answer that dnspython can read, or none."""
    query: server.Query | None
    try:
        query = server.parse(data)
    except PeerError as error:
        assert str(error).isascii()
        query = None
    if query is not None:
        _same_question(query, data)
    names = SyntheticNames()
    wire = server.answer(data, names)
    assert len(names) <= 1
    if wire is not None:
        assert len(wire) <= 512
        assert wire[:2] == data[:2]
        dns.message.from_wire(wire, question_only=True)
    with Reactor() as reactor:
        wall = unlinked(reactor, unrestricted=True)
        answer, name = forwarder.judge(wall, data)
        assert not (answer and name)
        if name:
            assert query is not None
            last = [label.lower() for label in query.labels[-2:]]
            assert last != [b"blocked", b"test"], "a blocked name is passed on"
        wall.resolver.close()


def _same_question(query: server.Query, data: bytes) -> None:
    try:
        message = dns.message.from_wire(data, one_rr_per_rrset=True)
        asked = message.question[0]
    except (dns.exception.DNSException, ValueError, IndexError):
        # It refuses some types and options that are well-formed but make no sense.
        return
    assert query.labels == asked.name.labels[:-1]
    assert (query.type, query.klass) == (int(asked.rdtype), int(asked.rdclass))
    assert query.edns == (message.edns >= 0)


def check_dnsreply(data: bytes) -> None:
    """Whatever response dnspython accepts leads to the same names and addresses here, or is refused."""
    try:
        found = dnsreply.read_reply(data)
    except PeerError as error:
        assert str(error).isascii()
        return
    assert len(found.names) + len(found.addresses) <= 256
    try:
        message = dns.message.from_wire(data, one_rr_per_rrset=True, ignore_trailing=True)
    except (dns.exception.DNSException, ValueError, IndexError, struct.error):
        return
    if message.opcode() != dns.opcode.QUERY:
        return
    names, addresses = [], []
    for each in message.answer:
        if each.rdclass != dns.rdataclass.IN or not each:
            continue
        if each.rdtype == dns.rdatatype.CNAME:
            names.append(presentation(list(each[0].target.labels[:-1])))
        elif each.rdtype in (dns.rdatatype.A, dns.rdatatype.AAAA):
            addresses.append(str(ip_address(each[0].address)))
    assert set(names) == set(found.names)
    assert set(addresses) == set(found.addresses)


def check_tunnel(data: bytes) -> None:
    """The answer of the host's own proxy."""
    try:
        length = hostproxy.head_length(data)
        assert length <= min(len(data), hostproxy.MAX_ANSWER)
        if length:
            assert 0 <= hostproxy.read_status(data[:length]) <= 999
    except PeerError as error:
        assert str(error).isascii()


CHECKS: dict[str, Callable[[bytes], None]] = {
    "clienthello": check_clienthello,
    "dns": check_dns,
    "dnsreply": check_dnsreply,
    "exchange": check_exchange,
    "attached": check_attached,
    "http": check_http,
    "tunnel": check_tunnel,
}

MODULES = [each.__name__ for each in (clienthello, dnsreply, forwarder, hostproxy, server)] + [
    "netpolicy.httprules",
    "netpolicy.exchange",
    "netpolicy.outlet",
    "netpolicy.attached",
    "netpolicy.credentials",
    "netpolicy.hosts",
    "h11",
]
