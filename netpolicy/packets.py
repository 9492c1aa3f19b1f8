"""IPv4 and IPv6 packets that a raw socket sends into a session's network: datagrams, and refusals of them.

The proxy has one socket for every port, so the kernel can't put the port that a datagram was sent to on its answer.
"""

from __future__ import annotations

import struct
from ipaddress import ip_address
from typing import NamedTuple

_UDP, _ICMP, _ICMP6 = 17, 1, 58
_V4 = struct.Struct("!BBHHHBBH4s4s")
_V6 = struct.Struct("!IHBB16s16s")
_HEADER = struct.Struct("!HHHH")
_TTL = 64
MAX_PAYLOAD_V4 = 65_535 - _V4.size - _HEADER.size
MAX_PAYLOAD_V6 = 65_535 - _HEADER.size


class Ends(NamedTuple):
    """Who talks to whom: the session's program, and where it sent its datagram. Addresses as text."""

    client: str
    client_port: int
    target: str
    target_port: int


def answer(ends: Ends, payload: bytes) -> bytes:
    """A datagram from the target to the client; at most MAX_PAYLOAD_V4 or MAX_PAYLOAD_V6 octets."""
    source, target = ip_address(ends.target).packed, ip_address(ends.client).packed
    datagram = _datagram(source, ends.target_port, target, ends.client_port, payload)
    return _packet(source, target, _UDP, datagram)


def unreachable(ends: Ends) -> bytes:
    """What the target would say if nothing listened there (RFC 792, RFC 4443: port unreachable)."""
    client, target = ip_address(ends.client).packed, ip_address(ends.target).packed
    # Enough of the refused datagram that the kernel finds whose it was.
    refused = _packet(
        client, target, _UDP, _datagram(client, ends.client_port, target, ends.target_port, b"")
    )
    if len(client) == 4:
        message = _with_checksum(struct.pack("!BBHI", 3, 3, 0, 0) + refused, b"", 2)
        return _packet(target, client, _ICMP, message)
    message = struct.pack("!BBHI", 1, 4, 0, 0) + refused
    return _packet(
        target, client, _ICMP6, _with_checksum(message, _pseudo(target, client, _ICMP6, len(message)), 2)
    )


def _datagram(source: bytes, port: int, target: bytes, target_port: int, payload: bytes) -> bytes:
    length = _HEADER.size + len(payload)
    return _with_checksum(
        _HEADER.pack(port, target_port, length, 0) + payload, _pseudo(source, target, _UDP, length), 6
    )


def _packet(source: bytes, target: bytes, protocol: int, content: bytes) -> bytes:
    if len(source) == 4:
        # The kernel fills in the identification and the header's checksum (raw(7)).
        head = _V4.pack(0x45, 0, _V4.size + len(content), 0, 0, _TTL, protocol, 0, source, target)
    else:
        head = _V6.pack(6 << 28, len(content), protocol, _TTL, source, target)
    return head + content


def _pseudo(source: bytes, target: bytes, protocol: int, length: int) -> bytes:
    if len(source) == 4:
        return source + target + struct.pack("!HH", protocol, length)
    return source + target + struct.pack("!II", length, protocol)


def _with_checksum(message: bytes, pseudo: bytes, at: int) -> bytes:
    """RFC 1071, as one division: a number's remainder by 0xFFFF is the sum of its 16-bit digits, carried around."""
    data = pseudo + message
    if len(data) % 2:
        data += b"\0"
    total = int.from_bytes(data, "big") % 0xFFFF
    # Zero would say that there is none (RFC 768); both stand for the same number.
    checksum = 0xFFFF - total or 0xFFFF
    return message[:at] + checksum.to_bytes(2, "big") + message[at + 2 :]
