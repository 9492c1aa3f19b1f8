"""What each kind of standard stream becomes inside, and how bytes are carried."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from sandbox.errors import InputError
from sandbox.stdio import PipeInput, PipePump, Pump, _kind, collect


def test_each_kind_of_descriptor_is_known(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    read, write = os.pipe()
    master, slave = os.openpty()
    ours, theirs = socket.socketpair()
    opened = {
        "carried": [
            os.open(tmp_path / "file", os.O_RDONLY),
            os.open("/dev/zero", os.O_RDONLY),
            ours.fileno(),
        ],
        "pipe": [read, write],
        "direct": [os.open("/dev/null", os.O_RDWR)],
        "terminal": [slave, master],
        "closed": [9999],
    }
    folder = os.open(tmp_path, os.O_RDONLY)
    try:
        for kind, fds in opened.items():
            assert [_kind(fd) for fd in fds] == [kind] * len(fds)
        moved = os.dup(folder)
        saved = os.dup(2)
        try:
            os.dup2(moved, 2)
            with pytest.raises(InputError, match="standard error is a directory"):
                _kind(2)
        finally:
            os.dup2(saved, 2)
            os.close(saved)
            os.close(moved)
    finally:
        ours.close()
        theirs.close()
        for fd in (*opened["carried"][:2], *opened["pipe"], *opened["direct"], master, slave, folder):
            os.close(fd)


def test_a_pump_carries_what_the_target_takes_and_ends_with_its_source() -> None:
    source, feed = os.pipe()
    out, target = os.pipe()
    os.set_blocking(target, False)
    pump = Pump(source, target, (source, target))
    os.write(feed, b"abc")
    os.close(feed)
    pump.fill()
    pump.drain()
    assert (os.read(out, 10), pump.ended, pump.pending) == (b"abc", False, b"")
    pump.fill()
    assert pump.ended
    pump.close()
    pump.close()
    assert os.read(out, 1) == b""
    os.close(out)


def test_a_target_that_is_gone_ends_the_pump() -> None:
    source, feed = os.pipe()
    out, target = os.pipe()
    pump = Pump(source, target, (source, target))
    os.close(out)
    os.write(feed, b"x")
    pump.fill()
    pump.drain()
    assert (pump.ended, pump.pending) == (True, b"")
    pump.close()
    os.close(feed)


def test_output_is_collected_by_a_function() -> None:
    got: list[bytes] = []
    made = collect(got.append)
    assert made.inside[1] == made.inside[2]
    os.write(made.inside[1] or -1, b"words")
    for fd in made.close_after:
        os.close(fd)
    (pump,) = made.pumps
    while not pump.ended:
        pump.fill()
    pump.close()
    assert got == [b"words"]


def test_only_what_was_read_is_taken_out_of_the_callers_pipe() -> None:
    source, feed = os.pipe()
    out, target = os.pipe()
    os.set_blocking(target, False)
    pump = PipeInput(source, target)
    for piece in (b"one", b"two", b"three"):
        os.write(feed, piece)
        pump.fill()
        assert pump.pending
        assert os.read(out, 100) == piece
        pump.drain()
        assert (pump.ended, bool(pump.pending)) == (False, False)
    os.write(feed, b"fourth and last")
    pump.fill()
    assert os.read(out, 6) == b"fourth"
    pump.close()
    assert os.read(source, 100) == b" and last"
    os.close(feed)
    assert os.read(source, 1) == b""
    os.close(source)
    os.close(out)


def test_the_end_of_the_callers_pipe_ends_the_pump() -> None:
    source, feed = os.pipe()
    out, target = os.pipe()
    os.close(feed)
    pump = PipeInput(source, target)
    pump.fill()
    assert (pump.ended, pump.pending) == (True, b"")
    pump.close()
    assert os.read(out, 1) == b""
    os.close(source)
    os.close(out)


def test_input_that_nobody_reads_any_more_stays_in_the_callers_pipe() -> None:
    source, feed = os.pipe()
    out, target = os.pipe()
    pump = PipeInput(source, target)
    os.write(feed, b"unread")
    pump.fill()
    os.close(out)
    pump.drain()
    assert pump.ended
    pump.close()
    assert os.read(source, 100) == b"unread"
    os.close(source)
    os.close(feed)


def test_a_full_pipe_is_awaited_and_one_without_a_reader_ends_the_pump() -> None:
    source, feed = os.pipe()
    out, target = os.pipe()
    pump = PipePump(source, target, (source,))
    os.set_blocking(target, False)
    with pytest.raises(BlockingIOError):
        while True:
            os.write(target, b"x" * 65536)
    os.set_blocking(target, True)
    os.write(feed, b"late")
    pump.fill()
    assert (bool(pump.pending), pump.ended) == (True, False)
    size = len(os.read(out, 1 << 20))
    pump.drain()
    pump.fill()
    assert (pump.pending, os.read(out, 1 << 20)[-4:]) == (b"", b"late")
    assert size
    os.write(feed, b"x")
    os.close(out)
    pump.fill()
    assert pump.ended
    pump.close()
    os.close(feed)
    os.close(target)


def test_a_command_that_reads_on_and_on_gets_larger_pieces() -> None:
    source, feed = os.pipe()
    out, target = os.pipe()
    os.set_blocking(target, False)
    os.set_blocking(out, False)
    pump = PipeInput(source, target)
    sent = got = largest = 0
    while sent < 1 << 20:
        sent += os.write(feed, os.urandom(1 << 15))
        while True:
            pump.fill()
            try:
                read = len(os.read(out, 1 << 20))
            except BlockingIOError:
                break
            got, largest = got + read, max(largest, read)
            if pump.pending:
                pump.drain()
    assert (got, pump.ended, largest) == (sent, False, 1 << 15)
    pump.close()
    for fd in (source, feed, out):
        os.close(fd)
