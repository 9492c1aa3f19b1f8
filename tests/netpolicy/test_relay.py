"""Bytes between two sockets."""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
import threading
from collections.abc import Iterator

import pytest

from netpolicy import relay
from netpolicy.reactor import Reactor
from netpolicy.relay import Buffer, Relay, Share
from tests.netpolicy.looping import Clock, connection, settle, until


class Joined:
    """A relay between two TCP connections, of which a test holds the outer ends."""

    def __init__(
        self,
        reactor: Reactor,
        buffer: Buffer,
        idle: float = 30.0,
        half_closed: float = 30.0,
        first: bytes = b"",
    ) -> None:
        self.reactor = reactor
        self.client, inner_client = connection()
        self.server, inner_server = connection()
        self.reasons: list[str] = []
        for each in (self.client, self.server, inner_client, inner_server):
            each.setblocking(False)
        self.relay = Relay(
            reactor,
            inner_client,
            inner_server,
            buffer,
            idle,
            half_closed,
            lambda _relay, reason: self.reasons.append(reason),
        )
        self.relay.start(first)

    def read(self, end: socket.socket, size: int) -> bytes:
        data = bytearray()

        def whole() -> bool:
            with contextlib.suppress(BlockingIOError):
                data.extend(end.recv(size - len(data)))
            return len(data) >= size

        until(self.reactor, whole)
        return bytes(data)

    def read_end(self, end: socket.socket) -> bytes:
        """What comes when nothing more may: the end is empty; a reset raises."""
        found: list[bytes] = []

        def ended() -> bool:
            with contextlib.suppress(BlockingIOError):
                found.append(end.recv(1))
            return bool(found)

        until(self.reactor, ended)
        return found[0]


@contextlib.contextmanager
def joined(
    size: int = 65_536, idle: float = 30.0, half_closed: float = 30.0, first: bytes = b""
) -> Iterator[Joined]:
    with Reactor() as reactor:
        buffer = Buffer(size)
        made = Joined(reactor, buffer, idle, half_closed, first)
        try:
            yield made
        finally:
            if not made.reasons:
                made.relay.close("")
            made.client.close()
            made.server.close()
            assert buffer.held == 0, "what is over holds nothing"


def test_what_the_client_said_already_goes_first() -> None:
    with joined(first=b"hello ") as pair:
        pair.client.send(b"world")
        assert pair.read(pair.server, 11) == b"hello world"
        pair.server.send(b"answer")
        assert pair.read(pair.client, 6) == b"answer"
        assert (pair.relay.up.count, pair.relay.down.count) == (11, 6)


def test_the_end_of_one_direction_is_passed_on_alone() -> None:
    with joined() as pair:
        pair.client.send(b"question")
        pair.client.shutdown(socket.SHUT_WR)
        assert pair.read(pair.server, 8) == b"question"
        assert pair.read_end(pair.server) == b""
        pair.server.send(b"a late answer")
        assert pair.read(pair.client, 13) == b"a late answer"
        assert pair.reasons == []
        pair.server.shutdown(socket.SHUT_WR)
        assert pair.read_end(pair.client) == b""
        assert pair.reasons == [""]


def test_an_end_behind_bytes_that_wait_arrives_after_them() -> None:
    with joined(size=4096) as pair:
        sent = 0
        with contextlib.suppress(BlockingIOError):
            while True:
                sent += pair.client.send(bytes(65_536))
                settle(pair.reactor)
        pair.client.shutdown(socket.SHUT_WR)
        settle(pair.reactor)
        assert pair.relay.unsent
        assert len(pair.read(pair.server, sent)) == sent
        assert pair.read_end(pair.server) == b""


def test_a_slow_reader_stops_its_source_and_not_the_other_direction() -> None:
    with joined(size=16_384) as pair:
        sent = 0
        with contextlib.suppress(BlockingIOError):
            while True:
                sent += pair.server.send(bytes(65_536))
                settle(pair.reactor)
        assert pair.reactor.turn(0) == 0, "nothing is read while nothing can be written"
        pair.client.send(b"still heard")
        assert pair.read(pair.server, 11) == b"still heard"
        assert len(pair.read(pair.client, sent)) == sent
        pair.server.send(b"and on")
        assert pair.read(pair.client, 6) == b"and on"


def test_a_crowd_of_slow_readers_gets_little_room_each_and_loses_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(relay, "HELD_FREELY", 50_000)
    size, crowd = 200_000, 10
    with Reactor() as reactor, contextlib.ExitStack() as stack:
        buffer = Buffer(size)
        pairs = [Joined(reactor, buffer) for _ in range(crowd)]
        for pair in pairs:
            stack.callback(pair.server.close)
            stack.callback(pair.client.close)
        sent = [0] * crowd
        for number, pair in enumerate(pairs):
            with contextlib.suppress(BlockingIOError):
                while True:
                    sent[number] += pair.server.send(bytes(65_536))
                    settle(reactor)
        assert 50_000 < buffer.held <= 50_000 + size + crowd * relay.LITTLE_ROOM
        for number, pair in enumerate(pairs):
            assert len(pair.read(pair.client, sent[number])) == sent[number]
        assert buffer.held == 0
        for pair in pairs:
            pair.relay.close("")


@pytest.mark.parametrize("who", ["client", "server"])
def test_a_reset_is_passed_on_as_a_reset(who: str) -> None:
    with joined() as pair:
        broken, other = (pair.client, pair.server) if who == "client" else (pair.server, pair.client)
        broken.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        broken.close()
        with pytest.raises(ConnectionResetError):
            pair.read_end(other)
        assert pair.reasons == ["reset"]


def test_a_quiet_connection_ends_at_its_limit_and_one_in_use_does_not(clock: Clock) -> None:
    with joined(idle=100) as pair:
        for _ in range(4):
            # Together they exceed the limit.
            clock.ahead += 60
            pair.client.send(b"x")
            assert pair.read(pair.server, 1) == b"x"
        assert pair.reasons == []
        clock.ahead += 100
        until(pair.reactor, lambda: pair.reasons)
        assert pair.reasons == ["idle"]


def test_a_half_closed_connection_has_a_limit_of_its_own(clock: Clock) -> None:
    with joined(idle=100, half_closed=300) as pair:
        pair.client.shutdown(socket.SHUT_WR)
        assert pair.read_end(pair.server) == b""
        clock.ahead += 200
        settle(pair.reactor)
        assert pair.reasons == []
        clock.ahead += 100
        until(pair.reactor, lambda: pair.reasons)
        assert pair.reasons == ["idle"]


@pytest.mark.parametrize("size", [1, 4096, 1_048_576])
def test_every_byte_arrives_in_order_in_both_directions_at_once(size: int) -> None:
    data = os.urandom(20_000 if size == 1 else 5_000_000)
    with joined(size=size) as pair:
        digests: dict[str, bytes] = {}

        def send(end: socket.socket) -> None:
            end.sendall(data)
            end.shutdown(socket.SHUT_WR)

        def receive(end: socket.socket, name: str) -> None:
            digest = hashlib.sha256()
            while piece := end.recv(65_536):
                digest.update(piece)
            digests[name] = digest.digest()

        threads = []
        for name, end in (("client", pair.client), ("server", pair.server)):
            end.settimeout(10)
            threads += [
                threading.Thread(target=send, args=(end,)),
                threading.Thread(target=receive, args=(end, name)),
            ]
        for thread in threads:
            thread.start()
        until(pair.reactor, lambda: pair.reasons, 20)
        for thread in threads:
            thread.join()
        assert set(digests.values()) == {hashlib.sha256(data).digest()}
        assert pair.reasons == [""]


def test_one_busy_relay_does_not_hold_up_another() -> None:
    """Each turn moves one buffer a direction at most, however much there is."""
    with joined(size=4096) as pair:
        pair.client.send(bytes(100_000))
        pair.reactor.turn(1)
        assert 0 < pair.relay.up.count <= 4096


def test_a_share_counts_what_one_connection_holds_of_it_all() -> None:
    buffer = Buffer()
    one, other = Share(buffer), Share(buffer)
    one.set(10)
    other.set(5)
    assert buffer.held == 15
    one.set(3)
    other.set(0)
    assert (buffer.held, one.size, other.size) == (3, 3, 0)
