"""Many small conversations: ``serve``, and what a client asks of it, inside sessions too. The standard library alone.

    serve                                    answer on a loopback port, which is printed, until standard input ends
    connect HOST PORT SECONDS GREETING       one after the other, then SIXTEEN at once
    idle HOST PORT COUNT GREETING            hold COUNT connections until standard input ends
    names SERVER SECONDS                     ask for names over UDP

A conversation: a TLS greeting, which is not looked at, and P; the answer is P, and the server hangs up. After I it
answers I and stays.
"""

import select
import socket
import statistics
import struct
import sys
import time

_AT_ONCE = 16


def serve() -> None:
    """Answer until standard input ends."""
    with socket.create_server(("127.0.0.1", 0), backlog=4096) as listener:
        listener.setblocking(False)
        print(listener.getsockname()[1], flush=True)  # noqa: T201
        open_: dict[int, socket.socket] = {}
        poll = select.epoll()
        poll.register(listener, select.EPOLLIN)
        poll.register(sys.stdin, select.EPOLLIN)
        while True:
            for fd, _ in poll.poll():
                if fd == sys.stdin.fileno():
                    return
                if fd == listener.fileno():
                    _accept(listener, poll, open_)
                else:
                    _answer(fd, poll, open_)


def _accept(listener: socket.socket, poll: select.epoll, open_: dict[int, socket.socket]) -> None:
    while True:
        try:
            connection, _ = listener.accept()
        except BlockingIOError:
            return
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        open_[connection.fileno()] = connection
        poll.register(connection, select.EPOLLIN)


def _answer(fd: int, poll: select.epoll, open_: dict[int, socket.socket]) -> None:
    connection = open_[fd]
    try:
        data = connection.recv(65536)
        if data[-1:] in (b"P", b"I"):
            connection.sendall(data[-1:])
    except OSError:
        data = b""
    if not data or data[-1:] == b"P":
        poll.unregister(fd)
        connection.close()
        del open_[fd]


def _one(host: str, port: int, words: bytes) -> None:
    with socket.create_connection((host, port), timeout=30) as connection:
        connection.sendall(words)
        if connection.recv(1) != words[-1:]:
            raise EOFError("no answer")


def connect(host: str, port: int, seconds: float, greeting: bytes) -> None:
    """Print ``latency MS`` (the median from connecting to the answer, one at a time) and ``rate PER_SECOND``."""
    address = socket.getaddrinfo(host, port, socket.AF_INET, socket.SOCK_STREAM)[0][4][0]
    took = []
    end = time.perf_counter() + seconds / 2
    while (begun := time.perf_counter()) < end:
        _one(str(address), port, greeting + b"P")
        took.append(time.perf_counter() - begun)
    print("latency", statistics.median(took) * 1000)  # noqa: T201
    print("rate", _rate(str(address), port, seconds / 2, greeting + b"P"))  # noqa: T201


def _rate(host: str, port: int, seconds: float, words: bytes) -> float:
    poll = select.epoll()
    open_: dict[int, socket.socket] = {}

    def begin() -> None:
        connection = socket.socket()
        connection.setblocking(False)
        connection.connect_ex((host, port))
        open_[connection.fileno()] = connection
        poll.register(connection, select.EPOLLOUT)

    for _ in range(_AT_ONCE):
        begin()
    count, begun = 0, time.perf_counter()
    while (now := time.perf_counter()) - begun < seconds:
        for fd, event in poll.poll(1):
            connection = open_[fd]
            if event & select.EPOLLOUT:
                connection.sendall(words)
                poll.modify(fd, select.EPOLLIN)
                continue
            if connection.recv(1) != words[-1:]:
                raise EOFError("no answer")
            poll.unregister(fd)
            connection.close()
            del open_[fd]
            count += 1
            begin()
    return count / (now - begun)


def idle(host: str, port: int, count: int, greeting: bytes) -> None:
    """Hold ``count`` connections that the server has answered once; print ``open`` when they are there."""
    address = str(socket.getaddrinfo(host, port, socket.AF_INET, socket.SOCK_STREAM)[0][4][0])
    held = []
    for _ in range(count):
        connection = socket.create_connection((address, port), timeout=30)
        connection.sendall(greeting + b"I")
        connection.recv(1)
        held.append(connection)
    print("open", flush=True)  # noqa: T201
    sys.stdin.read()


def names(server: str, seconds: float) -> None:
    """Print ``rate PER_SECOND``: answers to questions of which sixteen are on their way at any time."""
    question = struct.pack("!6H", 7, 0x0100, 1, 0, 0, 0) + b"\5bench\4test\0" + struct.pack("!2H", 1, 1)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.connect((server, 53))
        asking.settimeout(5)
        for _ in range(_AT_ONCE):
            asking.send(question)
        count, begun = 0, time.perf_counter()
        while (now := time.perf_counter()) - begun < seconds:
            asking.recv(512)
            asking.send(question)
            count += 1
    print("rate", count / (now - begun))  # noqa: T201


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


if __name__ == "__main__":
    wanted, *rest = sys.argv[1:]
    if wanted == "serve":
        serve()
    elif wanted == "connect":
        connect(rest[0], int(rest[1]), float(rest[2]), _read(rest[3]))
    elif wanted == "idle":
        idle(rest[0], int(rest[1]), int(rest[2]), _read(rest[3]))
    elif wanted == "names":
        names(rest[0], float(rest[1]))
