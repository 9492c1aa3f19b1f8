"""What leaves a session: what its policy allows, and nothing else. Judged by servers that log every hit."""

from __future__ import annotations

import json
import os
import signal
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import trustme

from tests.capabilities import need
from tests.sessions.running import PYTHON, Sandbox, children, control, eventually, mark, marked

ALLOWED, DENIED = "allowed.test", "denied.test"


class Servers(NamedTuple):
    """Ports of a TLS, an HTTP and an echoing server, what each heard, and the file of the authority."""

    tls: int
    http: int
    echo: int
    heard: list[str]
    authority: str
    host: str

    def to(self, host: str = ALLOWED, echo_port: int = 8443) -> tuple[str, ...]:
        """Options that say where ``host`` is."""
        targets = ((443, self.tls), (80, self.http), (echo_port, self.echo))
        return tuple(
            word for port, there in targets for word in ("--connect-to", f"{host}:{port}={self.host}:{there}")
        )


@pytest.fixture(params=["127.0.0.1", "[::1]"], scope="module")
def servers(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """Servers on the host's loopback that serve any name and log it."""
    host = request.param
    if host == "[::1]":
        need("ipv6")
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(ALLOWED, DENIED).configure_cert(context)
    path = str(tmp_path_factory.mktemp("authority") / "ca.pem")
    authority.cert_pem.write_to_path(path)
    heard: list[str] = []
    open_ = []

    def http(client: socket.socket, name: str) -> None:
        data = b""
        while b"\r\n\r\n" not in data:
            piece = client.recv(65536)
            if not piece:
                return
            data += piece
        heard.append(f"{name} {data.decode().lower().partition('host: ')[2].partition(chr(13))[0]}")
        client.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\nconnection: close\r\n\r\nhello\n")

    def tls(client: socket.socket) -> None:
        with context.wrap_socket(client, server_side=True) as secured:
            http(secured, "tls")

    def echo(client: socket.socket) -> None:
        data = client.recv(65536)
        heard.append(f"echo {data!r}")
        client.sendall(data)

    def serve(listening: socket.socket, talk) -> None:  # type: ignore[no-untyped-def]
        while True:
            try:
                client, _ = listening.accept()
            except OSError:
                return
            with client:
                client.settimeout(10)
                try:
                    talk(client)
                except OSError:
                    heard.append("broken")

    threads = []
    family = socket.AF_INET6 if host == "[::1]" else socket.AF_INET
    for talk in (tls, lambda client: http(client, "http"), echo):
        listening = socket.create_server((host.strip("[]"), 0), family=family)
        open_.append(listening)
        threads.append(threading.Thread(target=serve, args=(listening, talk)))
        threads[-1].start()
    ports = [listening.getsockname()[1] for listening in open_]
    yield Servers(*ports, heard, path, host)
    for listening in open_:
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()
    for thread in threads:
        thread.join()


@pytest.fixture(autouse=True)
def forget(servers: Servers) -> None:
    servers.heard.clear()


CURL = """
import socket, ssl, sys, urllib.request
for url in sys.argv[1:]:
    try:
        print(urllib.request.urlopen(url, timeout=10).read().decode().strip())
    except Exception as error:
        print(f'failed: {getattr(error, "code", "")} {type(getattr(error, "reason", error)).__name__}')
        if hasattr(error, 'read'): print(error.read().decode())
"""


def test_an_allowed_name_is_reached_over_tls_that_the_host_trusts(
    either_sandbox: Sandbox, servers: Servers
) -> None:
    env = {"SSL_CERT_FILE": servers.authority}
    command = ("--", PYTHON, "-c", CURL, f"https://{ALLOWED}/")
    done = either_sandbox.run("--allow", ALLOWED, *servers.to(), "--json", *command, env=env)
    assert (done.code, done.out) == (0, "hello\n"), done
    assert servers.heard == [f"tls {ALLOWED}"]
    report = done.report()
    assert report["denied"] == []
    assert [(each["host"], each["port"], each["count"]) for each in report["allowed"]] == [(ALLOWED, 443, 1)]
    assert report["allowed"][0]["received"] > 500


def test_a_name_that_is_not_allowed_is_refused_and_reported(
    either_sandbox: Sandbox, servers: Servers
) -> None:
    """The same server, reached by the allowed name in the same session."""
    env = {"SSL_CERT_FILE": servers.authority}
    where = (*servers.to(), *servers.to(DENIED))
    urls = [f"https://{name}/" for name in (DENIED, ALLOWED, DENIED)]
    done = either_sandbox.run("--allow", ALLOWED, *where, "--json", "--", PYTHON, "-c", CURL, *urls, env=env)
    answers = [line for line in done.out.splitlines() if line.startswith(("failed:", "hello"))]
    assert answers == ["failed: 403 str", "hello", "failed: 403 str"], done
    assert done.out.count(f"{DENIED} is not among the allowed hosts") == 2
    assert servers.heard == [f"tls {ALLOWED}"]
    said = [line for line in done.err.splitlines() if line.startswith("sandboxsh: denied")]
    assert len(said) == 1
    for words in (DENIED, "port 443", "2 times", f"--allow {DENIED}"):
        assert words in said[0]
    (denied,) = done.report()["denied"]
    assert (denied["host"], denied["port"], denied["count"]) == (DENIED, 443, 2)


def test_nothing_is_allowed_by_default(sandbox: Sandbox, servers: Servers) -> None:
    done = sandbox.run(*servers.to(), "--", PYTHON, "-c", CURL, f"https://{ALLOWED}/", f"http://{ALLOWED}/")
    assert done.out.count("failed:") == 2
    assert servers.heard == []
    assert f"denied {ALLOWED} port 443" in done.err
    assert f"denied {ALLOWED} port 80" in done.err


def test_plain_http_needs_port_80_to_be_named(sandbox: Sandbox, servers: Servers) -> None:
    url = f"http://{ALLOWED}/"
    done = sandbox.run("--allow", ALLOWED, *servers.to(), "--", PYTHON, "-c", CURL, url)
    assert "failed: 403" in done.out
    assert f"--allow {ALLOWED}:80" in done.out
    assert f"--allow {ALLOWED}:80" in done.err
    assert servers.heard == []
    done = sandbox.run("--allow", f"{ALLOWED}:80", *servers.to(), "--", PYTHON, "-c", CURL, url)
    assert (done.out, done.err) == ("hello\n", "")
    assert servers.heard == [f"http {ALLOWED}"]


TCP = """
import socket, sys
for target in sys.argv[1:]:
    host, _, port = target.rpartition(':')
    try:
        with socket.create_connection((host, int(port)), timeout=10) as there:
            there.settimeout(10)
            there.sendall(b'ping')
            print(there.recv(100).decode() or 'closed')
    except ConnectionRefusedError: print('refused')
    except OSError as error: print(type(error).__name__)
"""


def test_another_port_is_open_for_the_name_that_it_was_allowed_for(
    either_sandbox: Sandbox, servers: Servers
) -> None:
    where = (*servers.to(), *servers.to(DENIED))
    targets = (f"{ALLOWED}:8443", f"{DENIED}:8443", f"{ALLOWED}:8444", f"{ALLOWED}:22")
    done = either_sandbox.run("--allow", f"{ALLOWED}:8443", *where, "--", PYTHON, "-c", TCP, *targets)
    lines = done.out.splitlines()
    assert lines[0] == "ping"
    assert lines[1] != "ping"
    assert lines[2:] == ["refused", "refused"]
    assert servers.heard == ["echo b'ping'"]
    assert f"denied {DENIED} port 8443" in done.err


def test_an_address_is_no_name_and_reaches_nothing(sandbox: Sandbox, servers: Servers) -> None:
    """The server's own address and port, and 443 of it and others, with the name's positive control."""
    address = servers.host.strip("[]")
    targets = [f"{address}:{servers.tls}", f"{address}:{servers.echo}"]
    targets += [f"{host}:443" for host in (address, "127.0.0.1", "169.254.169.254", "10.0.0.1", "fd00::1")]
    done = sandbox.run(
        "--allow", f"{ALLOWED}:8443", *servers.to(), "--", PYTHON, "-c", TCP, *targets, f"{ALLOWED}:8443"
    )
    lines = done.out.splitlines()
    assert lines[:2] == ["refused", "refused"]
    assert lines[-1] == "ping"
    assert "ping" not in lines[:-1]
    assert servers.heard == ["echo b'ping'"]


def test_a_session_without_a_network_reaches_nothing_and_resolves_nothing(
    either_sandbox: Sandbox, servers: Servers
) -> None:
    script = f"""
import socket
for family, host in ((socket.AF_INET, '127.0.0.1'), (socket.AF_INET, '198.18.0.1'), (socket.AF_INET6, 'fd00::1')):
    for port in (53, 80, 443, {servers.tls}, {servers.echo}):
        try:
            socket.create_connection((host, port), timeout=5)
            print('reached', host, port)
        except OSError: pass
try: print(socket.getaddrinfo('{ALLOWED}', 443))
except socket.gaierror: print('no name')
with socket.create_server(('127.0.0.1', 9)) as own: socket.create_connection(('127.0.0.1', 9)).close()
print('own loopback')
"""
    done = either_sandbox.run("--net", "none", "--", PYTHON, "-c", script)
    assert (done.out, done.err) == ("no name\nown loopback\n", "")
    assert servers.heard == []


UDP = """
import socket, sys
port = int(sys.argv[2])
for family, host in ((socket.AF_INET, sys.argv[1]), (socket.AF_INET, '192.0.2.1'), (socket.AF_INET6, '2001:db8::1')):
    with socket.socket(family, socket.SOCK_DGRAM) as sender:
        sender.settimeout(5)
        try:
            sender.connect((host, port)); sender.send(b'x'); sender.recv(10); print('answered')
        except ConnectionRefusedError: print('refused')
        except OSError as error: print(type(error).__name__)
"""


def test_datagrams_reach_nobody(sandbox: Sandbox, servers: Servers) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as canary:
        canary.bind(("127.0.0.1", 0))
        port = canary.getsockname()[1]
        out = sandbox.ok("--allow", ALLOWED, "--", PYTHON, "-c", UDP, "127.0.0.1", str(port))
        assert "answered" not in out
        assert out.splitlines()[0] == "refused"
        canary.settimeout(0)
        with pytest.raises(BlockingIOError):
            canary.recv(1)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"x", ("127.0.0.1", port))
        canary.settimeout(5)
        assert canary.recv(1) == b"x"


PING = """
import os, socket, struct
def sum_(data):
    total = sum(struct.unpack(f'!{len(data) // 2}H', data))
    return ~((total >> 16) + (total & 0xffff)) & 0xffff
for host in ('192.0.2.1', '127.0.0.1'):
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_RAW, 1) as raw:
            raw.settimeout(0.3)
            head = struct.pack('!BBHHH', 8, 0, 0, 7, 1)
            raw.sendto(struct.pack('!BBHHH', 8, 0, sum_(head), 7, 1), (host, 0))
            while raw.recv(100)[20] != 0: pass
            print('answered')
    except (TimeoutError, PermissionError): print('silent')
"""


def test_a_ping_does_not_pretend_that_the_world_is_there(either_sandbox: Sandbox) -> None:
    assert either_sandbox.python(PING) == "silent\nsilent\n"


def test_names_get_addresses_that_mean_nothing_outside(sandbox: Sandbox) -> None:
    found = sandbox.python(
        f"import socket\nfor name in ('{ALLOWED}', '{DENIED}'):\n"
        "    for found in sorted({each[4][0] for each in socket.getaddrinfo(name, 443)}): print(found)"
    ).splitlines()
    assert len(found) == 4
    assert all(address.startswith(("198.18.", "198.19.", "fd")) for address in found)


def test_the_egress_log_has_a_line_for_each_decision_and_no_secret(
    sandbox: Sandbox, servers: Servers, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    log.write_text("kept\n")
    options = ("--allow", f"{ALLOWED}:80", *servers.to(), "--egress-log", str(log))
    urls = (f"http://{ALLOWED}/secret-path?key=secret", f"http://{DENIED}/secret-path")
    sandbox.run(*options, "--", PYTHON, "-c", CURL, *urls)
    first, *lines = log.read_text().splitlines()
    assert first == "kept"
    assert "secret" not in "".join(lines)
    records = [json.loads(line) for line in lines]
    verdicts = {(each["host"], each["verdict"]) for each in records if each.get("protocol") == "http"}
    assert {host for host, _ in verdicts} == {ALLOWED, DENIED}
    assert len(verdicts) == 2


def test_an_attempt_just_before_the_end_is_reported(sandbox: Sandbox) -> None:
    request = f"GET / HTTP/1.1\\r\\nHost: {DENIED}\\r\\n\\r\\n"
    script = f"import socket\nsocket.create_connection(('{DENIED}', 80)).sendall(b'{request}')"
    for _ in range(3):
        done = sandbox.run("--", PYTHON, "-c", script)
        assert f"denied {DENIED} port 80" in done.err, done


def test_the_sessions_root_can_not_open_the_wall(sandbox: Sandbox, servers: Servers) -> None:
    """It flushes routes and addresses as far as it may, and changes resolv.conf and hosts."""
    script = f"""
    exec 2>/dev/null
    ip route flush table local; ip link set lo down; ip link add x type dummy && echo MADE; nft flush ruleset
    echo '127.0.0.1 {DENIED}' >> /etc/hosts; echo 'nameserver 127.0.0.1' > /etc/resolv.conf
    {PYTHON} -c "import socket
for port in (443, {servers.tls}, {servers.echo}):
    try:
        s = socket.create_connection(('{DENIED}', port), 5); s.sendall(b'x'); s.recv(1)
    except OSError: pass"
    """
    done = sandbox.run("--allow", ALLOWED, *servers.to(), *servers.to(DENIED), "--", "sh", "-c", script)
    assert done.out == ""
    assert servers.heard == []


def test_two_sessions_have_each_their_own_policy(sandbox: Sandbox, servers: Servers) -> None:
    results = {}

    def one(number: int) -> None:
        options = ("--allow", f"{ALLOWED}:8443") if number % 2 else ()
        done = sandbox.run(*options, *servers.to(), "--", PYTHON, "-c", TCP, f"{ALLOWED}:8443")
        results[number] = done.out.strip()

    threads = [threading.Thread(target=one, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {number: "ping" if number % 2 else "refused" for number in range(8)}


def test_the_proxy_is_gone_with_its_session(sandbox: Sandbox, servers: Servers) -> None:
    number = mark()
    options = ("--setenv", f"MARK={number}", "--allow", f"{ALLOWED}:8443", *servers.to())
    script = f'{PYTHON} -c "$0" {ALLOWED}:8443; sleep 1000'
    with sandbox.start(*options, "--", "sh", "-c", script, TCP) as running:
        assert running.stdout is not None and running.stdout.readline() == b"ping\n"
        helpers = children(running.pid)
        assert len(helpers) == 2, "process 1 and the proxy"
        running.kill()
        running.communicate()
    eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in helpers), "the end of the proxy")
    eventually(lambda: not marked(number), "the end of the session")
    sandbox.ok("--", "true")


HELD = """
import socket, sys
for line in sys.stdin:
    there = socket.create_connection(('allowed.test', 8443), timeout=10)
    there.sendall(b'ping')
    print(there.recv(100).decode(), flush=True)
    try: print(there.recv(100) or 'cut', flush=True)
    except OSError as error: print('cut', flush=True)
"""


def test_a_proxy_that_dies_cuts_what_it_carried_and_another_one_starts(
    sandbox: Sandbox, servers: Servers
) -> None:
    def proxy(session: int) -> int:
        (found,) = [
            pid
            for pid in children(session)
            # Process 1 of the session has a number in the session's own namespace as well.
            if len(Path(f"/proc/{pid}/status").read_text().partition("NSpid:")[2].splitlines()[0].split())
            == 1
        ]
        return found

    options = ("--allow", f"{ALLOWED}:8443", *servers.to())
    with sandbox.start(*options, "--", PYTHON, "-c", HELD, stdin=subprocess.PIPE) as running:
        assert running.stdin is not None and running.stdout is not None
        proxies = []
        for _ in range(2):
            running.stdin.write(b"again\n")
            running.stdin.flush()
            assert running.stdout.readline() == b"ping\n"
            proxies.append(proxy(running.pid))
            os.kill(proxies[-1], signal.SIGKILL)
            assert running.stdout.readline() == b"cut\n"
        _, errors = running.communicate()
    assert proxies[0] != proxies[1]
    assert running.returncode == 0
    assert b"the network proxy died 2 times; its connections were cut" in errors


def test_the_hosts_own_proxy_is_dialled_through_by_name(either_sandbox: Sandbox, servers: Servers) -> None:
    """As in a company's network, where no name resolves and nothing leaves but by that proxy."""
    heads: list[str] = []

    def serve(listening: socket.socket) -> None:
        while True:
            try:
                client, _ = listening.accept()
            except OSError:
                return
            with client:
                client.settimeout(10)
                data = b""
                while b"\r\n\r\n" not in data:
                    data += client.recv(65536)
                heads.append(data.decode())
                with socket.create_connection((servers.host.strip("[]"), servers.tls), timeout=10) as there:
                    client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
                    _carry(client, there)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve, args=(listening,))
        thread.start()
        address = f"http://name:secret@127.0.0.1:{listening.getsockname()[1]}"
        env = {"SSL_CERT_FILE": servers.authority, "HTTPS_PROXY": address, "NO_PROXY": "", "https_proxy": ""}
        command = ("--", PYTHON, "-c", CURL, f"https://{ALLOWED}/", f"https://{DENIED}/")
        done = either_sandbox.run("--allow", ALLOWED, "--json", *command, env=env)
        listening.shutdown(socket.SHUT_RDWR)
        thread.join()
    assert done.out.splitlines()[0] == "hello", done
    assert "failed" in done.out.splitlines()[1]
    assert servers.heard == [f"tls {ALLOWED}"]
    assert [head.split("\r\n")[0] for head in heads] == [f"CONNECT {ALLOWED}:443 HTTP/1.1"]
    assert "Proxy-Authorization: Basic bmFtZTpzZWNyZXQ=" in heads[0]
    assert "secret" not in done.err
    variables = either_sandbox.sh("env", env=env)
    assert "PROXY" not in variables.upper().replace("GOPROXY", "")


def _carry(one: socket.socket, other: socket.socket) -> None:
    """Until either side has ended."""
    back = threading.Thread(target=_pour, args=(other, one))
    back.start()
    _pour(one, other)
    back.join()


def _pour(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        return


def test_what_was_learned_is_an_environment_that_suffices(
    either_sandbox: Sandbox, servers: Servers, tmp_path: Path
) -> None:
    need("nft-tproxy")
    where = servers.to(ALLOWED, 8443)
    env = {"SSL_CERT_FILE": servers.authority}
    script = f"{CURL}\nsys.argv = ['', '{ALLOWED}:8443']\n{TCP}"
    command = ("--", PYTHON, "-c", script, f"https://{ALLOWED}/", f"http://{ALLOWED}/")
    everything = "hello\nhello\nping\n"
    written = tmp_path / "learned.yaml"
    done = either_sandbox.run("--learn", str(written), *where, *command, env=env)
    assert (done.code, done.out, done.err) == (0, everything, ""), done
    assert sorted(servers.heard) == ["echo b'ping'", f"http {ALLOWED}", f"tls {ALLOWED}"]
    assert written.read_text().splitlines()[2:] == [
        "  allowed_hosts:",
        f'    - "{ALLOWED}"',
        f'    - "{ALLOWED}:80"',
        f'    - "{ALLOWED}:8443"',
    ]
    done = either_sandbox.run("--env", str(written), *where, *command, env=env)
    assert (done.code, done.out) == (0, everything), done
    done = either_sandbox.run(*where, *command, env=env)
    assert "hello" not in done.out, "nothing of this is allowed without it"


def test_the_other_command_prints_what_was_learned(
    sandbox: Sandbox, servers: Servers, tmp_path: Path
) -> None:
    need("nft-tproxy")
    file = tmp_path / "before.yaml"
    file.write_text('networking: {type: limited, allowed_hosts: ["*.known.test"]}\n')
    command = ("--env", str(file), *servers.to(), "--", PYTHON, "-c", TCP, f"{ALLOWED}:8443", "192.0.2.1:22")
    done = control(sandbox.data, "learn", *command)
    assert done.code == 0, done
    assert done.out.splitlines()[0] == "ping"
    assert "ping" not in done.out.splitlines()[1], "an address is no name, also while learning"
    assert done.err.endswith(
        f'networking:\n  type: limited\n  allowed_hosts:\n    - "*.known.test"\n    - "{ALLOWED}:8443"\n'
    )
    assert control(sandbox.data, "learn", "--", "sh", "-c", "exit 7").code == 7


def test_a_learning_session_reaches_nothing_that_is_not_public(sandbox: Sandbox, servers: Servers) -> None:
    targets = (f"127.0.0.1:{servers.echo}", f"{servers.host.strip('[]')}:{servers.echo}", "10.0.0.1:22")
    done = sandbox.run("--learn", "-", "--", PYTHON, "-c", TCP, *targets)
    assert done.code == 0, done
    assert "ping" not in done.out
    assert servers.heard == []
    assert "allowed_hosts: []" in done.err


@pytest.mark.parametrize("mode", ["none", "unrestricted"])
def test_there_is_nothing_to_learn_without_limits(mode: str, sandbox: Sandbox) -> None:
    done = sandbox.run("--learn", "-", "--net", mode, "--", "true")
    assert (done.code, "--learn" in done.err) == (2, True)
