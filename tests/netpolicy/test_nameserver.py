"""DNS over datagrams and streams, as clients meet it."""

from __future__ import annotations

import socket

import dns.message
import dns.query
import dns.rcode
import pytest

from netpolicy.wall import Timeouts
from tests.netpolicy.serving import PATIENCE, allow, read_all, session

QUERY = dns.message.make_query("a.test", "A")


def test_a_datagram_is_answered() -> None:
    with session(allow()) as wall:
        host, port = wall.address("dns-udp")
        response = dns.query.udp(QUERY, host, port=port, timeout=PATIENCE)
        assert response.answer[0][0].to_text().startswith("198.18.")


def test_a_stream_is_answered_with_the_same_address() -> None:
    with session(allow()) as wall:
        answers = []
        for role, ask in (("dns-udp", dns.query.udp), ("dns-tcp", dns.query.tcp)):
            host, port = wall.address(role)
            answers.append(ask(QUERY, host, port=port, timeout=PATIENCE).answer[0][0].to_text())  # type: ignore[operator]
        assert answers[0] == answers[1]


def test_many_queries_in_one_stream_are_answered_in_order_however_they_are_split() -> None:
    queries = [dns.message.make_query(f"n{number}.test", "AAAA") for number in range(300)]
    data = b"".join(len(wire).to_bytes(2, "big") + wire for wire in (query.to_wire() for query in queries))
    with session(allow()) as wall, wall.connect("dns-tcp") as connection:
        connection.sendall(data[:1])
        connection.sendall(data[1:50])
        connection.sendall(data[50:])
        connection.shutdown(socket.SHUT_WR)
        received = b""
        while len(received) < 2 or len(received) < _whole(received, len(queries)):
            piece = connection.recv(65_536)
            if not piece:
                break
            received += piece
        at = 0
        for query in queries:
            size = int.from_bytes(received[at : at + 2], "big")
            assert query.is_response(dns.message.from_wire(received[at + 2 : at + 2 + size]))
            at += 2 + size


def _whole(received: bytes, count: int) -> int:
    """How many octets the messages whose length is known take, at least `count` of them."""
    at = 0
    for _ in range(count):
        if at + 2 > len(received):
            return at + 2
        at += 2 + int.from_bytes(received[at : at + 2], "big")
    return at


def test_nonsense_harms_neither_the_stream_nor_the_next_datagram() -> None:
    with session(allow()) as wall:
        with wall.connect("dns-tcp") as connection:
            connection.sendall(b"\x00\x03abc\x00\x0c\x00\x01" + bytes(10) + b"\x00\x00")
            wire = QUERY.to_wire()
            connection.sendall(len(wire).to_bytes(2, "big") + wire)
            first = connection.recv(14)
            assert first[5] & 15 == dns.rcode.FORMERR
            assert connection.recv(2 + 512)
        host, port = wall.address("dns-udp")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            for junk in (b"", b"x", bytes(11), bytes(4000)):
                sender.sendto(junk, (host, port))
        assert dns.query.udp(QUERY, host, port=port, timeout=PATIENCE).answer


def test_a_silent_stream_is_closed_in_time() -> None:
    with session(allow(), timeouts=Timeouts(hello=0.05)) as wall, wall.connect("dns-tcp") as connection:
        connection.sendall(b"\x00")
        assert read_all(connection) == b""


def test_a_client_that_never_reads_its_answers_is_not_kept_in_memory() -> None:
    wire = QUERY.to_wire()
    data = (len(wire).to_bytes(2, "big") + wire) * 1000
    with session(allow(), timeouts=Timeouts(hello=0.3)) as wall, wall.connect("dns-tcp") as connection:
        connection.settimeout(5)
        with pytest.raises((TimeoutError, ConnectionError)):
            while True:
                connection.sendall(data)


def test_looking_names_up_is_no_decision() -> None:
    with session(allow("a.test")) as wall:
        host, port = wall.address("dns-udp")
        dns.query.udp(dns.message.make_query("d.test", "A"), host, port=port, timeout=PATIENCE)
        assert wall.finish()["denied"] == []
