"""Every port of a session's network leads to one listener: nf_tables rules, sent to the kernel as they are.

Only sessions that may use every port need them, and only process 1 makes them: one batch of netlink messages, with
no program and no library to load. nft(8) calls this ``tproxy``. Nothing is translated: an accepted socket's own
address is the one that the program chose. What the rules don't take stays as it is: refused at once.
"""

import os
import socket
import struct
from typing import NamedTuple

from netpolicy.synthetic import RESOLVER_V4, RESOLVER_V6

# What the proxy itself sends into the session: without the mark, its answers would come back to it.
MARK = 0x5B

# linux/netlink.h, linux/netfilter/nfnetlink.h, linux/netfilter/nf_tables.h
_NETLINK_NETFILTER = 12
_REQUEST, _ACK, _CREATE, _APPEND = 0x1, 0x4, 0x400, 0x800
_ERROR, _BATCH_BEGIN, _BATCH_END = 2, 16, 17
_NFTABLES = 10
_NEW_TABLE, _NEW_CHAIN, _NEW_RULE = (_NFTABLES << 8 | number for number in (0, 3, 6))
_NESTED = 0x8000
_PREROUTING, _MANGLE = 0, -150
_DROP_NOTHING = 1  # NF_ACCEPT as the chain's policy
_REGISTER_1, _REGISTER_2, _VERDICT = 1, 2, 0
_META_MARK, _META_L4PROTO = 3, 16
_NETWORK_HEADER = 1
_NAME = b"sandbox\0"
_NFPROTO: dict[int, int] = {socket.AF_INET: 2, socket.AF_INET6: 10}


class Capture(NamedTuple):
    """Where one protocol's traffic to every port goes: a transparent socket at the resolver's address."""

    family: int
    protocol: int
    port: int


def install(captures: tuple[Capture, ...]) -> None:
    """Make the rules, all or none, in this network namespace. OSError when the kernel can't."""
    messages = [_message(_BATCH_BEGIN, 0, 0, b"", batch=True)]
    for family in dict.fromkeys(each.family for each in captures):
        own = [each for each in captures if each.family == family]
        messages.append(_message(_NEW_TABLE, family, _CREATE | _ACK, _attribute(1, _NAME)))
        messages.append(_message(_NEW_CHAIN, family, _CREATE | _ACK, _chain()))
        messages += [
            _message(_NEW_RULE, family, _CREATE | _APPEND | _ACK, _rule(expressions))
            for expressions in _rules(family, own)
        ]
    messages.append(_message(_BATCH_END, 0, 0, b"", batch=True))
    acknowledged = len(messages) - 2
    with socket.socket(
        socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_NETFILTER
    ) as netlink:
        netlink.sendto(b"".join(messages), (0, 0))
        while acknowledged > 0:
            acknowledged -= _acknowledgements(netlink.recv(65_536))


def _acknowledgements(data: bytes) -> int:
    """How many messages the kernel says it took; OSError for one that it did not."""
    count, at = 0, 0
    while at + 20 <= len(data):
        length, kind = struct.unpack_from("=IH", data, at)
        if kind == _ERROR:
            code = struct.unpack_from("=i", data, at + 16)[0]
            if code:
                raise OSError(-code, os.strerror(-code))
            count += 1
        at += length + 3 & ~3
    return count


def _rules(family: int, captures: list[Capture]) -> list[bytes]:
    """Expressions of each rule: let the proxy's own, loopback and the resolver alone; take the rest."""
    v4 = family == socket.AF_INET
    # The destination's place in the header (RFC 791, RFC 8200).
    at = 16 if v4 else 24
    loopback = b"\x7f" if v4 else bytes(15) + b"\x01"
    resolver = socket.inet_pton(family, RESOLVER_V4 if v4 else RESOLVER_V6)
    rules = [_meta(_META_MARK) + _equals(struct.pack("=I", MARK)) + _accept()]
    rules += [_payload(at, len(address)) + _equals(address) + _accept() for address in (loopback, resolver)]
    return rules + [
        _meta(_META_L4PROTO)
        + _equals(bytes((each.protocol,)))
        + _immediate(_REGISTER_1, _attribute(1, resolver))
        + _immediate(_REGISTER_2, _attribute(1, struct.pack("!H", each.port)))
        + _expression(
            b"tproxy\0", _number(1, _NFPROTO[family]) + _number(2, _REGISTER_1) + _number(3, _REGISTER_2)
        )
        + _accept()
        for each in captures
    ]


def _chain() -> bytes:
    hook = _number(1, _PREROUTING) + _number(2, _MANGLE & 0xFFFFFFFF)
    return (
        _attribute(1, _NAME)
        + _attribute(3, _NAME)
        + _attribute(4 | _NESTED, hook)
        + _number(5, _DROP_NOTHING)
        + _attribute(7, b"filter\0")
    )


def _rule(expressions: bytes) -> bytes:
    return _attribute(1, _NAME) + _attribute(2, _NAME) + _attribute(4 | _NESTED, expressions)


def _meta(key: int) -> bytes:
    return _expression(b"meta\0", _number(1, _REGISTER_1) + _number(2, key))


def _payload(offset: int, length: int) -> bytes:
    where = _number(1, _REGISTER_1) + _number(2, _NETWORK_HEADER)
    return _expression(b"payload\0", where + _number(3, offset) + _number(4, length))


def _equals(value: bytes) -> bytes:
    data = _attribute(3 | _NESTED, _attribute(1, value))
    return _expression(b"cmp\0", _number(1, _REGISTER_1) + _number(2, 0) + data)


def _accept() -> bytes:
    return _immediate(_VERDICT, _attribute(2 | _NESTED, _number(1, 1)))


def _immediate(register: int, data: bytes) -> bytes:
    return _expression(b"immediate\0", _number(1, register) + _attribute(2 | _NESTED, data))


def _expression(name: bytes, data: bytes) -> bytes:
    return _attribute(1 | _NESTED, _attribute(1, name) + _attribute(2 | _NESTED, data))


def _number(kind: int, value: int) -> bytes:
    return _attribute(kind, struct.pack("!I", value))


def _attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def _message(kind: int, family: int, flags: int, attributes: bytes, *, batch: bool = False) -> bytes:
    general = struct.pack("=BB", 0 if batch else _NFPROTO[family], 0)
    general += struct.pack("!H", _NFTABLES if batch else 0)
    body = general + attributes
    return struct.pack("=IHHII", 16 + len(body), kind, _REQUEST | flags, 0, 0) + body
