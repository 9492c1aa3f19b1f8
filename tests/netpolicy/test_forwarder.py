"""DNS that is passed to the host's name servers. Real look-ups in namespaces are in lab_unrestricted.py."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator

import dns.message
import dns.query
import dns.rcode
import dns.rrset
import pytest

from netpolicy.policy import compile_policy
from netpolicy.wall import Timeouts
from tests.netpolicy.looping import Clock
from tests.netpolicy.serving import PATIENCE, Session, session

OPEN = compile_policy("unrestricted")
Reply = Callable[[dns.message.Message, bytes], list[bytes]]


def honest(query: dns.message.Message, _data: bytes) -> list[bytes]:
    response = dns.message.make_response(query)
    response.answer.append(dns.rrset.from_text(query.question[0].name, 60, "IN", "A", "203.0.113.7"))
    return [response.to_wire()]


@contextlib.contextmanager
def server(reply: Reply) -> Iterator[tuple[tuple[str, int], list[bytes]]]:
    """A name server over datagrams that answers with what `reply` makes of a query; and what it heard."""
    heard: list[bytes] = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listening:
        listening.bind(("127.0.0.1", 0))

        def serve() -> None:
            while data := listening.recvfrom(4096):
                if not data[0]:
                    return
                heard.append(data[0])
                for each in reply(dns.message.from_wire(data[0]), data[0]):
                    listening.sendto(each, data[1])

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listening.getsockname(), heard
        finally:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
                last.sendto(b"", listening.getsockname())
            thread.join(PATIENCE)


def ask(wall: Session, name: str = "a.test") -> dns.message.Message:
    host, port = wall.address("dns-udp")
    return dns.query.udp(dns.message.make_query(name, "A"), host, port=port, timeout=PATIENCE)


def test_a_query_is_answered_by_the_host_s_name_server_and_recorded() -> None:
    with server(honest) as (where, heard), session(OPEN, name_servers=lambda: [where]) as wall:
        assert ask(wall).answer[0][0].to_text() == "203.0.113.7"
        assert len(heard) == 1
        (record,) = wall.log()
        assert (record["protocol"], record["host"], record["verdict"]) == ("dns", "a.test", "allowed")
        assert record["sent"] > 0
        assert record["received"] > record["sent"]


def test_a_blocked_name_is_never_asked_for() -> None:
    with server(honest) as (where, heard), session(OPEN, name_servers=lambda: [where]) as wall:
        assert ask(wall, "metadata.google.internal").rcode() == dns.rcode.NXDOMAIN
        assert heard == []
        assert ask(wall, "a.test").answer
        assert [(each["host"], each["code"]) for each in wall.finish()["denied"]] == [
            ("metadata.google.internal", "blocked")
        ]


def other_number(query: dns.message.Message, data: bytes) -> list[bytes]:
    (true,) = honest(query, data)
    return [bytes((data[0] ^ 1,)) + true[1:]]


def other_question(query: dns.message.Message, _data: bytes) -> list[bytes]:
    other = dns.message.make_query("b.test", "A")
    other.id = query.id
    return honest(other, b"")


def no_response(_query: dns.message.Message, data: bytes) -> list[bytes]:
    return [data, b"", b"x"]


@pytest.mark.parametrize("forged", [other_number, other_question, no_response])
def test_what_answers_no_question_is_passed_over(forged: Reply) -> None:
    def both(query: dns.message.Message, data: bytes) -> list[bytes]:
        return [*forged(query, data), *honest(query, data)]

    with server(both) as (where, _heard), session(OPEN, name_servers=lambda: [where]) as wall:
        assert ask(wall).answer[0][0].to_text() == "203.0.113.7"


def test_the_next_server_is_asked_where_one_is_silent_and_none_is_a_failure(clock: Clock) -> None:
    walls: list[Session] = []

    def silent(_query: dns.message.Message, _data: bytes) -> list[bytes]:
        walls[-1].skip(clock, Timeouts().name_server)
        return []

    with server(silent) as (dead, heard), server(honest) as (live, _):
        with session(OPEN, name_servers=lambda: [dead, live]) as wall:
            walls.append(wall)
            assert ask(wall).answer
        with session(OPEN, name_servers=lambda: [dead]) as wall:
            walls.append(wall)
            assert ask(wall).rcode() == dns.rcode.SERVFAIL
            (failed,) = wall.finish()["failed"]
            assert (failed["host"], failed["protocol"]) == ("a.test", "dns")
    assert len(heard) == 2


def test_a_malformed_response_is_a_refusal_and_the_next_query_is_served() -> None:
    def cut_short(query: dns.message.Message, data: bytes) -> list[bytes]:
        (true,) = honest(query, data)
        return [true[:-1]] if query.question[0].name.to_text() == "a.test." else [true]

    with server(cut_short) as (where, _heard), session(OPEN, name_servers=lambda: [where]) as wall:
        assert ask(wall).rcode() == dns.rcode.NXDOMAIN
        assert ask(wall, "b.test").answer


def test_bytes_that_are_no_query_get_the_answer_that_they_get_everywhere() -> None:
    with server(honest) as (where, heard), session(OPEN, name_servers=lambda: [where]) as wall:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.settimeout(PATIENCE)
            client.sendto(b"\x12\x34\x01\x00" + bytes(8), wall.address("dns-udp"))
            assert client.recv(100)[:2] == b"\x12\x34"
        assert heard == []
        assert ask(wall).answer


def test_a_name_with_a_terminals_commands_in_it_is_passed_on_and_recorded_as_plain_text() -> None:
    query = dns.message.make_query(r"\027[31m.test", "A")
    with server(honest) as (where, heard), session(OPEN, name_servers=lambda: [where]) as wall:
        host, port = wall.address("dns-udp")
        assert dns.query.udp(query, host, port=port, timeout=PATIENCE).answer
        assert heard[0][2:] == query.to_wire()[2:]
        assert wall.log()[0]["host"] == r"\027\09131m.test"
