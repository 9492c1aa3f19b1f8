"""TLS by the name in its greeting and TCP by the name looked up, from end to end."""

from __future__ import annotations

import socket
import ssl
from time import monotonic

import pytest

from netpolicy import relay
from netpolicy.policy import ConnectTo, Endpoint, compile_policy
from netpolicy.wall import Timeouts
from tests.netpolicy.greetings import extension, hello, openssl_hello, records, server_name
from tests.netpolicy.serving import (
    PATIENCE,
    Authority,
    Canary,
    Session,
    allow,
    closed_port,
    echo,
    is_reset,
    read_all,
    session,
    to,
)

ALERT = b"\x15\x03\x03\x00\x02\x02\x31"  # fatal, access_denied


def test_an_allowed_name_reaches_the_real_server_and_nothing_is_decrypted_on_the_way() -> None:
    authority = Authority("a.test")
    with Canary(authority.echo) as canary, session(allow("a.test", targets=to(canary, "a.test"))) as wall:
        with authority.client.wrap_socket(wall.connect("tls"), server_hostname="a.test") as client:
            certificate = client.getpeercert()
            assert certificate is not None
            assert ("DNS", "a.test") in certificate["subjectAltName"]
            client.sendall(b"hello")
            assert client.recv(100) == b"hello"
        summary = wall.finish()
        assert canary.hits == 1
        assert summary["denied"] == []
        (allowed,) = summary["allowed"]
        assert (allowed["host"], allowed["port"], allowed["protocol"], allowed["count"]) == (
            "a.test",
            443,
            "tls",
            1,
        )
        assert allowed["sent"] > 300
        assert allowed["received"] > 300


def test_a_denied_name_gets_an_alert_and_reaches_no_server() -> None:
    authority = Authority("a.test", "d.test")
    with (
        Canary(authority.echo) as canary,
        session(allow("a.test", targets=to(canary, "a.test", "d.test"))) as wall,
    ):
        with (
            wall.connect("tls") as plain,
            pytest.raises(ssl.SSLError, match=r"(?i)access.denied"),
        ):
            authority.client.wrap_socket(plain, server_hostname="d.test")
        summary = wall.finish()
        assert canary.hits == 0
        assert summary["allowed"] == []
        (denied,) = summary["denied"]
        assert denied == {
            "host": "d.test",
            "port": 443,
            "protocol": "tls",
            "count": 1,
            "reason": "d.test is not among the allowed hosts",
            "code": "not-allowed",
            "hint": "--allow d.test",
        }


REFUSED = {
    "no name": (openssl_hello(None), "no-name"),
    "another name": (openssl_hello("d.test"), "not-allowed"),
    "a name below": (openssl_hello("x.a.test"), "not-allowed"),
    "a name that ends alike": (openssl_hello("evila.test"), "not-allowed"),
    "an address as the name": (records(hello(server_name(b"127.0.0.1"))), "bad-name"),
    "trailing dot": (records(hello(server_name(b"a.test."))), "bad-name"),
    "two names": (records(hello(server_name(b"a.test", b"d.test"))), "repeated"),
    "allowed name behind the other": (records(hello(server_name(b"d.test", b"a.test"))), "repeated"),
    "a zero octet": (records(hello(server_name(b"a.test\x00"))), "bad-name"),
    "not TLS at all": (b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n", "not-tls"),
    "cut short": (openssl_hello("a.test")[:-1], "cut-short"),
    "too large": (records(b"\x01\x01\x00\x01" + bytes(100)), "too-large"),
    "huge for a denied name": (
        records(hello(extension(35, bytes(30_000)), server_name(b"d.test"))),
        "not-allowed",
    ),
}


@pytest.mark.parametrize("way", ["whole", "byte by byte"])
@pytest.mark.parametrize("case", REFUSED)
def test_a_greeting_that_does_not_name_an_allowed_host_is_refused_before_anything_is_dialled(
    case: str, way: str
) -> None:
    data, code = REFUSED[case]
    with (
        Canary(echo) as canary,
        session(allow("a.test", targets=to(canary, "a.test", "d.test", "x.a.test"))) as wall,
    ):
        with wall.connect("tls") as client:
            _say(client, data, 1 if way == "byte by byte" and len(data) < 1000 else 100_000)
            client.shutdown(socket.SHUT_WR)
            assert read_all(client) == ALERT
        with wall.connect("tls") as control:
            control.sendall(openssl_hello("a.test"))
            assert control.recv(100_000)[:1] == b"\x16", "the positive control: an allowed greeting is echoed"
        assert canary.hits == 1
        assert [each["code"] for each in wall.finish()["denied"]] == [code]


@pytest.mark.parametrize("size", [1, 7, 1400])
@pytest.mark.parametrize("kilobytes", [0, 2, 40])
def test_an_allowed_greeting_passes_unchanged_however_it_is_split(size: int, kilobytes: int) -> None:
    data = records(hello(extension(35, bytes(kilobytes * 1000)), server_name(b"A.test")), 900)
    if size == 1:
        data = (
            data[:5000]
            if kilobytes == 0
            else records(hello(extension(35, bytes(2000)), server_name(b"a.test")))
        )
    with Canary(echo) as canary, session(allow("a.test", targets=to(canary, "a.test"))) as wall:
        with wall.connect("tls") as client:
            _say(client, data + b"after", size)
            client.shutdown(socket.SHUT_WR)
            assert read_all(client) == data + b"after"
        assert canary.hits == 1


def _say(client: socket.socket, data: bytes, size: int) -> None:
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        for at in range(0, len(data), size):
            client.sendall(data[at : at + size])
    except (BrokenPipeError, ConnectionResetError):
        return  # refused before all was said


def test_the_name_decides_and_not_the_address_that_was_dialled() -> None:
    """The client connects to what stands for d.test and asks for a.test: its bytes reach a.test alone."""
    with (
        Canary(echo) as a,
        Canary(echo) as d,
        session(allow("a.test", targets=[*to(a, "a.test"), *to(d, "d.test")])) as wall,
    ):
        with wall.connect("tls") as client:
            client.sendall(openssl_hello("a.test"))
            assert client.recv(10)
        assert (a.hits, d.hits) == (1, 0)


def test_a_wildcard_opens_what_is_below_and_not_the_apex() -> None:
    with Canary(echo) as canary, session(allow("*.a.test", targets=to(canary, "x.a.test", "a.test"))) as wall:
        for name, reached in (("x.a.test", True), ("a.test", False)):
            with wall.connect("tls") as client:
                client.sendall(openssl_hello(name))
                assert (client.recv(1) == b"\x16") is reached
        assert canary.hits == 1


def test_a_silent_client_is_shown_out_and_one_that_goes_away_is_no_decision() -> None:
    with session(allow("a.test"), timeouts=Timeouts(hello=0.05)) as wall:
        with wall.connect("tls") as client:
            assert read_all(client) == ALERT
        wall.connect("tls").close()
        (denied,) = wall.finish()["denied"]
        assert denied["code"] == "hello-timeout"


def test_a_half_greeting_does_not_outlive_its_time_by_trickling() -> None:
    with session(allow("a.test"), timeouts=Timeouts(hello=0.2)) as wall, wall.connect("tls") as client:
        data = openssl_hello("a.test")
        client.settimeout(0.01)
        for at in range(len(data) - 1):
            try:
                client.sendall(data[at : at + 1])
                if client.recv(10):
                    break
            except TimeoutError:
                continue
            except ConnectionError:
                break
        assert wall.finish()["denied"][0]["code"] == "hello-timeout"


def test_while_many_greetings_wait_only_a_very_large_one_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay, "HELD_FREELY", 50_000)
    large = records(hello(extension(35, bytes(30_000)), server_name(b"a.test")))

    def refused(wall: Session, data: bytes) -> bool:
        with wall.connect("tls") as client:
            _say(client, data, len(data))
            return client.recv(1) == ALERT[:1]

    with Canary(echo) as canary, session(allow("a.test", targets=to(canary, "a.test"))) as wall:
        assert not refused(wall, large)
        crowd = [wall.connect("tls") for _ in range(10)]
        for each in crowd:
            each.sendall(large[:10_000])
        end = monotonic() + PATIENCE
        while not refused(wall, large):
            assert monotonic() < end, "the crowd is not noticed"
        assert not refused(wall, openssl_hello("a.test"))
        for each in crowd:
            each.close()
        while refused(wall, large):
            assert monotonic() < end, "the crowd is gone and still counts"
        assert {each["code"] for each in wall.finish()["denied"]} == {"too-large", "cut-short"}


def test_an_unreachable_server_is_told_apart_from_a_denied_one() -> None:
    with (
        closed_port() as port,
        session(allow("a.test", targets=[ConnectTo("a.test", None, "127.0.0.1", port)])) as wall,
    ):
        with wall.connect("tls") as client:
            client.sendall(openssl_hello("a.test"))
            assert read_all(client) == ALERT[:6] + b"\x50"  # internal_error
        summary = wall.finish()
        assert summary["denied"] == []
        assert summary["failed"][0]["reason"] == "a.test can't be connected to: Connection refused"
        assert [line["verdict"] for line in wall.log()] == ["failed"]


PRIVATE = [
    "127.0.0.1",
    "10.0.0.1",
    "169.254.169.254",
    "192.168.1.1",
    "::1",
    "fd00::1",
    "::ffff:127.0.0.1",
    "0.0.0.0",
]


@pytest.mark.parametrize("address", PRIVATE)
def test_an_allowed_name_that_resolves_to_a_private_address_is_denied(address: str) -> None:
    with Canary(echo) as canary, session(allow("a.test"), resolve=lambda _host: [address]) as wall:
        with wall.connect("tls") as client:
            client.sendall(openssl_hello("a.test"))
            assert read_all(client) == ALERT
        (denied,) = wall.finish()["denied"]
        assert denied["code"] == "private-address"
        assert denied["reason"].startswith("a.test resolves to ")
        assert denied["hint"].startswith("--connect-to a.test:443=")
        assert canary.hits == 0


def test_the_users_word_lifts_the_veto_for_that_one_name_and_port() -> None:
    with Canary(echo) as canary:
        policy = allow("a.test", "b.test", targets=[ConnectTo("a.test", 443, "127.0.0.1", canary.port)])
        with session(policy, resolve=lambda _host: ["127.0.0.1"]) as wall:
            for name, reached in (("a.test", True), ("b.test", False)):
                with wall.connect("tls") as client:
                    client.sendall(openssl_hello(name))
                    assert (client.recv(1) == b"\x16") is reached
            assert [each["host"] for each in wall.finish()["denied"]] == ["b.test"]


def test_an_address_on_a_named_port_stands_for_no_name_and_is_reset() -> None:
    with Canary(echo) as canary, session(allow("db.test:5432", targets=to(canary, "db.test"))) as wall:
        assert is_reset(lambda: wall.connect("tcp"))
        (denied,) = wall.finish()["denied"]
        assert (denied["code"], denied["host"]) == ("no-name", "127.0.0.1")
        assert canary.hits == 0


def test_a_registry_on_another_port_is_judged_by_its_greeting() -> None:
    endpoint = Endpoint("https", "index.test", 8443, "pip", "pip.conf")
    with Canary(echo) as canary:
        policy = compile_policy("limited", [], [endpoint], True, connect_to=to(canary, "index.test"))
        with session(policy) as wall, wall.connect("tls") as client:
            client.sendall(openssl_hello("index.test"))
            assert read_all(client) == ALERT, "443 was not asked for"
    assert canary.hits == 0


def test_the_log_has_one_line_for_each_decision_and_no_content() -> None:
    with Canary(echo) as canary, session(allow("a.test", targets=to(canary, "a.test"))) as wall:
        for name in ("a.test", "d.test", "a.test"):
            with wall.connect("tls") as client:
                client.sendall(openssl_hello(name) + b"top secret")
                client.shutdown(socket.SHUT_WR)
                read_all(client)
        wall.finish()
        lines = wall.log()
        assert sorted((line["host"], line["verdict"]) for line in lines) == [
            ("a.test", "allowed"),
            ("a.test", "allowed"),
            ("d.test", "denied"),
        ]
        assert all(line["session"] == "s1" and line["port"] == 443 for line in lines)
        assert "secret" not in str(lines)
        allowed = next(line for line in lines if line["verdict"] == "allowed")
        assert allowed["rule"] == "tls a.test 443 (allowed_hosts)"
        assert allowed["sent"] == allowed["received"] > 0
