"""A side of an exchange inside TLS, against OpenSSL's own sockets."""

from __future__ import annotations

import os
import ssl
import threading
from collections.abc import Iterator

import pytest
import trustme

from netpolicy.keyring import Keyring
from netpolicy.reactor import Reactor
from netpolicy.relay import Buffer
from netpolicy.secured import Handshake, SecuredEnd, code, reason
from tests.netpolicy.hostile import unlinked
from tests.netpolicy.looping import connection, until

AUTHORITY = trustme.CA()
SERVER = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
AUTHORITY.issue_cert("a.test").configure_cert(SERVER)
CLIENT = ssl.create_default_context(cadata=AUTHORITY.cert_pem.bytes().decode())


class Peer:
    """The other side: a blocking socket inside TLS, in a thread until the handshake is done."""

    def __init__(self, server: bool, name: str = "a.test") -> None:
        self.plain, self.ours = connection()
        self.ours.setblocking(False)
        self.plain.settimeout(10)
        self.error: OSError | None = None
        self.tls: ssl.SSLSocket | None = None

        def agree() -> None:
            try:
                if server:
                    self.tls = SERVER.wrap_socket(self.plain, server_side=True)
                else:
                    self.tls = CLIENT.wrap_socket(self.plain, server_hostname=name)
            except OSError as error:
                self.error = error

        self.thread = threading.Thread(target=agree)
        self.thread.start()

    def close(self) -> None:
        self.thread.join(10)
        if self.tls is not None:
            self.tls.close()
        self.plain.close()
        self.ours.close()


def agreed(peer: Peer, end: SecuredEnd, seconds: float = 10) -> str:
    told: list[str] = []
    with Reactor() as reactor:
        wall = unlinked(reactor)
        Handshake(wall, end, seconds, told.append)
        until(reactor, lambda: told)
        wall.resolver.close()
    peer.thread.join(10)
    return told[0]


@pytest.fixture(params=["client", "server"])
def pair(request: pytest.FixtureRequest) -> Iterator[tuple[Peer, SecuredEnd, Buffer]]:
    """An end in either role that has agreed with its peer."""
    as_client = request.param == "client"
    peer, buffer = Peer(server=as_client), Buffer()
    context, server = (CLIENT, "a.test") if as_client else (SERVER, None)
    end = SecuredEnd(peer.ours, buffer, context, server)
    assert agreed(peer, end) == ""
    yield peer, end, buffer
    end.drop()
    assert buffer.held == 0
    peer.close()


def received(end: SecuredEnd, size: int) -> bytes:
    data = b""
    while len(data) < size and not end.ended:
        try:
            data += end.receive()
        except BlockingIOError:
            continue
    return data


def test_bytes_pass_both_ways_whatever_their_number(pair: tuple[Peer, SecuredEnd, Buffer]) -> None:
    peer, end, buffer = pair
    assert peer.tls is not None
    for size in (1, 16_384, 16_385, 3_000_000):
        data = os.urandom(size)
        writer = threading.Thread(target=peer.tls.sendall, args=(data,))
        writer.start()
        assert received(end, size) == data
        writer.join()
        heard = bytearray()

        def listen(size: int = size, heard: bytearray = heard) -> None:
            assert peer.tls is not None
            while len(heard) < size:
                heard.extend(peer.tls.recv(65_536))

        reader = threading.Thread(target=listen)
        reader.start()
        end.out.put([data[:5], data[5:]])
        sent = 0
        while end.unsent:
            sent += end.flush()
        reader.join()
        assert bytes(heard) == data
        assert (sent, buffer.held) == (size, 0)


def test_a_peer_that_does_not_read_is_sent_no_more_than_fits(pair: tuple[Peer, SecuredEnd, Buffer]) -> None:
    _, end, buffer = pair
    end.out.put([bytes(50_000_000)])
    sent = 0
    while step := end.flush():
        sent += step
    assert 0 < sent < 40_000_000
    assert end.unsent
    # What is encrypted and not sent is counted, too.
    assert 0 <= buffer.held - end.out.size <= 70_000


def test_the_end_is_told_from_a_break(pair: tuple[Peer, SecuredEnd, Buffer]) -> None:
    peer, end, _ = pair
    assert peer.tls is not None
    peer.tls.sendall(b"last")
    # A goodbye, with nothing after it: the connection stays open.
    peer.tls.settimeout(0.2)
    with pytest.raises((TimeoutError, ssl.SSLError)):
        peer.tls.unwrap()
    assert received(end, 100) == b"last"
    assert end.ended
    assert end.receive() == b""


def test_a_host_that_breaks_off_inside_tls_has_not_ended() -> None:
    """Whoever cuts the line must not make half an answer look whole."""
    peer = Peer(server=True)
    context = Keyring(roots=AUTHORITY.cert_pem.bytes()).context()
    end = SecuredEnd(peer.ours, Buffer(), context, "a.test")
    assert agreed(peer, end) == ""
    assert peer.tls is not None
    peer.tls.sendall(b"last")
    os.close(peer.tls.detach())
    peer.tls = None
    data = b""
    with pytest.raises(ssl.SSLError):
        while not end.ended:
            try:
                data += end.receive()
            except BlockingIOError:
                continue
    assert data == b"last"
    peer.close()


def test_its_goodbye_is_understood(pair: tuple[Peer, SecuredEnd, Buffer]) -> None:
    peer, end, _ = pair
    assert peer.tls is not None
    end.out.put([b"bye"])
    end.flush()
    peer.ours.send(end.goodbye())
    peer.tls.settimeout(10)
    assert peer.tls.recv(10) == b"bye"
    assert peer.tls.recv(10) == b""


def test_a_name_or_an_authority_that_does_not_fit_is_told_in_words() -> None:
    for context, name, word in (
        (CLIENT, "b.test", "not valid for 'b.test'"),
        (ssl.create_default_context(), "a.test", "certificate"),
    ):
        peer = Peer(server=True)
        why = agreed(peer, SecuredEnd(peer.ours, Buffer(), context, name))
        assert why.startswith("its certificate is not accepted: ")
        assert word in why
        assert code(why) == "certificate"
        assert peer.error is not None, "and the other side heard of it"
        peer.close()


def test_a_peer_that_leaves_or_says_nothing_or_nonsense_is_no_partner() -> None:
    for act, word, seconds, named in (
        (lambda plain: plain.close(), "ended", 10, "tls"),
        (lambda plain: plain.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n"), "TLS handshake failed", 10, "tls"),
        (lambda plain: None, "too long", 0.3, "connect-timeout"),
    ):
        plain, ours = connection()
        ours.setblocking(False)
        with plain, ours:
            end = SecuredEnd(ours, Buffer(), CLIENT, "a.test")
            act(plain)
            told: list[str] = []
            with Reactor() as reactor:
                wall = unlinked(reactor)
                Handshake(wall, end, seconds, told.append)
                until(reactor, lambda told=told: told)
                wall.resolver.close()
            assert word in told[0], told
            assert code(told[0]) == named


def test_a_handshake_that_is_called_off_says_nothing() -> None:
    plain, ours = connection()
    ours.setblocking(False)
    told: list[str] = []
    with plain, ours, Reactor() as reactor:
        wall = unlinked(reactor)
        Handshake(wall, SecuredEnd(ours, Buffer(), CLIENT, "a.test"), 0.01, told.append).cancel()
        reactor.turn(0.05)
        reactor.turn(0.05)
        assert told == []
        wall.resolver.close()


def test_reasons_are_words() -> None:
    assert reason(OSError(104, "Connection reset by peer")) == "Connection reset by peer"
    assert reason(OSError()) == "the connection was reset"
