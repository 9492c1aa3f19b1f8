"""Damaged forms of what real clients and servers say: each parser's check of tests.netpolicy.hostile must hold.

Found by fuzzing and kept in the tables of other tests: a dot within the label before "arpa", an interface in an
address of a Host header, a name in brackets there.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netpolicy import clienthello, dnsreply
from netpolicy import dns as server
from netpolicy.clienthello import ClientHello, HelloReader
from netpolicy.errors import PeerError
from netpolicy.synthetic import SyntheticNames
from tests.netpolicy.greetings import extension, hello, openssl_hello, records, server_name
from tests.netpolicy.hostile import CHECKS, InTheClear, carried, name_for_openssl
from tests.netpolicy.seeds import exchange, seeds
from tests.netpolicy.test_attached import get
from tests.netpolicy.test_exchange import OK

SEEDS = seeds()


@st.composite
def damaged(draw: st.DrawFn, inputs: list[bytes]) -> bytes:
    """One of the inputs after up to four edits: octets set, cut out, doubled, or taken from another input."""
    data = bytearray(draw(st.sampled_from(inputs)))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        length = draw(st.integers(0, 12))
        edit = draw(st.sampled_from(("set", "cut", "double", "insert", "splice")))
        if edit == "set":
            data[at : at + 1] = bytes((draw(st.integers(0, 255)),))
        elif edit == "cut":
            del data[at : at + length]
        elif edit == "double":
            data[at:at] = data[at : at + length]
        elif edit == "insert":
            data[at:at] = draw(st.binary(min_size=length, max_size=length))
        else:
            other = draw(st.sampled_from(inputs))
            data[at:] = other[at:]
    return bytes(data)


def test_every_check_has_seeds_that_pass_it() -> None:
    assert SEEDS.keys() == CHECKS.keys()
    for target, inputs in SEEDS.items():
        for data in inputs:
            CHECKS[target](data)


@pytest.mark.parametrize("target", CHECKS)
def test_damaged_input_is_read_alike_by_all_or_refused(target: str) -> None:
    examples = 40 if target in ("attached", "exchange") else 300

    @given(damaged(SEEDS[target]))
    @settings(max_examples=examples, deadline=None)
    def holds(data: bytes) -> None:
        CHECKS[target](data)

    holds()


@pytest.mark.parametrize("target", CHECKS)
@given(data=st.binary(max_size=400))
@settings(max_examples=50, deadline=None)
def test_any_bytes_at_all_are_read_alike_or_refused(target: str, data: bytes) -> None:
    CHECKS[target](data)


def test_what_is_attached_is_seen_where_it_belongs() -> None:
    """The check itself: it would tell a token from none."""
    said = [
        exchange(get(path, "a.test"), OK)
        for path in ("/me/ours/x", "/me/ours.git", "/me/theirs", "/me/ours/../x")
    ]
    found = [b"".join(carried(data, lambda wall: InTheClear(wall, "a.test", 443))) for data in said]
    assert [b"authorization" in each for each in found] == [True, True, False, False]
    assert all(found)


def test_openssl_is_asked_and_would_tell_a_difference() -> None:
    """The oracle itself: it reads names, tells none from refused, and keeps what Python can't decode to itself."""
    assert name_for_openssl(openssl_hello("A.test")) == ClientHello("a.test")
    assert name_for_openssl(openssl_hello(None)) == ClientHello(None)
    assert name_for_openssl(openssl_hello("a.test")[:-1]) is None
    assert name_for_openssl(records(hello(server_name(b"\xc3\xa4.test")))) is None
    assert name_for_openssl(b"GET / HTTP/1.1\r\n\r\n") is None


class Steps:
    """Counts the lines of this project's code that run, which is work whatever the machine is busy with."""

    def __init__(self) -> None:
        self.count = 0

    def __enter__(self) -> Steps:
        self._before = sys.gettrace()
        sys.settrace(self._enter)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(self._before)

    def _enter(self, frame: FrameType, _event: str, _arg: object) -> Callable[..., object] | None:
        return self._line if "/netpolicy/" in frame.f_code.co_filename else None

    def _line(self, _frame: FrameType, event: str, _arg: object) -> Callable[..., object]:
        self.count += event == "line"
        return self._line


def _steps(work: Callable[[], object]) -> int:
    with Steps() as steps:
        try:
            work()
        except PeerError:
            pass
    return steps.count


def _trickle(data: bytes) -> Callable[[], None]:
    def feed() -> None:
        reader = HelloReader()
        for at in range(len(data)):
            reader.feed(data[at : at + 1])

    return feed


def _extensions(count: int) -> bytes:
    return hello(*(extension(kind, b"") for kind in range(1, count + 1)))


GREETINGS: dict[str, Callable[[int], Callable[[], object]]] = {
    "an octet a record, an octet at a time": lambda size: _trickle(
        records(hello(extension(35, bytes(size))), 1)
    ),
    "an octet at a time": lambda size: _trickle(records(hello(extension(35, bytes(size))))),
    "nothing but extensions": lambda size: lambda: clienthello.parse(records(_extensions(size // 4))),
    "records without end": lambda size: _trickle(records(b"\x01\x00\xff\xff" + bytes(size), 1)),
}


@pytest.mark.parametrize("case", GREETINGS)
def test_the_work_on_a_greeting_is_in_proportion_to_its_size(case: str) -> None:
    small, large = (_steps(GREETINGS[case](size)) for size in (2_000, 8_000))
    assert small > 0
    assert large <= 4.5 * small


def test_the_work_on_the_largest_greeting_is_bounded() -> None:
    """Up to the limit on size, in the costliest form there is: each octet in a record and a call of its own."""
    data = records(b"\x01\x00\xff\xff" + bytes(clienthello.MAX_WIRE), 1)
    with Steps() as steps, pytest.raises(PeerError, match="exceeds"):
        _trickle(data)()
    assert steps.count <= 40 * clienthello.MAX_WIRE


def test_the_work_on_a_dns_message_is_bounded() -> None:
    """Long names by pointer in as many records as there may be; a chain of pointers; a query full of empty options."""
    labels = b"\1a" * 100 + b"\0"
    record = b"\xc0\x10" + b"\0\5\0\1" + bytes(4) + b"\0\2" + b"\xc0\x10"
    head = b"\0\1\x80\0\0\0" + (256).to_bytes(2, "big") + bytes(4)
    first = labels + b"\0\5\0\1" + bytes(4) + len(labels).to_bytes(2, "big") + labels
    found: list[dnsreply.Reply] = []
    steps = _steps(lambda: found.append(dnsreply.read_reply(head + first + record * 255)))
    assert len(found[0].names) == 256
    assert steps < 256 * 2 * 130 * 20
    chain = b"".join((0xC000 | 14 + 2 * at).to_bytes(2, "big") for at in range(40)) + b"\0"
    assert _steps(lambda: dnsreply.read_reply(head + chain)) < 40 * 15
    options = b"\0\0\x29\4\xd0\0\0\0\0" + (64_000).to_bytes(2, "big") + bytes(64_000)
    query = b"\0\1\1\0\0\1\0\0\0\0\0\1" + b"\1a" * 120 + b"\0\0\1\0\1" + options
    assert _steps(lambda: server.answer(query, SyntheticNames())) < 5 * 64_000
