"""Many connections at once: what they cost, and that those which do nothing do not keep out the others for long."""

from __future__ import annotations

import contextlib
import resource
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil

from netpolicy.wall import Timeouts
from tests.netpolicy.greetings import openssl_hello
from tests.netpolicy.serving import PATIENCE, Canary, allow, echo, is_reset, read_all, session, to

ROOT = Path(__file__).resolve().parents[2]
HELLO = openssl_hello("a.test")

_IDLE_LIMIT = 10 * 1024  # octets of memory for a connection that is relayed and says nothing
_MOST = 8_192  # what one proxy serves at once
_OURS = 2  # descriptors in this process for each: the program's end and the server's

_PROXY = """
import socket, sys
sys.path.insert(0, sys.argv[1])
from netpolicy import proxy
from netpolicy.policy import ConnectTo, compile_policy

canary, listening, control = map(int, sys.argv[2:])
policy = compile_policy("limited", ["a.test"], connect_to=[ConnectTo("a.test", None, "127.0.0.1", canary)])
proxy.preload()
listener = proxy.Listener("tls", 443, socket.socket(fileno=listening))
proxy.run([listener], policy, control=socket.socket(fileno=control))
"""


@contextlib.contextmanager
def descriptors(wanted: int) -> Iterator[int]:
    """Raise the soft limit for a while, as far as the hard one; how many there are."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, most), hard))
    try:
        yield max(soft, most)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_as_many_idle_connections_as_one_proxy_serves_take_little_memory_each() -> None:
    """Each of them is allowed, dialled and relayed, in a process of the proxy's own. More are left to wait."""
    with contextlib.ExitStack() as stack:
        room = stack.enter_context(descriptors(_OURS * _MOST + 1_000))
        count = min(_MOST, (room - 500) // _OURS)
        server = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=1024))
        listening = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=1024))
        ours, theirs = (stack.enter_context(each) for each in socket.socketpair())
        server.settimeout(PATIENCE)
        fds = (listening.fileno(), theirs.fileno())
        command = [
            sys.executable,
            "-I",
            "-c",
            _PROXY,
            str(ROOT),
            str(server.getsockname()[1]),
            *map(str, fds),
        ]
        child = stack.enter_context(subprocess.Popen(command, pass_fds=fds))
        stack.callback(child.kill)
        process = psutil.Process(child.pid)

        def more(number: int) -> list[socket.socket]:
            """So many programs that greet, and the server's ends of their connections."""
            made = []
            for _ in range(number):
                program = stack.enter_context(socket.create_connection(listening.getsockname(), PATIENCE))
                program.sendall(HELLO)
                made.append(program)
            for _ in range(number):
                end, _ = server.accept()
                made.append(stack.enter_context(end))
            return made

        # The first ones bring what is needed once.
        first = more(50)
        before = process.memory_info().rss
        crowd = 50
        while crowd < count:
            step = min(250, count - crowd)
            more(step)
            crowd += step
        each = (process.memory_info().rss - before) / (count - 50)
        assert each <= _IDLE_LIMIT, each
        # In the crowd, one that says something is served as before.
        program, end = first[0], first[50]
        end.settimeout(PATIENCE)
        assert end.recv(len(HELLO), socket.MSG_WAITALL) == HELLO
        program.sendall(b"more")
        assert end.recv(4, socket.MSG_WAITALL) == b"more"
        if count == _MOST:
            # The limit is reached: the next one waits, unserved, until another has gone.
            late = stack.enter_context(socket.create_connection(listening.getsockname(), PATIENCE))
            late.sendall(HELLO)
            server.settimeout(0.2)
            with contextlib.suppress(TimeoutError):
                server.accept()
                raise AssertionError("more than the limit are served")
            program.close()
            end.close()
            server.settimeout(PATIENCE)
            stack.enter_context(server.accept()[0])
        ours.close()


def test_half_greetings_beyond_the_limit_keep_others_out_no_longer_than_their_time() -> None:
    timeouts = Timeouts(hello=0.2, linger=0.1)
    with (
        Canary(echo) as canary,
        session(allow("a.test", targets=to(canary, "a.test")), timeouts=timeouts, max_connections=4) as wall,
    ):
        flood = [wall.connect("tls") for _ in range(12)]
        for each in flood:
            each.send(HELLO[:3])
        with wall.connect("tls") as late:
            late.sendall(HELLO)
            assert late.recv(len(HELLO), socket.MSG_WAITALL) == HELLO
        for each in flood:
            each.close()
        codes = {each["code"] for each in wall.finish()["denied"]}
        assert codes == {"hello-timeout"}


def test_half_requests_beyond_the_limit_keep_others_out_no_longer_than_their_time() -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

    def serve(client: socket.socket) -> None:
        client.recv(65_536)
        client.sendall(answer)

    timeouts = Timeouts(hello=0.2, linger=0.1)
    policy = allow("a.test:80")
    with Canary(serve) as canary:
        policy = allow("a.test:80", targets=to(canary, "a.test"))
        with session(policy, timeouts=timeouts, max_connections=4) as wall:
            flood = [wall.connect("http") for _ in range(12)]
            for each in flood:
                each.send(b"GET / HTTP/1.1\r\nHo")
            with wall.connect("http") as late:
                late.sendall(b"GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n")
                assert read_all(late).endswith(b"\r\n\r\nok")
            for each in flood:
                each.close()


def test_connections_that_are_refused_at_once_cost_nothing_afterwards() -> None:
    """A flood that the policy turns away leaves neither descriptors nor records beyond their limit."""
    with session(allow("a.test")) as wall:
        threads = threading.active_count()
        for _ in range(500):
            assert is_reset(lambda: wall.connect("tcp"))
        assert threading.active_count() == threads
        (denied,) = wall.finish()["denied"]
        assert denied["count"] == 500
