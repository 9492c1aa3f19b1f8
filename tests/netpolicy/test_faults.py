"""A fault in what serves one connection ends that connection, opens nothing, and leaves the others alone."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import dns.message
import dns.query
import pytest

from netpolicy import dns as wire
from netpolicy import outlet, proxy, streams
from netpolicy.reactor import READ, Reactor
from tests.netpolicy.greetings import openssl_hello
from tests.netpolicy.looping import connection, settle
from tests.netpolicy.serving import PATIENCE, Canary, Session, allow, echo, read_all, session, to


class Bug(Exception):
    """What no handler expects. Its text must not get out."""


def failing(original: Callable[..., Any], concerns: Callable[..., bool]) -> Callable[..., Any]:
    """The same function, but for the calls that are concerned."""

    def call(*arguments: Any, **named: Any) -> Any:
        if concerns(*arguments):
            raise Bug("secret")
        return original(*arguments, **named)

    return call


def cut(wall: Session, role: str, data: bytes) -> bytes:
    """What a client gets before its connection is cut, by a reset or by its end."""
    got = b""
    with wall.connect(role) as client:
        try:
            client.sendall(data)
            while piece := client.recv(65_536):
                got += piece
        except ConnectionError:
            pass
    return got


def request(host: str) -> bytes:
    return f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()


FAULTS: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "judging": lambda patch: patch.setattr(
        streams, "decide", failing(streams.decide, lambda _, asked: asked.host == "bug.test")
    ),
    "relaying": lambda patch: patch.setattr(
        streams.Stream,
        "_reached",
        failing(streams.Stream._reached, lambda stream, _: stream._host == "bug.test"),
    ),
    "recording": lambda patch: patch.setattr(
        streams.Stream,
        "_deny",
        failing(streams.Stream._deny, lambda stream, _: stream._host == "bug.test"),
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_in_one_tls_connection_leaves_the_others_alone(
    fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    FAULTS[fault](monkeypatch)
    hosts = ["a.test"] if fault == "recording" else ["a.test", "bug.test"]
    hello = openssl_hello("a.test")
    with Canary(echo) as canary, Canary(echo) as behind:
        targets = [*to(canary, "a.test"), *to(behind, "bug.test")]
        with session(allow(*hosts, targets=targets)) as wall:
            with wall.connect("tls") as before:
                before.sendall(hello)
                assert before.recv(len(hello), socket.MSG_WAITALL) == hello
                assert cut(wall, "tls", openssl_hello("bug.test")) == b""
                before.sendall(b"more")
                assert before.recv(4) == b"more"
            with wall.connect("tls") as after:
                after.sendall(hello)
                assert after.recv(len(hello), socket.MSG_WAITALL) == hello
            summary = wall.finish()
            (failed,) = summary["failed"]
            assert (failed["host"], failed["port"], failed["code"]) == ("bug.test", 443, "internal")
            assert "fault of the proxy itself" in failed["reason"]
            assert "Bug at test_faults.py:" in failed["reason"]
            assert "secret" not in str(wall.log())
            assert [(each["host"], each["count"]) for each in summary["allowed"]] == [("a.test", 2)]
            assert summary["denied"] == []
        assert behind.hits <= (fault == "relaying")
        assert behind.heard == []


def test_a_fault_behind_the_resolver_leaves_the_others_alone() -> None:
    def resolve(host: str) -> list[str]:
        return [None] if host == "bug.test" else []  # type: ignore[list-item]

    with session(allow("a.test", "bug.test"), resolve=resolve) as wall:
        assert cut(wall, "tls", openssl_hello("bug.test")) == b""
        assert cut(wall, "tls", openssl_hello("a.test"))[-1] == 80
        assert {each["host"]: each["code"] for each in wall.finish()["failed"]} == {
            "bug.test": "internal",
            "a.test": "resolve",
        }


def test_a_fault_in_one_http_connection_leaves_the_others_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    concerned = failing(outlet.decide, lambda _, asked: asked.host == "bug.test")
    monkeypatch.setattr(outlet, "decide", concerned)
    with Canary(echo) as canary, session(allow("bug.test:80", targets=to(canary, "bug.test"))) as wall:
        assert cut(wall, "http", request("bug.test")) == b""
        assert b" 403 " in cut(wall, "http", request("d.test"))
        summary = wall.finish()
        assert canary.hits == 0
    assert [(each["protocol"], each["code"]) for each in summary["failed"]] == [("http", "internal")]
    assert [each["host"] for each in summary["denied"]] == ["d.test"]


def test_a_fault_while_a_name_is_answered_leaves_the_name_server_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(wire, "answer", failing(wire.answer, lambda message, _: b"bug" in message))
    with session(allow()) as wall, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        host, port = wall.address("dns-udp")
        client.sendto(dns.message.make_query("bug.test", "A").to_wire(), (host, port))
        bug = dns.message.make_query("bug.test", "A").to_wire()
        assert cut(wall, "dns-tcp", len(bug).to_bytes(2, "big") + bug) == b""
        good = dns.message.make_query("a.test", "A")
        assert dns.query.udp(good, host, port=port, timeout=PATIENCE).answer
        assert dns.query.tcp(good, host, port=wall.address("dns-tcp")[1], timeout=PATIENCE).answer
        (failed,) = wall.finish()["failed"]
    assert (failed["protocol"], failed["code"], failed["count"]) == ("dns", "internal", 2)


def test_a_fault_before_a_connection_is_anyones_cuts_it(monkeypatch: pytest.MonkeyPatch) -> None:
    original = proxy._Door._connection
    faulty = failing(original, lambda _door, listener, _client: listener.role == "tcp")
    monkeypatch.setattr(proxy._Door, "_connection", faulty)
    with session(allow()) as wall:
        assert cut(wall, "tcp", b"") == b""
        with wall.connect("tls") as client:
            client.sendall(openssl_hello("d.test"))
            assert read_all(client)[-1] == 49
        summary = wall.finish()
    assert [each["code"] for each in summary["failed"]] == ["internal"]
    assert [each["host"] for each in summary["denied"]] == ["d.test"]


def test_a_fault_at_the_end_still_lets_the_summary_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams.Stream, "finish", failing(streams.Stream.finish, lambda _: True))
    hello = openssl_hello("a.test")
    with (
        Canary(echo) as canary,
        session(allow("a.test", targets=to(canary, "a.test"))) as wall,
        wall.connect("tls") as client,
    ):
        client.sendall(hello)
        assert client.recv(len(hello), socket.MSG_WAITALL) == hello
        summary = wall.finish()
        with pytest.raises(ConnectionResetError):
            read_all(client)
    assert [(each["host"], each["code"]) for each in summary["failed"]] == [("a.test", "internal")]


def test_nothing_more_is_called_for_an_owner_that_broke_and_what_has_no_owner_ends_the_loop() -> None:
    broken: list[tuple[object, str]] = []
    called: list[str] = []
    one, other = connection()

    def fail(_event: int) -> None:
        raise Bug("once")

    with one, other, Reactor(lambda owner, error: broken.append((owner, str(error)))) as reactor:
        reactor.run_as("them", lambda: reactor.watch(one.fileno(), READ, fail))
        reactor.run_as(
            "them", lambda: called.append("now") or reactor.after(0.01, lambda: called.append("them"))
        )  # type: ignore[func-returns-value]
        reactor.run_as("us", lambda: reactor.after(0.01, lambda: called.append("us")))
        other.send(b"x")
        while "us" not in called:
            reactor.turn(1)
        settle(reactor)
        assert broken == [("them", "once")]
        assert called == ["now", "us"]
        reactor.watch(one.fileno(), READ, fail)
        with pytest.raises(Bug):
            reactor.turn(1)
