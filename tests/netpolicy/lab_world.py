"""Checks between two network namespaces: a host with a proxy, and a world with servers that count hits.

Run as root of a new user and network namespace; writes "all held" at the end. The world has an address of a
documentation prefix, which stands for a public one, and a private one, which the host reaches just as well.
"""

from __future__ import annotations

import ctypes
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from netpolicy import resolver
from netpolicy.policy import Endpoint, compile_policy
from netpolicy.proxy import Listener, run
from netpolicy.wall import Timeouts
from tests.netpolicy.greetings import openssl_hello
from tests.netpolicy.serving import PATIENCE, Canary, Session, allow, echo, read_all, session, to

PUBLIC, PRIVATE, OWN, ABSENT = "198.51.100.2", "10.9.9.2", "198.51.100.1", "198.51.100.77"
PUBLIC_V6, OWN_V6 = "2001:db8:9::2", "2001:db8:9::1"
SERVERS = (PUBLIC, PRIVATE, PUBLIC_V6)


def ip(command: str) -> None:
    subprocess.run(["ip", *command.split()], check=True)


def world() -> None:
    """The other namespace: a server on port 443 that says which of its addresses was reached."""
    sys.stdin.readline()
    ip("link set lo up")
    ip("link set inner up")
    for address in (f"{PUBLIC}/24", f"{PRIVATE}/24", f"{PUBLIC_V6}/64 nodad"):
        ip(f"address add {address} dev inner")
    with socket.create_server(("::", 443), family=socket.AF_INET6, dualstack_ipv6=True) as server:
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        while True:
            client, _ = server.accept()
            with client:
                client.sendall(str(client.getsockname()[0]).removeprefix("::ffff:").encode() + b"\n")
                client.shutdown(socket.SHUT_WR)
                while client.recv(65_536):
                    pass


def main() -> None:
    ip("link set lo up")
    ip("link add outer type veth peer name inner")
    command = ["unshare", "--net", sys.executable, "-m", "tests.netpolicy.lab_world", "world"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        try:
            move(other.pid)
            other.stdin.write("go\n")
            other.stdin.flush()
            ip("link set outer up")
            for address in (f"{OWN}/24", "10.9.9.1/24", f"{OWN_V6}/64 nodad"):
                ip(f"address add {address} dev outer")
            # Whoever asks for it gets no answer at all, where the kernel would give up by itself before long.
            ip(f"neighbour add {ABSENT} lladdr 02:00:00:00:00:77 dev outer nud permanent")
            assert other.stdout.readline() == "ready\n"
            check()
            check_configured_names()
            check_configured_addresses()
        finally:
            other.kill()
    sys.stdout.write("all held\n")


def move(pid: int) -> None:
    """Give the world its end, once unshare has made its namespace."""
    end = time.monotonic() + PATIENCE
    while os.readlink(f"/proc/{pid}/ns/net") == os.readlink("/proc/self/ns/net"):
        assert time.monotonic() < end
    ip(f"link set inner netns {pid}")


def reached(wall: Session, name: str) -> str:
    """Which address of the world a name led to, or "" when the wall refused."""
    with wall.connect("tls") as client:
        client.sendall(openssl_hello(name))
        client.shutdown(socket.SHUT_WR)
        answer = read_all(client)
    return "" if answer.startswith(b"\x15") else answer.decode().strip()


def check() -> None:
    for address in SERVERS:
        with socket.create_connection((address, 443), timeout=PATIENCE) as client:
            assert client.recv(100).decode().strip() == address, "the host itself reaches every server"
    resolver.FRESH = 0.0
    zone: dict[str, list[Sequence[str]]] = {
        "public.test": [[PUBLIC]],
        "six.test": [[PUBLIC_V6]],
        "private.test": [[PRIVATE]],
        "mapped.test": [[f"::ffff:{PRIVATE}"]],
        "mixed.test": [[PRIVATE, PUBLIC]],
        "own.test": [[OWN]],
        "own6.test": [[OWN_V6]],
        "slow.test": [[ABSENT, PUBLIC]],
        "alternating.test": [[PUBLIC], [PRIVATE], [PUBLIC], [PRIVATE, "127.0.0.1"]],
    }

    def resolve(host: str) -> Sequence[str]:
        answers = zone[host]
        answers.append(answers.pop(0))
        return answers[-1]

    with (
        Canary(echo) as canary,
        session(allow(*zone, targets=to(canary, "named.test")), resolve=resolve) as wall,
    ):
        assert reached(wall, "public.test") == PUBLIC
        assert reached(wall, "six.test") == PUBLIC_V6
        assert reached(wall, "private.test") == ""
        assert reached(wall, "mapped.test") == ""
        assert reached(wall, "mixed.test") == PUBLIC
        assert reached(wall, "own.test") == ""
        assert reached(wall, "own6.test") == ""
        assert Timeouts().connect > PATIENCE
        assert reached(wall, "slow.test") == PUBLIC, "an address that does not answer is passed over"
        assert [reached(wall, "alternating.test") for _ in range(4)] == [PUBLIC, "", PUBLIC, ""]
        summary = wall.finish()
    denied = {each["host"]: each["count"] for each in summary["denied"]}
    assert set(denied) == {"private.test", "mapped.test", "own.test", "own6.test", "alternating.test"}
    assert all(each["code"] == "private-address" for each in summary["denied"])
    assert summary["failed"] == []


def check_configured_names() -> None:
    """A server that a package manager's configuration names may be private, and nothing else."""
    zone = {
        "corp.test": [PRIVATE],
        "default.test": [PRIVATE],
        "learned.test": [PRIVATE],
        "allowed.test": [PRIVATE],
        "named.test": [PRIVATE],
        "loop.test": ["127.0.0.1", "::1"],
        "metadata.test": ["169.254.169.254"],
        "own.test": [OWN],
        "own-private.test": ["10.9.9.1"],
        "mapped.test": [f"::ffff:{PRIVATE}"],
        "mixed.test": ["127.0.0.1", PRIVATE],
    }
    sources = {
        "default.test": "built-in default",
        "learned.test": "the index",
        **dict.fromkeys(("corp.test", "loop.test", "metadata.test", "own.test"), "/etc/pip.conf"),
        **dict.fromkeys(("own-private.test", "mapped.test", "mixed.test"), "environment"),
    }
    endpoints = [Endpoint("https", host, 443, "pip", source) for host, source in sources.items()]
    policy = compile_policy("limited", ["allowed.test"], endpoints, True)
    with session(policy, resolve=zone.__getitem__) as wall:
        assert {name: reached(wall, name) for name in sources} == {
            **dict.fromkeys(sources, ""),
            "corp.test": PRIVATE,
            "mixed.test": PRIVATE,
        }
        assert reached(wall, "allowed.test") == ""
        summary = wall.finish()
    denied = {each["host"]: each["code"] for each in summary["denied"]}
    assert denied == dict.fromkeys(
        {*sources, "allowed.test"} - {"corp.test", "mixed.test"}, "private-address"
    )


def check_configured_addresses() -> None:
    """As above with addresses instead of names, which a TLS greeting can't tell: a session of its own network."""
    named = (PRIVATE, "10.9.9.1", "127.0.0.1")
    policy = compile_policy(
        "limited", [], [Endpoint("https", each, 443, "npm", "/root/.npmrc") for each in named], True
    )
    ours, theirs = socket.socketpair()
    with ThreadPoolExecutor(1) as inside, ours, theirs:
        listening = inside.submit(network_of_a_session).result()
        thread = threading.Thread(
            target=run, args=([Listener("tls", 443, listening)], policy), kwargs={"control": theirs}
        )
        thread.start()
        try:
            answers = {
                address: inside.submit(nameless, address).result() for address in (*named, PUBLIC, "10.9.9.3")
            }
        finally:
            ours.sendall(b"finish")
            summary = json.loads(read_all(ours))
            thread.join(PATIENCE)
            listening.close()
    assert answers == {**dict.fromkeys(answers, ""), PRIVATE: PRIVATE}
    assert {each["host"]: each["code"] for each in summary["denied"]} == {
        "10.9.9.1": "private-address",
        "127.0.0.1": "private-address",
        PUBLIC: "no-name",
        "10.9.9.3": "no-name",
    }
    assert [each["host"] for each in summary["allowed"]] == [PRIVATE]


def network_of_a_session() -> socket.socket:
    """Give this thread a network where every address is local; its listener on port 443."""
    new_network = 0x40000000
    if ctypes.CDLL(None, use_errno=True).unshare(new_network) != 0:
        raise OSError(ctypes.get_errno(), "unshare")
    ip("link set lo up")
    ip("route add local 0.0.0.0/0 dev lo")
    return socket.create_server(("0.0.0.0", 443))


def nameless(address: str) -> str:
    """What a greeting without a name led to at an address, or "" when the wall refused."""
    with socket.create_connection((address, 443), timeout=PATIENCE) as client:
        client.sendall(openssl_hello(None))
        client.shutdown(socket.SHUT_WR)
        answer = read_all(client)
    return "" if answer.startswith(b"\x15") else answer.decode().strip()


if __name__ == "__main__":
    world() if sys.argv[1:] == ["world"] else main()
