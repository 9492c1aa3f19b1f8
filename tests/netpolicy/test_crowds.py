"""Many connections at once: what they cost, and that those which do nothing do not keep out the others for long."""

from __future__ import annotations

import contextlib
import resource
import select
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from netpolicy import relay
from netpolicy.wall import Timeouts
from tests.netpolicy.greetings import openssl_hello
from tests.netpolicy.serving import PATIENCE, Canary, allow, echo, is_reset, read_all, session, to

ROOT = Path(__file__).resolve().parents[2]
HELLO = openssl_hello("a.test")

_IDLE_LIMIT = 10 * 1024  # octets of memory for a connection that is relayed and says nothing
_CROWD = 10_000

_PROXY = """
import resource, socket, sys
sys.path.insert(0, sys.argv[1])
from netpolicy import proxy
from netpolicy.policy import ConnectTo, compile_policy

server, listening, control, crowd = map(int, sys.argv[2:])
policy = compile_policy("limited", ["a.test"], connect_to=[ConnectTo("a.test", None, "127.0.0.1", server)])
proxy.preload()
crowd = min(crowd, proxy.make_room())
control = socket.socket(fileno=control)
control.sendall(b"%d\\n" % crowd)
listener = proxy.Listener("tls", 443, socket.socket(fileno=listening))
proxy.run([listener], policy, control=control, max_connections=crowd)
"""

# Says back what it hears, to any number of connections, and is gone with whoever started it.
_SERVER = """
import resource, select, socket, sys
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
listening, poll, open_ = socket.socket(fileno=int(sys.argv[1])), select.epoll(), {}
for fd in (0, listening.fileno()):
    poll.register(fd, select.EPOLLIN)
while True:
    for fd, _ in poll.poll():
        if fd == 0:
            sys.exit()
        if fd == listening.fileno():
            connection, _ = listening.accept()
            open_[connection.fileno()] = connection
            poll.register(connection.fileno(), select.EPOLLIN)
        elif data := open_[fd].recv(65536):
            open_[fd].sendall(data)
        else:
            poll.unregister(fd)
            open_.pop(fd).close()
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


def heard(program: socket.socket) -> bytes:
    return program.recv(len(HELLO), socket.MSG_WAITALL)


def test_ten_thousand_idle_connections_take_little_memory_each() -> None:
    """Each is allowed, dialled and relayed to a server. Proxy, server and programs are processes of their own, since
    each has a limit on descriptors; where that is too low for the crowd, it is as large as it lets the proxy serve.
    """
    with contextlib.ExitStack() as stack:
        room = stack.enter_context(descriptors(_CROWD + 1_000)) - 500
        server = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=1024))
        listening = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=1024))
        ours, theirs = (stack.enter_context(each) for each in socket.socketpair())

        def start(script: str, arguments: list[object], *fds: int) -> subprocess.Popen[bytes]:
            command = [sys.executable, "-I", "-c", script, *map(str, arguments)]
            child = stack.enter_context(subprocess.Popen(command, pass_fds=fds, stdin=subprocess.PIPE))
            stack.callback(child.kill)
            return child

        start(_SERVER, [server.fileno()], server.fileno())
        fds = (listening.fileno(), theirs.fileno())
        child = start(_PROXY, [ROOT, server.getsockname()[1], *fds, min(_CROWD, room)], *fds)
        ours.settimeout(60)
        crowd = int(ours.makefile().readline())
        process = psutil.Process(child.pid)

        def more(number: int) -> list[socket.socket]:
            """So many programs that greet and hear the server's answer."""
            made = []
            for _ in range(number):
                program = stack.enter_context(socket.create_connection(listening.getsockname(), 60))
                program.sendall(HELLO)
                made.append(program)
            for program in made:
                assert heard(program) == HELLO
            return made

        # The first ones bring what is needed once.
        programs = more(50)
        before = process.memory_info().rss
        while len(programs) < crowd:
            programs += more(min(250, crowd - len(programs)))
        each = (process.memory_info().rss - before) / (crowd - 50)
        assert each <= _IDLE_LIMIT, each
        # In the crowd, one that says something is served as before.
        programs[7].sendall(HELLO)
        assert heard(programs[7]) == HELLO
        # The limit is reached: the next one waits, unserved, until another has gone.
        late = stack.enter_context(socket.create_connection(listening.getsockname(), PATIENCE))
        late.sendall(HELLO)
        late.settimeout(0.2)
        with pytest.raises(TimeoutError):
            heard(late)
        programs[0].close()
        late.settimeout(60)
        assert heard(late) == HELLO
        ours.close()


def test_heads_that_are_never_whole_are_refused_once_a_crowd_holds_too_much(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Below that, the same head is whole in its time and its request is answered."""
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"
    head = b"GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\nX: " + b"x" * 30_000

    def serve(client: socket.socket) -> None:
        client.recv(65_536)
        client.sendall(answer)

    monkeypatch.setattr(relay, "HELD_FREELY", 300_000)
    with (
        Canary(serve) as canary,
        session(allow("a.test:80", targets=to(canary, "a.test"))) as wall,
        contextlib.ExitStack() as stack,
    ):
        crowd = []
        for _ in range(20):
            client = stack.enter_context(wall.connect("http"))
            client.sendall(head)
            crowd.append(client)
        # Some of them are refused as they come. The others have room, and end their heads.
        assert select.select(crowd, [], [], PATIENCE)[0]
        answers = []
        for client in crowd:
            client.sendall(b"\r\n\r\n")
            answers.append(read_all(client))
        refused = [each for each in answers if each.startswith(b"HTTP/1.1 431 ")]
        assert 0 < len(refused) < len(crowd)
        assert all(each.endswith(b"ok") for each in answers if each not in refused)
        (denied,) = wall.finish()["denied"]
        assert (denied["code"], denied["count"]) == ("too-large", len(refused))


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
