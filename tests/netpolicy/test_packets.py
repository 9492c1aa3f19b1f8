"""Packets, judged by checksums that are computed the long way."""

from __future__ import annotations

import struct
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netpolicy.packets import Ends, answer, unreachable

V4 = Ends("203.0.113.7", 40_000, "198.51.100.2", 53)
V6 = Ends("2001:db8::7", 40_000, "2001:db8:9::2", 53)


def ones_complement_sum(data: bytes) -> int:
    """RFC 1071, word for word."""
    total = 0
    for (word,) in struct.iter_unpack("!H", data + b"\0" * (len(data) % 2)):
        total += word
        total = (total & 0xFFFF) + (total >> 16)
    return total


def pseudo_header(ends: Ends, protocol: int, length: int) -> bytes:
    source, target = ip_address(ends.target).packed, ip_address(ends.client).packed
    if len(source) == 4:
        return source + target + struct.pack("!HH", protocol, length)
    return source + target + struct.pack("!II", length, protocol)


@given(st.binary(max_size=300), st.sampled_from([V4, V6]))
def test_an_answer_comes_from_the_port_that_was_asked_and_its_checksum_holds(
    payload: bytes, ends: Ends
) -> None:
    packet = answer(ends, payload)
    head = 20 if ends is V4 else 40
    datagram = packet[head:]
    assert struct.unpack("!HHH", datagram[:6]) == (53, 40_000, 8 + len(payload))
    assert datagram[8:] == payload
    assert datagram[6:8] != b"\0\0", "that would mean no checksum"
    assert ones_complement_sum(pseudo_header(ends, 17, len(datagram)) + datagram) == 0xFFFF


def test_headers_name_both_ends_and_the_length() -> None:
    v4, v6 = answer(V4, b"12345"), answer(V6, b"12345")
    assert (v4[0], struct.unpack("!H", v4[2:4])[0], v4[9]) == (0x45, len(v4), 17)
    assert v4[12:20] == bytes((198, 51, 100, 2, 203, 0, 113, 7))
    assert (v6[0], struct.unpack("!H", v6[4:6])[0], v6[6]) == (0x60, len(v6) - 40, 17)
    assert v6[8:40] == ip_address(V6.target).packed + ip_address(V6.client).packed


@pytest.mark.parametrize(("ends", "head", "kind"), [(V4, 20, (3, 3)), (V6, 40, (1, 4))])
def test_a_refusal_quotes_the_datagram_that_it_refuses(ends: Ends, head: int, kind: tuple[int, int]) -> None:
    packet = unreachable(ends)
    message = packet[head:]
    assert (message[0], message[1]) == kind
    pseudo = pseudo_header(ends, 58, len(message)) if ends is V6 else b""
    assert ones_complement_sum(pseudo + message) == 0xFFFF
    quoted = message[8:]
    assert struct.unpack("!HH", quoted[head : head + 4]) == (40_000, 53)
    addresses = quoted[12:20] if ends is V4 else quoted[8:40]
    assert addresses == ip_address(ends.client).packed + ip_address(ends.target).packed
