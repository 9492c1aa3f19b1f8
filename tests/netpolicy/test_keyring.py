"""What a running wall holds, and how it is replaced."""

from __future__ import annotations

import socket
import ssl

import trustme

from netpolicy.credentials import encode, repository
from netpolicy.keyring import Keyring, Listening
from netpolicy.reactor import Reactor
from tests.netpolicy.looping import settle, until

OURS = repository("https://git.test:8443/me/ours", "token")


def test_it_covers_the_hosts_and_ports_of_what_it_holds() -> None:
    keyring = Keyring([OURS])
    assert keyring.covers("git.test", 8443)
    assert keyring.names("git.test")
    assert not keyring.covers("git.test", 443)
    assert not keyring.covers("a.git.test", 8443)
    assert not keyring.names("test")
    keyring.replace([], b"")
    assert not keyring.covers("git.test", 8443)


def test_the_side_towards_a_host_verifies_it_always() -> None:
    authority = trustme.CA().cert_pem.bytes()
    keyring = Keyring([OURS], b"# a comment \xc3\xa9\n" + authority)
    own = keyring.context()
    assert (own.verify_mode, own.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert len(own.get_ca_certs()) == 1
    assert keyring.context() is own
    other = keyring.context(trustme.CA().cert_pem.bytes())
    assert other.get_ca_certs() != own.get_ca_certs()
    for nothing in (b"", b"no certificate", b"-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n"):
        context = Keyring([OURS], nothing).context()
        assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
        assert context.get_ca_certs() == []
    keyring.replace([OURS], authority)
    assert keyring.context() is not own


def test_new_ones_come_a_line_each_and_hold_once_that_is_said() -> None:
    ours, theirs = socket.socketpair()
    with Reactor() as reactor, ours, theirs:
        keyring = Keyring()
        Listening(reactor, theirs, keyring)
        ours.settimeout(10)
        line = encode([OURS], b"x" * 300_000)
        ours.sendall(line[:100])
        settle(reactor)
        assert keyring.credentials == ()
        sent = 100
        ours.setblocking(False)
        while sent < len(line):
            try:
                sent += ours.send(line[sent:])
            except BlockingIOError:
                pass
            settle(reactor)
        until(reactor, lambda: keyring.credentials)
        assert keyring.credentials == (OURS,)
        ours.settimeout(10)
        assert ours.recv(100) == b"ok\n"
        ours.sendall(encode([], b"") + encode([OURS], b"") + encode([], b""))
        until(reactor, lambda: not keyring.credentials)
        settle(reactor)
        assert ours.recv(100) == b"ok\nok\nok\n"
        ours.close()
        settle(reactor)
        assert reactor.turn(0) == 0
