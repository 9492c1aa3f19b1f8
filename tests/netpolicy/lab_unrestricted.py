"""Checks of unrestricted networking between three network namespaces: a session's, the host's, and a world.

Run as root of a new user and network namespace; writes "all held" at the end. Addresses of the documentation
prefixes stand for public ones.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import dns.flags
import dns.message
import dns.query
import dns.rcode
import dns.rrset

from netpolicy import datagrams
from netpolicy.blocklist import parse_blocklist
from netpolicy.policy import compile_policy, listening_ports
from netpolicy.proxy import Listener, run
from sandbox import netns
from tests.netpolicy.serving import PATIENCE, read_all

PUBLIC, PRIVATE, OPENED, OWN, BLOCKED = (
    "198.51.100.2",
    "10.9.9.2",
    "10.8.8.2",
    "198.51.100.1",
    "198.51.100.66",
)
PUBLIC_V6, OWN_V6 = "2001:db8:9::2", "2001:db8:9::1"
EVERYWHERE = (PUBLIC, PRIVATE, OPENED, BLOCKED, PUBLIC_V6)
ZONE = {
    ("public.test.", "A"): PUBLIC,
    ("public.test.", "AAAA"): PUBLIC_V6,
    ("private.test.", "A"): PRIVATE,
    # Nobody has its IPv6 address, though there is a way to it.
    ("half.test.", "A"): PUBLIC,
    ("half.test.", "AAAA"): "2001:db8:9::77",
    ("metadata.google.internal.", "A"): "169.254.169.254",
    ("listed.test.", "A"): PUBLIC,
    ("deep.listed-below.test.", "A"): PUBLIC,
    ("public.test.", "MX"): "10 mail.public.test.",
}
PORTS = (22, 443, 8443, 65_000)
ALIAS = "alias.test."
BIG = "big.test."


def ip(command: str) -> None:
    subprocess.run(["ip", *command.split()], check=True)


def world() -> None:
    """Servers on several TCP ports and a UDP port, and a name server; each hit is a line on standard output."""
    sys.stdin.readline()
    ip("link set lo up")
    ip("link set inner up")
    for address in (f"{PUBLIC}/24", f"{BLOCKED}/24", f"{PRIVATE}/24", f"{OPENED}/24"):
        ip(f"address add {address} dev inner")
    ip(f"address add {PUBLIC_V6}/64 dev inner nodad")
    lock = threading.Lock()

    def hit(*words: object) -> None:
        with lock:
            sys.stdout.write(" ".join(str(word) for word in words) + "\n")
            sys.stdout.flush()

    for port in PORTS:
        server = socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True)
        threading.Thread(target=serve, args=(server, hit), daemon=True).start()
    for port, answer in ((53, name_server), (999, lambda data: b"heard " + data)):
        datagrams = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        datagrams.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        datagrams.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        datagrams.bind(("::", port))
        threading.Thread(target=serve_datagrams, args=(datagrams, port, answer, hit), daemon=True).start()
    names = socket.create_server(("::", 53), family=socket.AF_INET6, dualstack_ipv6=True)
    threading.Thread(target=serve_names, args=(names,), daemon=True).start()
    hit("ready")
    threading.Event().wait()


def serve(server: socket.socket, hit: Callable[..., None]) -> None:
    while True:
        client, _ = server.accept()
        there = str(client.getsockname()[0]).removeprefix("::ffff:")
        hit("tcp", there, client.getsockname()[1])
        with client:
            # It speaks first, as mail and SSH servers do.
            client.sendall(f"at {there}\n".encode())
            while data := client.recv(65_536):
                client.sendall(data)


def serve_datagrams(
    server: socket.socket, port: int, answer: Callable[[bytes], bytes], hit: Callable[..., None]
) -> None:
    while True:
        data, control, _, sender = server.recvmsg(65_536, 200)
        there = socket.inet_ntop(socket.AF_INET6, control[0][2][:16]).removeprefix("::ffff:")
        if port != 53:
            hit("udp", there, port)
        server.sendmsg([answer(data)], control, 0, sender)


def serve_names(server: socket.socket) -> None:
    while True:
        client, _ = server.accept()
        with client:
            length = int.from_bytes(client.recv(2, socket.MSG_WAITALL), "big")
            answer = name_server(client.recv(length, socket.MSG_WAITALL), stream=True)
            client.sendall(len(answer).to_bytes(2, "big") + answer)


def name_server(data: bytes, stream: bool = False) -> bytes:
    query = dns.message.from_wire(data)
    response = dns.message.make_response(query)
    asked = query.question[0]
    kind = asked.rdtype.name
    name = asked.name.to_text().lower()
    if name == ALIAS:
        response.answer.append(dns.rrset.from_text(asked.name, 60, "IN", "CNAME", "listed.test."))
        response.answer.append(dns.rrset.from_text("listed.test.", 60, "IN", "A", PUBLIC))
    elif name == BIG and not stream:
        response.flags |= dns.flags.TC
    elif name == BIG:
        texts = [f'"{number:03}{"x" * 200}"' for number in range(50)]
        response.answer.append(dns.rrset.from_text(asked.name, 60, "IN", "TXT", *texts))
    elif (name, kind) in ZONE:
        response.answer.append(dns.rrset.from_text(asked.name, 60, "IN", kind, ZONE[name, kind]))
    else:
        response.set_rcode(dns.rcode.NXDOMAIN)
    return response.to_wire()


def move(pid: int) -> None:
    end = time.monotonic() + PATIENCE
    while os.readlink(f"/proc/{pid}/ns/net") == os.readlink("/proc/self/ns/net"):
        assert time.monotonic() < end
    ip(f"link set inner netns {pid}")


def main() -> None:
    ip("link set lo up")
    ip("link add outer type veth peer name inner")
    command = ["unshare", "--net", sys.executable, "-m", "tests.netpolicy.lab_unrestricted", "world"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        try:
            move(other.pid)
            other.stdin.write("go\n")
            other.stdin.flush()
            ip("link set outer up")
            for address in (f"{OWN}/24", "10.9.9.1/24", "10.8.8.1/24"):
                ip(f"address add {address} dev outer")
            ip(f"address add {OWN_V6}/64 dev outer nodad")
            ip(f"route add default via {PUBLIC}")
            ip(f"-6 route add default via {PUBLIC_V6}")
            assert other.stdout.readline() == "ready\n"
            with socket.create_server((OWN, 443)), socket.create_server(("127.0.0.1", 8443)):
                hits = check()
            for _ in range(hits):
                other.stdout.readline()
            with socket.create_connection((PRIVATE, 22), timeout=PATIENCE) as client:
                client.recv(100)
            last = other.stdout.readline()
            assert last == f"tcp {PRIVATE} 22\n", f"a hit that nobody counted: {last}"
        finally:
            other.kill()
    sys.stdout.write("all held\n")


def check() -> int:
    """Everything that a session may and may not reach; returns how often the world was reached."""
    for address in EVERYWHERE:
        assert outcome(address, 443) == f"at {address}", "the host itself reaches every server"
    hits = len(EVERYWHERE)
    listed = f"{BLOCKED}  # an address\nlisted.test\n*.listed-below.test\n"
    datagrams.MAX_FLOWS = 8
    policy = compile_policy("unrestricted", blocks=parse_blocklist(listed, "list"), private=["10.8.8.0/24"])
    ours, theirs = socket.socketpair()
    with ThreadPoolExecutor(1) as inside, ours, theirs:
        listeners = inside.submit(network_of_a_session, policy).result()
        thread = threading.Thread(
            target=run,
            args=(listeners, policy),
            kwargs={
                "control": theirs,
                "name_servers": lambda: [(OWN, 54), (PUBLIC, 53)],
            },
        )
        thread.start()
        try:
            hits += inside.submit(check_inside).result()
        finally:
            ours.sendall(b"finish")
            summary = json.loads(read_all(ours))
            thread.join(PATIENCE)
            for each in listeners:
                each.socket.close()
    check_summary(summary)
    return hits


def network_of_a_session(policy: Any) -> list[Listener]:
    """Give this thread a network as sessions have it, with its listeners."""
    new_network = 0x40000000
    if ctypes.CDLL(None, use_errno=True).unshare(new_network) != 0:
        raise OSError(ctypes.get_errno(), "unshare")
    netns.bring_up()
    netns.make_all_local()
    listening, sockets = netns.listen(listening_ports(policy))
    netns.capture(listening, sockets)
    return [
        Listener(entry.role, entry.port, each)  # type: ignore[arg-type]
        for entry, each in zip(listening, sockets, strict=True)
    ]


def outcome(address: str, port: int) -> str:
    try:
        with socket.create_connection((address, port), timeout=PATIENCE) as client:
            assert client.getpeername()[0] == address
            client.settimeout(PATIENCE)
            said = client.recv(100).decode().strip()
            if said:
                client.sendall(b"echo?")
                assert client.recv(100) == b"echo?"
            return said
    except OSError as error:
        # A reset that comes before getpeername leaves it a socket that is no longer connected.
        return "ConnectionResetError" if error.errno == errno.ENOTCONN else type(error).__name__


def datagram(address: str, port: int, connected: bool = True, data: bytes = b"x") -> str:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as client:
        client.settimeout(PATIENCE)
        try:
            if connected:
                client.connect((address, port))
                client.send(data)
                return client.recv(70_000).decode()
            client.sendto(data, (address, port))
            answer, sender = client.recvfrom(70_000)
        except OSError as error:
            return type(error).__name__
        assert sender[:2] == (address, port)
        return answer.decode()


def check_inside() -> int:
    hits = 0
    reset = ("ConnectionResetError", "")
    for port in PORTS:
        for address in (PUBLIC, PUBLIC_V6, OPENED):
            assert outcome(address, port) == f"at {address}", (address, port)
            hits += 1
        for address in (PRIVATE, BLOCKED):
            assert (got := outcome(address, port)) in reset, (address, port, got)
    # What listens on the host itself, by each of its addresses, and what no packet should ever ask for.
    for address in (OWN, OWN_V6, "10.9.9.1", "169.254.169.254", "192.168.1.1", "fd00::1", "::ffff:127.0.0.1"):
        assert outcome(address, 443) in (*reset, "ConnectionRefusedError"), address
    assert outcome("127.0.0.1", 8443) == "ConnectionRefusedError", "loopback is the session's own"
    with socket.create_server(("127.0.0.1", 0)) as own:
        socket.create_connection(own.getsockname(), timeout=PATIENCE).close()
    assert outcome(PUBLIC, 9) in reset, "nothing listens there"
    for address in (PUBLIC, PUBLIC_V6):
        for connected in (True, False):
            assert datagram(address, 999, connected) == "heard x", (address, connected)
            hits += 1
    long = b"l" * 40_000
    assert datagram(PUBLIC, 999, data=long) == "heard " + long.decode()
    hits += 1
    hits += check_many_flows()
    for address in (PRIVATE, BLOCKED, OWN, "169.254.169.254", "fd00::1"):
        assert datagram(address, 999) == "ConnectionRefusedError", address
    assert datagram(PUBLIC, 998) == "ConnectionRefusedError", "nothing listens there"
    check_names()
    return hits + check_flood()


def check_flood() -> int:
    """Many more pairs of ports than flows: sockets outside keep to their limit, and the last is served as the first."""
    usual, datagrams.MAX_FLOWS = datagrams.MAX_FLOWS, 50
    try:
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(200):
            assert datagram(PUBLIC, 999) == "heard x"
            assert datagram(PRIVATE, 999) == "ConnectionRefusedError"
        kept = len(os.listdir("/proc/self/fd")) - before
        assert kept <= datagrams.MAX_FLOWS, kept
    finally:
        datagrams.MAX_FLOWS = usual
    return 200


def check_many_flows() -> int:
    """More at once than are kept: the quietest makes room, and is opened again when it speaks."""
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) for _ in range(20)]
        for client in (*clients, *clients):
            client.settimeout(PATIENCE)
            client.connect((PUBLIC, 999))
            client.send(b"many")
            assert client.recv(100) == b"heard many"
    return 40


def check_names() -> None:
    """At the session's resolver, over datagrams and streams; at the first of the host's name servers nobody listens."""
    for ask in (dns.query.udp, dns.query.tcp):
        for server in ("198.18.0.1", "fd5b:9a7c:31e0::1"):

            def answer(name: str, kind: str) -> dns.message.Message:
                query = dns.message.make_query(name, kind)
                return ask(query, server, timeout=PATIENCE)  # type: ignore[operator, no-any-return]  # noqa: B023

            for (name, kind), data in ZONE.items():
                found = answer(name, kind)
                if name.startswith(("metadata", "listed", "deep.listed")):
                    assert found.rcode() == dns.rcode.NXDOMAIN, name
                else:
                    assert found.answer[0][0].to_text() == data, name
            assert answer("absent.test.", "A").rcode() == dns.rcode.NXDOMAIN
            assert answer(ALIAS, "A").rcode() == dns.rcode.NXDOMAIN, "it leads to a blocked name"
            assert answer("localhost.", "A").answer[0][0].to_text() == "127.0.0.1"
            big = answer(BIG, "TXT")
            assert (len(big.answer[0]) == 50) if ask is dns.query.tcp else big.flags & dns.flags.TC
        direct = ask(dns.message.make_query("public.test.", "A"), PUBLIC, timeout=PATIENCE)  # type: ignore[operator]
        assert direct.answer[0][0].to_text() == PUBLIC, "any other resolver can be asked as well"


def check_summary(summary: dict[str, Any]) -> None:
    allowed = {(each["protocol"], each["host"], each["port"]) for each in summary["allowed"]}
    for address in (PUBLIC, PUBLIC_V6, OPENED):
        assert ("tcp", address, 22) in allowed, allowed
    assert ("udp", PUBLIC, 999) in allowed
    assert ("dns", "public.test", 53) in allowed
    denied = {(each["protocol"], each["host"], each["code"]) for each in summary["denied"]}
    for protocol in ("tcp", "udp"):
        assert (protocol, PRIVATE, "private-address") in denied, denied
        assert (protocol, BLOCKED, "blocked") in denied
        assert (protocol, OWN, "private-address") in denied
    assert ("dns", "metadata.google.internal", "blocked") in denied
    assert ("dns", "alias.test", "blocked") in denied
    hints = {each["host"]: each["hint"] for each in summary["denied"]}
    assert hints[PRIVATE] == f"--allow-private {PRIVATE}/32"
    assert hints[OWN] == ""
    assert not [each for each in summary["failed"] if each["code"] == "internal"], summary["failed"]


if __name__ == "__main__":
    world() if sys.argv[1:] == ["world"] else main()
