"""The proxy as its supervisor knows it: start, finish, limits, and real network namespaces."""

from __future__ import annotations

import contextlib
import gc
import json
import os
import shutil
import socket
import ssl
import subprocess
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path

import dns.message
import dns.query
import pytest

from netpolicy import proxy
from netpolicy.certificates import make_authority
from netpolicy.policy import Endpoint, compile_policy
from netpolicy.wall import Timeouts
from tests.capabilities import need
from tests.netpolicy.greetings import openssl_hello
from tests.netpolicy.serving import PATIENCE, Canary, allow, echo, is_reset, read_all, session, to

ROOT = Path(__file__).resolve().parents[2]


def test_what_was_queued_at_the_end_is_still_judged_and_reported() -> None:
    with Canary(echo) as canary, session(allow("a.test", targets=to(canary, "a.test"))) as wall:
        clients = []
        for number in range(50):
            client = wall.connect("tls")
            client.sendall(openssl_hello(f"d{number}.test"))
            client.close()
            clients.append(client)
        http = wall.connect("http")
        http.sendall(b"GET / HTTP/1.1\r\nHost: d.test\r\n\r\n")
        http.close()
        summary = wall.finish()
        assert len(summary["denied"]) == 51
        assert {each["port"] for each in summary["denied"]} == {80, 443}
        assert len(wall.log()) == 51


def test_what_the_session_said_before_its_end_gets_out() -> None:
    heard = bytearray()
    ended = threading.Event()

    def listen(client: socket.socket) -> None:
        while piece := client.recv(65_536):
            heard.extend(piece)
        ended.set()

    hello = openssl_hello("a.test")
    with (
        Canary(listen) as canary,
        session(allow("a.test", targets=to(canary, "a.test")), timeouts=Timeouts(drain=PATIENCE)) as wall,
    ):
        client = wall.connect("tls")
        client.sendall(hello)
        while canary.hits == 0:
            client.sendall(b"x")
        client.sendall(bytes(300_000))
        client.close()
        (allowed,) = wall.finish()["allowed"]
        assert ended.wait(PATIENCE)
        assert allowed["sent"] == len(heard) >= len(hello) + 300_000


def test_the_end_of_the_control_socket_ends_the_proxy_and_its_connections() -> None:
    with Canary(echo) as canary, socket.create_server(("127.0.0.1", 0)) as listening:
        ours, theirs = socket.socketpair()
        policy = allow("a.test", targets=to(canary, "a.test"))
        thread = threading.Thread(
            target=proxy.run,
            args=([proxy.Listener("tls", 443, listening)], policy),
            kwargs={"control": theirs},
        )
        thread.start()
        with socket.create_connection(listening.getsockname(), timeout=PATIENCE) as client:
            client.sendall(openssl_hello("a.test"))
            assert client.recv(1) == b"\x16"
            ours.close()
            thread.join(PATIENCE)
            assert not thread.is_alive()
            assert read_all_or_reset(client)
        theirs.close()


def read_all_or_reset(client: socket.socket) -> bool:
    try:
        read_all(client)
    except ConnectionResetError:
        pass
    return True


def test_an_idle_proxy_reports_nothing() -> None:
    with session(allow()) as wall:
        assert wall.finish() == {
            "allowed": [],
            "denied": [],
            "failed": [],
            "omitted": {"allowed": 0, "denied": 0, "failed": 0},
        }


def test_more_connections_than_the_limit_wait_and_are_served_in_their_turn() -> None:
    with (
        Canary(echo) as canary,
        session(allow("a.test", targets=to(canary, "a.test")), max_connections=2) as wall,
    ):
        hello = openssl_hello("a.test")
        clients = [wall.connect("tls") for _ in range(6)]
        for client in clients:
            client.sendall(hello)
        for client in clients[:2]:
            assert client.recv(1) == b"\x16"
        assert canary.hits == 2
        for number, client in enumerate(clients):
            client.setblocking(True)
            client.settimeout(PATIENCE)
            if number >= 2:
                assert client.recv(1) == b"\x16"
            client.close()
        assert canary.hits == 6


def test_a_flood_of_half_open_connections_does_not_stop_those_that_are_served() -> None:
    with Canary(echo) as canary, session(allow("a.test", targets=to(canary, "a.test"))) as wall:
        hello = openssl_hello("a.test")
        with wall.connect("tls") as served:
            served.sendall(hello)
            flood = [wall.connect("tls") for _ in range(200)]
            for each in flood:
                each.send(hello[:3])
            assert served.recv(len(hello), socket.MSG_WAITALL) == hello
            served.sendall(b"more")
            assert served.recv(4) == b"more"
            for each in flood:
                each.close()


def test_a_shared_port_is_told_apart_by_the_name_and_denied_without_one() -> None:
    endpoint = Endpoint("https", "index.test", 8443, "pip", "pip.conf")
    policy = compile_policy("limited", ["raw.test:8443"], [endpoint], True)
    with session(policy, tcp_port=8443) as wall:
        assert is_reset(lambda: wall.connect("tcp"))
        assert wall.finish()["denied"][0]["code"] == "no-name"


def test_a_log_that_can_t_be_written_is_told_at_the_end() -> None:
    need("user-namespaces")  # any kernel that has those has /dev/full
    ours, theirs = socket.socketpair()
    log = os.open("/dev/full", os.O_WRONLY)
    with socket.create_server(("127.0.0.1", 0)) as listening, ours, theirs:
        thread = threading.Thread(
            target=proxy.run,
            args=([proxy.Listener("tls", 443, listening)], allow()),
            kwargs={"control": theirs, "log": log},
        )
        thread.start()
        with socket.create_connection(listening.getsockname(), timeout=PATIENCE) as client:
            client.sendall(openssl_hello("d.test"))
            read_all(client)
        ours.sendall(b"finish")
        summary = json.loads(read_all(ours))
        thread.join(PATIENCE)
        assert "No space left" in summary["log_error"]
        assert len(summary["denied"]) == 1
    os.close(log)


def test_the_log_has_a_limit_so_that_no_session_fills_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proxy, "MAX_LOG", 1000)
    with session(allow()) as wall:
        for _ in range(20):
            with wall.connect("tls") as client:
                client.sendall(openssl_hello("d.test"))
                read_all(client)
        summary = wall.finish()
        assert summary["denied"][0]["count"] == 20
        assert "1000 bytes" in summary["log_error"]
        assert 0 < len(wall.log()) < 20


def test_serving_leaves_no_descriptor_and_no_thread_behind() -> None:
    def count() -> tuple[int, int]:
        return len(os.listdir("/proc/self/fd")), threading.active_count()

    def once() -> None:
        with Canary(echo) as canary, session(allow("a.test", targets=to(canary, "a.test"))) as wall:
            for name in ("a.test", "d.test"):
                with wall.connect("tls") as client:
                    client.sendall(openssl_hello(name))
                    client.recv(1)

    once()
    gc.collect()
    before = count()
    for _ in range(3):
        once()
    assert count() == before


def test_importing_the_proxy_is_light_and_preloading_brings_all_that_is_left() -> None:
    script = (
        "import sys, netpolicy.proxy as p\n"
        "light = set(sys.modules)\n"
        "heavy = {'asyncio', 'h11', 'ssl', 'logging', 'subprocess', 'threading', 'idna'}\n"
        "heavy |= {'dataclasses', 'inspect', 'ipaddress', 'json'}\n"
        "assert not heavy & light, heavy & light\n"
        "p.preload()\n"
        "assert 'h11' in sys.modules and 'netpolicy.exchange' in sys.modules\n"
    )
    subprocess.run(
        [sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{script}"], check=True
    )


_PRELOADED = """
import socket, sys
sys.path.insert(0, sys.argv[1])
from netpolicy import proxy
from netpolicy.authority import Authority
from netpolicy.policy import ConnectTo, Endpoint, compile_policy

class Refuse:
    def find_spec(self, name, *_):
        print("imported late:", name, file=sys.stderr)

authority = Authority(sys.argv[2].encode(), sys.argv[3].encode())
canary, control, *fds = map(int, sys.argv[4:])
endpoints = [Endpoint("http", "127.0.0.1", 80, "apt", "/etc/apt/sources.list")]
target = ConnectTo("a.test", None, "127.0.0.1", canary)
policy = compile_policy("limited", ["a.test", "a.test:80"], endpoints, True, connect_to=[target])
roles = (("tls", 443), ("http", 80), ("tcp", 5432), ("dns-tcp", 53), ("dns-udp", 53))
listeners = [proxy.Listener(*role, socket.socket(fileno=fd)) for role, fd in zip(roles, fds)]
proxy.preload(authority)
sys.meta_path.insert(0, Refuse())
proxy.run(listeners, policy, control=socket.socket(fileno=control), log=1, session="s", authority=authority)
"""


def test_after_preloading_nothing_is_imported_whatever_the_session_does() -> None:
    with contextlib.ExitStack() as stack:
        canary = stack.enter_context(Canary(answer_http))
        streams = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(4)]
        datagrams = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        datagrams.bind(("127.0.0.1", 0))
        ours, theirs = socket.socketpair()
        ours.settimeout(PATIENCE)
        fds = [theirs.fileno(), *(each.fileno() for each in (*streams, datagrams))]
        refusals = [part.decode() for part in make_authority(datetime.now(UTC))]
        numbers = map(str, (canary.port, *fds))
        command = [sys.executable, "-I", "-c", _PRELOADED, str(ROOT), *refusals, *numbers]
        child = subprocess.Popen(command, pass_fds=fds, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        theirs.close()
        tls, http, tcp, names = (each.getsockname() for each in streams)
        for hello in (openssl_hello("a.test"), openssl_hello("d.test"), openssl_hello(None), b"junk"):
            say(tls, hello)
        with socket.create_connection(tls, timeout=PATIENCE) as plain:
            context = ssl._create_unverified_context()
            with context.wrap_socket(plain, server_hostname="e.test") as client:
                client.sendall(b"GET / HTTP/1.1\r\nHost: e.test\r\n\r\n")
                assert read_all(client).startswith(b"HTTP/1.1 403")
        for host in ("a.test", "d.test", "127.0.0.1", "a b"):
            say(http, f"GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        say(http, b"junk\r\n\r\n")
        assert is_reset(lambda: socket.create_connection(tcp, timeout=PATIENCE))
        query = dns.message.make_query("a.test", "A")
        port = datagrams.getsockname()[1]
        assert dns.query.udp(query, "127.0.0.1", port=port, timeout=PATIENCE).answer
        assert dns.query.tcp(query, "127.0.0.1", port=names[1], timeout=PATIENCE).answer
        ours.sendall(b"finish")
        summary = json.loads(read_all(ours))
        _, errors = child.communicate(timeout=PATIENCE)
        ours.close()
    assert (errors.decode(), child.returncode) == ("", 0)
    assert {(each["protocol"], each["host"]) for each in summary["allowed"]} == {
        ("tls", "a.test"),
        ("http", "a.test"),
    }
    codes = sorted(each["code"] for each in summary["denied"])
    tls_codes, http_codes = (
        ["no-name", "not-allowed", "not-allowed", "not-tls"],
        ["malformed", "not-allowed", "private-address"],
    )
    assert codes == sorted([*tls_codes, *http_codes, "bad-name", "no-name"])
    assert summary["failed"] == []


def answer_http(client: socket.socket) -> None:
    client.recv(65_536)
    client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    client.shutdown(socket.SHUT_WR)


def say(address: tuple[str, int], data: bytes) -> bytes:
    """What comes back for some bytes, up to the end."""
    with socket.create_connection(address, timeout=PATIENCE) as client:
        client.sendall(data)
        client.shutdown(socket.SHUT_WR)
        return read_all(client)


@pytest.mark.parametrize("lab", ["lab_anyip", "lab_world", "lab_unrestricted"])
def test_in_network_namespaces(lab: str) -> None:
    """Each lab is a program of checks that runs as root of namespaces of its own."""
    need("user-namespaces", "ip")
    if lab == "lab_unrestricted":
        need("nft-tproxy")
    unshare = shutil.which("unshare")
    assert unshare is not None
    done = subprocess.run(
        [unshare, "--user", "--map-root-user", "--net", sys.executable, "-m", f"tests.netpolicy.{lab}"],
        cwd=ROOT,
        env={
            **os.environ,
            "PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin",
            "PYTHONDONTWRITEBYTECODE": "1",
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "all held"
