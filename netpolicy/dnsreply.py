"""What a name server outside answered: the names that its answer leads through, and the addresses."""

from __future__ import annotations

from ipaddress import IPv6Address
from typing import NamedTuple

from netpolicy.errors import PeerError
from netpolicy.hosts import presentation

_A, _CNAME, _AAAA = 1, 5, 28
_IN = 1
_MAX_RECORDS = 256
_MAX_JUMPS = 32
_MAX_NAME = 255


class Reply(NamedTuple):
    """`names`: the targets of aliases, as netpolicy.hosts.presentation has them. `addresses` as text."""

    names: tuple[str, ...]
    addresses: tuple[str, ...]


def read_reply(message: bytes) -> Reply:
    """Read the answer section of a response; PeerError when it is malformed or has too many records."""
    if len(message) < 12 or not message[2] & 0x80:
        raise PeerError("the DNS message is no response")
    questions, answers = (int.from_bytes(message[at : at + 2], "big") for at in (4, 6))
    if questions > 1 or answers > _MAX_RECORDS:
        raise PeerError("the DNS response has too many records")
    at = 12
    for _ in range(questions):
        at = _name(message, at)[1] + 4
    names, addresses = [], []
    for _ in range(answers):
        at = _name(message, at)[1]
        if at + 10 > len(message):
            raise PeerError("the DNS response is cut short")
        kind, klass = (int.from_bytes(message[at + place : at + place + 2], "big") for place in (0, 2))
        length = int.from_bytes(message[at + 8 : at + 10], "big")
        at += 10
        data = message[at : at + length]
        if len(data) < length:
            raise PeerError("the DNS response is cut short")
        if klass == _IN and kind == _A and length == 4:
            addresses.append(".".join(map(str, data)))
        elif klass == _IN and kind == _AAAA and length == 16:
            addresses.append(str(IPv6Address(data)))
        elif klass == _IN and kind == _CNAME:
            names.append(_name(message, at)[0])
        at += length
    return Reply(tuple(names), tuple(addresses))


def _name(message: bytes, at: int) -> tuple[str, int]:
    """A name, which pointers may continue elsewhere, and where it ends in its own place (RFC 1035 4.1.4)."""
    labels: list[bytes] = []
    end, jumps, size = 0, 0, 0
    while True:
        if at >= len(message):
            raise PeerError("the DNS response is cut short")
        length = message[at]
        if length >= 0xC0:
            if at + 2 > len(message):
                raise PeerError("the DNS response is cut short")
            end = end or at + 2
            at = int.from_bytes(message[at : at + 2], "big") & 0x3FFF
            jumps += 1
            if jumps > _MAX_JUMPS:
                raise PeerError("the DNS response has a name that points in circles")
            continue
        if length > 63:
            raise PeerError("the DNS response has a malformed label")
        at += 1
        if not length:
            return presentation(labels), end or at
        size += length + 1
        if at + length > len(message) or size > _MAX_NAME:
            raise PeerError("the DNS response is cut short or has too long a name")
        labels.append(message[at : at + length])
        at += length
