"""Both ends of a stream whose speed is measured: ``serve``, and ``HOST PORT SECONDS [GREETING]`` for the client.

The standard library alone, in one file: the client runs inside sessions too. A conversation: an optional TLS greeting,
which the server drops, then one letter. D: the server sends until the client has had enough. U: the client sends, the
server answers with how much it got. The client prints what went each way as bytes and seconds: ``down`` and ``up``.
"""

import socket
import sys
import threading
import time

_CHUNK = 1 << 20


def _take(connection: socket.socket, size: int) -> bytes:
    taken = b""
    while len(taken) < size:
        piece = connection.recv(size - len(taken))
        if not piece:
            raise EOFError
        taken += piece
    return taken


def _answer(connection: socket.socket) -> None:
    with connection:
        try:
            first = _take(connection, 1)
            while first == b"\x16":  # a TLS record of the handshake
                _take(connection, int.from_bytes(_take(connection, 4)[2:], "big"))
                first = _take(connection, 1)
            buffer = bytearray(_CHUNK)
            if first == b"D":
                while True:
                    connection.sendall(buffer)
            count = 0
            while size := connection.recv_into(buffer):
                count += size
            connection.sendall(count.to_bytes(8, "big"))
        except (OSError, EOFError):
            return


def serve(address: str = "127.0.0.1") -> None:
    """Serve on a port of ``address``, which is printed, until standard input ends."""
    with socket.create_server((address, 0), backlog=16) as listener:
        print(listener.getsockname()[1], flush=True)  # noqa: T201

        def accept() -> None:
            while True:
                connection, _ = listener.accept()
                threading.Thread(target=_answer, args=(connection,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        sys.stdin.read()


def _down(connection: socket.socket, seconds: float) -> tuple[int, float]:
    buffer = bytearray(_CHUNK)
    connection.sendall(b"D")
    connection.recv_into(buffer)
    count, begun = 0, time.perf_counter()
    while (now := time.perf_counter()) - begun < seconds:
        size = connection.recv_into(buffer)
        if not size:
            raise EOFError("the stream ended early")
        count += size
    return count, now - begun


def _up(connection: socket.socket, seconds: float) -> tuple[int, float]:
    buffer = bytes(_CHUNK)
    connection.sendall(b"U")
    begun = time.perf_counter()
    while time.perf_counter() - begun < seconds:
        connection.sendall(buffer)
    connection.shutdown(socket.SHUT_WR)
    return int.from_bytes(_take(connection, 8), "big"), time.perf_counter() - begun


def ask(host: str, port: int, seconds: float, greeting: bytes) -> None:
    """Measure both directions and print them."""
    for name, way in (("down", _down), ("up", _up)):
        with socket.create_connection((host, port), timeout=30) as connection:
            connection.sendall(greeting)
            count, took = way(connection, seconds)
        print(name, count, took)  # noqa: T201


if __name__ == "__main__":
    if sys.argv[1:] == ["serve"]:
        serve()
    else:
        hello = b""
        if len(sys.argv) > 4:
            with open(sys.argv[4], "rb") as file:
                hello = file.read()
        ask(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), hello)
