"""Messages between the supervisor and process 1, with their descriptors; hostile ones do no harm."""

from __future__ import annotations

import array
import os
import socket
from collections.abc import Iterator

import pytest

from sandbox.channel import MOST_DESCRIPTORS, hear, say

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with one, other:
        yield one, other


@pytest.mark.parametrize("text", ["started", "failed 2 where: it \u00fc\udcff", "x" * 60000])
def test_words_arrive_as_they_were_said(pair: Pair, text: str) -> None:
    say(pair[0], text)
    say(pair[0], "next")
    assert hear(pair[1]) == (text, ())
    assert hear(pair[1]) == ("next", ())


def test_descriptors_arrive_in_order_and_close_on_exec(pair: Pair) -> None:
    ends = os.pipe()
    say(pair[0], "given", ends)
    message = hear(pair[1])
    assert message is not None
    read, write = message[1]
    os.write(write, b"x")
    assert os.read(read, 1) == b"x"
    assert not os.get_inheritable(read)
    for fd in (*ends, read, write):
        os.close(fd)


def test_the_most_descriptors_fit_and_one_more_is_refused(pair: Pair) -> None:
    with open(os.devnull) as null:
        say(pair[0], "many", (null.fileno(),) * MOST_DESCRIPTORS)
        message = hear(pair[1])
        assert message is not None and len(message[1]) == MOST_DESCRIPTORS
        for fd in message[1]:
            os.close(fd)
        with pytest.raises(OSError):
            say(pair[0], "too many", (null.fileno(),) * (MOST_DESCRIPTORS + 1))


def test_the_end_of_the_other_side_is_none(pair: Pair) -> None:
    pair[0].close()
    assert hear(pair[1]) is None
    with pytest.raises(OSError):
        say(pair[1], "anybody")


def test_an_empty_message_with_descriptors_leaks_none(pair: Pair) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with open(os.devnull) as null:
        pair[0].sendmsg([b""], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [null.fileno()]))])
        assert hear(pair[1]) is None
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_message_too_long_is_cut_and_the_next_one_whole(pair: Pair) -> None:
    pair[0].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    pair[0].send(b"y" * 70000)
    say(pair[0], "next")
    message = hear(pair[1])
    assert message is not None and len(message[0]) == 65536
    assert hear(pair[1]) == ("next", ())


@pytest.mark.parametrize("data", [b"\xff\xfe", b"\0", b" ", b"exited x y"])
def test_odd_bytes_are_text(pair: Pair, data: bytes) -> None:
    pair[0].send(data)
    message = hear(pair[1])
    assert message is not None
    assert message[0].encode("utf-8", "surrogateescape") == data
