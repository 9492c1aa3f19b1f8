"""Checks inside a network namespace where every address is local, as in a session's.

Run as root of a new user and network namespace; writes "all held" at the end.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading

import dns.message
import dns.query
import dns.reversename

from netpolicy.policy import compile_policy, listening_ports
from netpolicy.proxy import Listener, run
from tests.netpolicy.greetings import openssl_hello
from tests.netpolicy.serving import PATIENCE, Canary, echo, is_reset, read_all, to

_IP_PKTINFO = 8
_FAMILIES = ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::"))


def ip(command: str) -> None:
    subprocess.run(["ip", *command.split()], check=True)


def listen(role: str, port: int, family: int, anywhere: str) -> Listener:
    kind = socket.SOCK_DGRAM if role == "dns-udp" else socket.SOCK_STREAM
    made = socket.socket(family, kind)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    if role == "dns-udp":
        if family == socket.AF_INET:
            made.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
        else:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
    made.bind((anywhere, port))
    if kind == socket.SOCK_STREAM:
        made.listen(128)
    return Listener(role, port, made)  # type: ignore[arg-type]


def connect(address: str, port: int) -> socket.socket:
    return socket.create_connection((address, port), timeout=PATIENCE)


def main() -> None:
    ip("link set lo up")
    ip("route add local 0.0.0.0/0 dev lo")
    ip("-6 route add local ::/0 dev lo")
    with Canary(echo) as canary:
        targets = to(canary, "a.test", "db.test")
        policy = compile_policy("limited", ["a.test", "db.test:5432"], connect_to=targets)
        listeners = [
            listen(role, port, family, anywhere)
            for role, port in listening_ports(policy)
            for family, anywhere in _FAMILIES
        ]
        ours, theirs = socket.socketpair()
        ours.settimeout(PATIENCE)
        thread = threading.Thread(target=run, args=(listeners, policy), kwargs={"control": theirs})
        thread.start()
        try:
            check_names()
            check_connections(canary)
        finally:
            ours.sendall(b"finish")
            summary = json.loads(read_all(ours))
            thread.join(PATIENCE)
        check_summary(summary)
    sys.stdout.write("all held\n")


def check_names() -> None:
    """Any address answers, and from itself: a connected socket takes no datagram from another."""
    for server in ("198.51.100.53", "8.8.8.8", "2001:db8::53", "127.0.0.53"):
        for name, kind in (("db.test", "A"), ("db.test", "AAAA")):
            query = dns.message.make_query(name, kind)
            family = socket.AF_INET6 if ":" in server else socket.AF_INET
            with socket.socket(family, socket.SOCK_DGRAM) as client:
                client.settimeout(PATIENCE)
                client.connect((server, 53))
                client.send(query.to_wire())
                assert query.is_response(dns.message.from_wire(client.recv(2000)))
        assert dns.query.tcp(query, server, timeout=PATIENCE).answer


def address_of(name: str, kind: str) -> str:
    return (
        dns.query.udp(dns.message.make_query(name, kind), "198.18.0.1", timeout=PATIENCE)
        .answer[0][0]
        .to_text()
    )


def check_connections(canary: Canary) -> None:
    hello = openssl_hello("a.test")
    for kind in ("A", "AAAA"):
        address = address_of("db.test", kind)
        with connect(address, 5432) as client:
            client.sendall(b"raw bytes")
            assert client.recv(100) == b"raw bytes"
            assert client.getpeername()[0] == address, "the client sees the address that it chose"
        reverse = dns.message.make_query(dns.reversename.from_address(address), "PTR")
        assert dns.query.udp(reverse, "198.18.0.1", timeout=PATIENCE).answer[0][0].to_text() == "db.test."
    hits = canary.hits
    for address in ("203.0.113.7", "2001:db8::7", address_of("other.test", "A")):
        assert is_reset(lambda address=address: connect(address, 5432))  # type: ignore[misc]
        with connect(address, 443) as client:
            client.sendall(hello)
            assert client.recv(len(hello), socket.MSG_WAITALL) == hello, (
                "the name decides, whatever the address"
            )
            hits += 1
        with connect(address, 443) as client:
            client.sendall(openssl_hello(None))
            assert read_all(client)[-1] == 49
        with connect(address, 80) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n")
            assert b" 403 " in read_all(client)
        for closed in (22, 853, 8443):
            try:
                connect(address, closed)
            except ConnectionRefusedError:
                continue
            sys.exit(f"port {closed} of {address} took a connection")
    lo = socket.if_nametoindex("lo")
    with socket.socket(socket.AF_INET6) as client:
        client.settimeout(PATIENCE)
        client.connect(("fe80::7", 443, 0, lo))
        client.sendall(openssl_hello(None))
        assert read_all(client)[-1] == 49
    assert canary.hits == hits, "nothing but what was allowed arrived"


def check_summary(summary: dict[str, list[dict[str, object]]]) -> None:
    allowed = {(each["protocol"], each["host"], each["port"]): each["count"] for each in summary["allowed"]}
    assert allowed == {("tcp", "db.test", 5432): 2, ("tls", "a.test", 443): 3}, allowed
    denied = {(each["protocol"], each["host"], each["port"], each["code"]) for each in summary["denied"]}
    expected = set()
    for host in ("203.0.113.7", "2001:db8::7", "other.test"):
        expected.add(("tcp", host, 5432, "not-allowed" if host == "other.test" else "no-name"))
        expected.add(("tls", host, 443, "no-name"))
    expected.add(("tls", "fe80::7", 443, "no-name"))
    expected.add(("http", "a.test", 80, "plain-http"))
    assert denied == expected, denied


if __name__ == "__main__":
    main()
