"""Bytes that wait for a socket to take them."""

from __future__ import annotations

import socket

import h11
import pytest

from netpolicy import relay
from netpolicy.relay import Buffer
from netpolicy.upstream import End, Outbox, Upstream


def test_bytes_leave_in_order_across_partial_sends() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        theirs.setblocking(False)
        buffer = Buffer()
        box = Outbox(buffer)
        pieces = [bytes((number % 256,)) * (number * 37 % 5000) for number in range(1000)]
        box.put(pieces)
        assert box.size == sum(map(len, pieces))
        received = b""
        while box.size:
            before = box.size
            sent = box.flush(ours)
            assert box.size == buffer.held == before - sent
            while True:
                try:
                    received += theirs.recv(65_536)
                except BlockingIOError:
                    break
        assert received == b"".join(pieces)


def test_an_empty_box_sends_nothing_and_a_broken_socket_raises() -> None:
    ours, theirs = socket.socketpair()
    with ours:
        box = Outbox(Buffer())
        box.put([b"", b""])
        assert box.flush(ours) == 0
        theirs.close()
        box.put([b"x"])
        with pytest.raises(BrokenPipeError):
            box.flush(ours)


def test_a_box_is_full_sooner_while_many_wait_and_gives_up_what_it_holds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(relay, "HELD_FREELY", 100_000)
    buffer = Buffer()
    one, other = Outbox(buffer), Outbox(buffer)
    one.put([bytes(20_000)])
    assert not one.full
    other.put([bytes(90_000)])
    assert one.full
    other.drop()
    assert (other.size, buffer.held) == (0, 20_000)
    assert not one.full
    one.put([bytes(300_000)])
    assert one.full
    one.drop()
    one.drop()
    assert buffer.held == 0


def test_the_far_side_starts_as_a_client_that_has_said_nothing() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        upstream = Upstream("a.test", End(ours, Buffer()))
        assert upstream.http.our_role is h11.CLIENT
        assert (upstream.sent, upstream.received, upstream.used) == (0, 0, False)
