"""Classes 1 to 23 of the wall, from inside whole sessions: judged by servers that log every byte they get.

The proxy's own decisions are tested in tests/netpolicy, and what people see of them in tests/sessions/test_network.py.
Here a program that knows the wall goes around, under and through it (docs/threats/names.md and the pages after it).
Both the allowed and the denied name lead to the same servers, so that a hole would be a hit.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from tests.capabilities import need
from tests.sessions.running import PYTHON, Sandbox, children, eventually

ALLOWED, DENIED = "allowed.test", "denied.test"
WHOLE = b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nyes"


class Canary(NamedTuple):
    """One port that takes connections and datagrams, and all that it was told."""

    host: str
    port: int
    told: list[bytes]

    def heard(self) -> bytes:
        return b"".join(self.told)

    def options(self) -> tuple[str, ...]:
        """Both names and every port that is tried lead to the canary."""
        there = f"[{self.host}]" if ":" in self.host else self.host
        return tuple(
            word
            for name in (ALLOWED, DENIED, f"evil{ALLOWED}", f"{ALLOWED}.evil.test", f"sub.{ALLOWED}")
            for port in (80, 443, 8443)
            for word in ("--connect-to", f"{name}:{port}={there}:{self.port}")
        )


@pytest.fixture(params=["127.0.0.1", "::1"])
def canary(request: pytest.FixtureRequest) -> Iterator[Canary]:
    if request.param == "::1":
        need("ipv6")
    family = socket.AF_INET6 if request.param == "::1" else socket.AF_INET
    told: list[bytes] = []
    with one_port(request.param, family) as (server, datagrams):
        port = server.getsockname()[1]

        def talk(client: socket.socket) -> None:
            with client:
                client.settimeout(10)
                try:
                    while data := client.recv(65536):
                        told.append(data)
                        if data.startswith((b"GET", b"POST", b"HEAD", b"OPTIONS")):
                            client.sendall(WHOLE)
                        else:
                            client.sendall(b"heard you")
                except OSError:
                    return

        def accept() -> None:
            while True:
                try:
                    client, _ = server.accept()
                except OSError:
                    return
                threading.Thread(target=talk, args=(client,), daemon=True).start()

        def listen() -> None:
            while True:
                data = datagrams.recv(65536)
                if data == b"over":
                    return
                told.append(data)

        threads = [threading.Thread(target=accept), threading.Thread(target=listen)]
        for thread in threads:
            thread.start()
        yield Canary(request.param, port, told)
        server.shutdown(socket.SHUT_RDWR)
        with socket.socket(family, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"over", (request.param, port))
        for thread in threads:
            thread.join()


@contextlib.contextmanager
def one_port(host: str, family: int) -> Iterator[tuple[socket.socket, socket.socket]]:
    """A listening socket and one for datagrams on the same port, which another program may have for either."""
    for _ in range(100):
        with (
            socket.create_server((host, 0), family=family) as server,
            socket.socket(family, socket.SOCK_DGRAM) as other,
        ):
            try:
                other.bind((host, server.getsockname()[1]))
            except OSError:
                continue
            yield server, other
            return
    raise AssertionError("no port is free for both")


COMMON = r"""
import socket, sys, ssl, struct
A, D = 'allowed.test', 'denied.test'
def tell(host, port, data, quiet=False):
    try:
        with socket.create_connection((host, port), timeout=10) as there:
            there.sendall(data); there.shutdown(1)
            got = b''
            while piece := there.recv(65536): got += piece
            return got
    except OSError as error: return type(error).__name__.encode()
def hello(name):
    ours, theirs = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.create_default_context(); context.check_hostname = False; context.verify_mode = ssl.CERT_NONE
    try: context.wrap_bio(ours, theirs, server_hostname=name).do_handshake()
    except ssl.SSLWantReadError: pass
    return theirs.read()
def address(name): return socket.getaddrinfo(name, 443, type=socket.SOCK_STREAM)[0][4][0]
"""


def attack(sandbox: Sandbox, canary: Canary, script: str, *options: str) -> str:
    done = sandbox.run(*options, *canary.options(), "--", PYTHON, "-Ic", COMMON + script)
    assert done.code == 0, done
    return done.out


FRONTS = r"""
tries = [(D, D), (D, None), ('evil' + A, 'evil' + A), (A + '.evil.test', A + '.evil.test'), ('sub.' + A, 'sub.' + A),
         (A, D), (address(D), D), ('127.0.0.1', D), ('::1', D), ('169.254.169.254', None), ('192.0.2.1', None),
         ('::ffff:127.0.0.1', None), (A, 'a' * 60 + '.' + D)]
for host, name in tries:
    tell(host, 443, hello(name) + b'MARK-denied')
for data in (b'MARK-nonsense', b'\x16\x03\x01', hello(A)[:-1], hello(A)[:60], b'SSH-2.0-MARK\r\n',
             b'\x16\x03\x01\x00\x00', hello(A).replace(b'allowed.test', b'allowed\x00test'),
             hello(A).replace(b'allowed.test', b'allowed.tes.')):
    tell(A, 443, data)
two = hello(A)
tell(A, 443, two[:5] + two[5:].replace(b'allowed.test', b'denied.test.'))
print('tried')
"""
GOOD_TLS = (
    "print(tell(A, 443, hello(A) + b'MARK-allowed'), tell(address(D), 443, hello(A) + b'MARK-by-name'))"
)


def test_no_greeting_but_that_of_an_allowed_name_gets_out(sandbox: Sandbox, canary: Canary) -> None:
    """Other names, none, broken and halved ones; the allowed one's bytes go to its own place from any address."""
    assert attack(sandbox, canary, FRONTS, "--allow", ALLOWED) == "tried\n"
    assert canary.told == []
    out = attack(sandbox, canary, GOOD_TLS, "--allow", ALLOWED)
    assert out.count("heard you") == 2
    assert b"MARK-allowed" in canary.heard()
    assert b"MARK-by-name" in canary.heard()


REQUESTS = r"""
def ask(*lines, body=b''): return '\r\n'.join(lines).encode() + b'\r\n\r\n' + body
bad = [
    ask('GET /MARK HTTP/1.1', f'Host: {D}'),
    ask(f'GET http://{D}/MARK HTTP/1.1', f'Host: {A}'),
    ask(f'GET http://{A}/MARK HTTP/1.1', f'Host: {D}'),
    ask('GET /MARK HTTP/1.1', f'Host: {A}', f'Host: {D}'),
    ask('GET /MARK HTTP/1.1', f'Host: {D}, {A}'),
    ask('GET /MARK HTTP/1.1', f'Host: {A}:8443'),
    ask('GET /MARK HTTP/1.1', f'Host: {A}@{D}'),
    ask('GET /MARK HTTP/1.1', f'Host: {A}\x00.{D}'),
    ask('GET /MARK HTTP/1.1', f'Host: {A}\r{D}'),
    ask('GET /MARK HTTP/1.1', f'Host: {A}', f' {D}'),
    ask('GET /MARK HTTP/1.1', f'Host : {A}'),
    ask('GET /MARK HTTP/1.1'),
    ask(f'CONNECT {A}:443 HTTP/1.1', f'Host: {A}'),
    ask(f'CONNECT {D}:443 HTTP/1.1', f'Host: {A}'),
    ask('GET /MARK HTTP/1.1', f'Host: {A}', 'Upgrade: websocket', 'Connection: Upgrade'),
    ask('PRI * HTTP/2.0'),
    ask('POST /MARK HTTP/1.1', f'Host: {A}', 'Content-Length: 4', 'Transfer-Encoding: chunked', body=b'0\r\n\r\n'),
    ask('POST /MARK HTTP/1.1', f'Host: {A}', 'Content-Length: 4', 'Content-Length: 5', body=b'MARKS'),
    ask('POST /MARK HTTP/1.1', f'Host: {A}', 'Transfer-Encoding: xchunked', body=b'0\r\n\r\n'),
    b'GET /MARK\r\n\r\n', b'MARK\r\n\r\n',
]
for data in bad: tell(A, 80, data)
for host in (A, D, '127.0.0.1', '::1', '169.254.169.254'):
    tell(host, 80, ask('GET /MARK HTTP/1.1', f'Host: {host}' if host != A else f'Host: {D}'))
print('tried')
"""
KEPT = r"""
good = b'GET /one HTTP/1.1\r\nHost: allowed.test\r\n\r\n'
second = b'GET /MARK HTTP/1.1\r\nHost: denied.test\r\n\r\n'
inner = b'POST /two HTTP/1.1\r\nHost: allowed.test\r\nContent-Length: %d\r\n\r\n' % len(second) + second
chunked = (b'POST /three HTTP/1.1\r\nHost: allowed.test\r\nTransfer-Encoding: chunked\r\n\r\n'
           b'3;x=\r\nabc\r\n0\r\nx: y\r\n\r\n')
for data in (good + second, chunked + second, inner): print(tell(A, 80, data).count(b'200 OK'))
"""


def test_no_request_but_one_for_the_allowed_host_gets_out(sandbox: Sandbox, canary: Canary) -> None:
    allow = ("--allow", f"{ALLOWED}:80")
    assert attack(sandbox, canary, REQUESTS, *allow) == "tried\n"
    assert canary.told == []
    assert attack(sandbox, canary, KEPT, *allow) == "1\n1\n1\n"
    heard = canary.heard()
    assert (heard.count(b"/one"), heard.count(b"/two"), heard.count(b"/three")) == (1, 1, 1)
    # The second request is nobody's but as the body of the third.
    assert heard.count(b"MARK") == 1
    assert heard.lower().count(b"host: allowed.test") == 3


def test_nothing_but_names_gets_an_address_and_no_datagram_gets_out(
    either_sandbox: Sandbox, canary: Canary
) -> None:
    """QUIC, DNS to any resolver, data in names; over TCP and UDP, also to the canary's own address and port."""
    script = (
        f"PORT = {canary.port}\nHOST = {canary.host!r}\n"
        + r"""
question = b'\xab\xcd\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x04MARK\x06denied\x04test\x00\x00\x10\x00\x01'
for family, hosts in ((socket.AF_INET, ('127.0.0.1', '8.8.8.8', '198.18.0.1', '10.0.0.1', '255.255.255.255')),
                      (socket.AF_INET6, ('::1', '2001:4860:4860::8888', 'fd00::1', 'ff02::1'))):
    with socket.socket(family, socket.SOCK_DGRAM) as sender:
        sender.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        for host in hosts:
            for port in (53, 443, 853, 5353, 123, PORT):
                try: sender.sendto(question, (host, port))
                except OSError: pass
    for host in hosts[:4]:
        for port in (53, 853, 5353, 22, 25, 8080, PORT):
            tell(host, port, len(question).to_bytes(2, 'big') + question)
for name in ('MARK-' + 'x' * 40 + '.denied.test', 'MARK.allowed.test', HOST):
    try: print(len({each[4][0] for each in socket.getaddrinfo(name, 443)}))
    except OSError: print('none')
with socket.socket(socket.AF_INET6 if ':' in HOST else socket.AF_INET, socket.SOCK_DGRAM) as own:
    own.bind((HOST, PORT)); own.sendto(b'to itself', (HOST, PORT)); print(own.recv(100).decode())
"""
    )
    out = attack(either_sandbox, canary, script, "--allow", ALLOWED)
    assert out == "2\n2\n1\nto itself\n"
    assert canary.told == []
    with socket.socket(
        socket.AF_INET6 if ":" in canary.host else socket.AF_INET, socket.SOCK_DGRAM
    ) as sender:
        sender.sendto(b"control", (canary.host, canary.port))
    eventually(lambda: canary.told, "the control's arrival")
    assert canary.told == [b"control"]


RAW = r"""
for family, kinds in ((socket.AF_INET, (1, 6, 17, 255)), (socket.AF_INET6, (58, 6, 17, 255))):
    for protocol in kinds:
        try:
            with socket.socket(family, socket.SOCK_RAW, protocol) as raw:
                for host in (('127.0.0.1', '192.0.2.1') if family == socket.AF_INET else ('::1', '2001:db8::1')):
                    try: raw.sendto(b'MARK' * 20, (host, 0))
                    except OSError: pass
        except PermissionError: print('refused')
for family in (17, 40, 38, 21, 29, 30, 31, 44):
    try: socket.socket(family, 1, 0); print('FAMILY', family)
    except OSError: pass
print('tried')
"""


def test_no_other_kind_of_socket_gets_out(either_sandbox: Sandbox, canary: Canary) -> None:
    assert attack(either_sandbox, canary, RAW, "--allow", ALLOWED).splitlines()[-1] == "tried"
    assert canary.told == []


RELAY = r"""
import threading
server = socket.create_server(('127.0.0.1', 9999))
def serve():
    client, _ = server.accept()
    with client, socket.create_connection((D, 443), 10) as there:
        there.sendall(client.recv(65536))
        try: client.sendall(there.recv(100))
        except OSError: pass
thread = threading.Thread(target=serve); thread.start()
tell('127.0.0.1', 9999, hello(D) + b'MARK'); thread.join()
open('/etc/hosts', 'a').write(f'{address(A)} denied.test\n{address(D)} allowed.test\n')
tell(D, 443, hello(D) + b'MARK')
print(tell(A, 443, hello(A)))
"""


def test_a_relay_or_another_hosts_file_inside_changes_no_verdict(sandbox: Sandbox, canary: Canary) -> None:
    out = attack(sandbox, canary, RELAY, "--allow", ALLOWED)
    assert "heard you" in out, "the allowed name leads where it did, whatever address it has inside"
    assert b"MARK" not in canary.heard()


def test_a_killed_proxy_leaves_no_way_out_open(sandbox: Sandbox, canary: Canary) -> None:
    """From outside, as an error would: the connection is cut, and the next one is judged as the first was."""
    script = r"""
s = socket.create_connection((A, 443), 10); s.sendall(hello(A)); print(s.recv(100).decode(), flush=True)
sys.stdin.readline()
try: print(s.recv(100))
except OSError: print('cut')
print(tell(D, 443, hello(D) + b'MARK') != b'heard you', tell(A, 443, hello(A)).decode())
"""
    options = ("--allow", ALLOWED, *canary.options(), "--", PYTHON, "-Ic", COMMON + script)
    with sandbox.start(*options, stdin=subprocess.PIPE) as running:
        assert running.stdout is not None and running.stdout.readline() == b"heard you\n"
        (_, proxy) = children(running.pid)
        os.kill(proxy, signal.SIGKILL)
        eventually(lambda: proxy not in children(running.pid), "the end of the proxy")
        out, _ = running.communicate(b"\n", timeout=60)
    lines = out.decode().splitlines()
    assert lines[0] in ("cut", "b''")
    assert lines[1] == "True heard you"
    assert b"MARK" not in canary.heard()


MARKED = r"""
import os
PORT = %d
def reach(kind, host, before=lambda s: None):
    with socket.socket(socket.AF_INET6 if ':' in host else socket.AF_INET, kind) as there:
        there.settimeout(10)
        try:
            before(there); there.connect((host, PORT)); there.send(b'MARK'); there.recv(10); print('ANSWER', host)
        except PermissionError: print('may not')
        except OSError: print('no')
def mark(s): s.setsockopt(socket.SOL_SOCKET, 36, 0x5b)
def foreign(s): s.setsockopt(socket.IPPROTO_IP, 19, 1); s.bind(('203.0.113.9', 0))
for host in (%r, '127.0.0.1', '10.0.0.1'):
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        reach(kind, host); reach(kind, host, mark)
        if ':' not in host: reach(kind, host, foreign)
for line in open('/proc/net/tcp'):
    if ' 0A ' in line:
        PORT = int(line.split()[1].split(':')[1], 16)
        if PORT != 53: reach(socket.SOCK_STREAM, '198.18.0.1'); print('listener')
"""


def test_an_unrestricted_session_can_not_pass_for_its_own_proxy(
    either_sandbox: Sandbox, canary: Canary
) -> None:
    """It may mark packets as the proxy does, and speak from any address, but only to itself."""
    need("nft-tproxy")
    script = COMMON + MARKED % (canary.port, canary.host)
    done = either_sandbox.run("--net", "unrestricted", "--", PYTHON, "-Ic", script)
    assert done.code == 0, done
    assert "ANSWER" not in done.out
    assert "listener" in done.out
    assert canary.told == []
    assert "denied 10.0.0.1" in done.err, "what is not marked is judged"
    with socket.create_connection((canary.host, canary.port)) as control:
        control.sendall(b"control")
        assert control.recv(100) == b"heard you"
