"""The session's name server: every answer comes from the session itself, and no query leaves it."""

from __future__ import annotations

from typing import NamedTuple

from netpolicy.errors import PeerError
from netpolicy.hosts import name_problem
from netpolicy.synthetic import SyntheticNames

TTL = 5  # seconds
UDP_SIZE = 1232  # what our answers announce; fits every path

A, PTR, AAAA, OPT = 1, 12, 28, 41
IN = 1
NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED = 0, 1, 2, 3, 4, 5
BADVERS = 16

_MAX_WIRE_NAME = 255
_LOCAL = {A: b"\x7f\x00\x00\x01", AAAA: b"\x00" * 15 + b"\x01"}
# Names that must not seem to exist: RFC 6761 (invalid), RFC 7686 (onion), and the name by which browsers ask
# whether they may look up names over HTTPS.
_ABSENT = ("invalid", "onion", "use-application-dns.net")


class Query(NamedTuple):
    """One question. `name` is None when it is a valid DNS name but no host name; `question` its wire form."""

    id: int
    recursion_desired: bool
    question: bytes
    labels: tuple[bytes, ...]
    type: int
    klass: int
    edns: bool
    edns_version: int = 0


def parse(message: bytes) -> Query:
    """Read a query; PeerError for anything else, with nothing left unread."""
    if len(message) < 12:
        raise PeerError("the DNS message is shorter than its header")
    flags = int.from_bytes(message[2:4], "big")
    if flags & 0x8000:
        raise PeerError("the DNS message is a response, not a query", "not-a-query")
    if flags & 0x7800:
        raise PeerError("the DNS operation is not a query", "opcode")
    counts = [int.from_bytes(message[at : at + 2], "big") for at in (4, 6, 8, 10)]
    if counts[:3] != [1, 0, 0] or counts[3] > 1:
        raise PeerError("the DNS query does not have exactly one question and at most one further record")
    labels, at = _labels(message, 12)
    if at + 4 > len(message):
        raise PeerError("the DNS question is cut short")
    kind = int.from_bytes(message[at : at + 2], "big")
    klass = int.from_bytes(message[at + 2 : at + 4], "big")
    question = message[12 : at + 4]
    at += 4
    version = 0
    if counts[3]:
        version, at = _edns(message, at)
    if at != len(message):
        raise PeerError("the DNS query has bytes that belong to nothing")
    return Query(
        int.from_bytes(message[:2], "big"),
        bool(flags & 0x0100),
        question,
        labels,
        kind,
        klass,
        bool(counts[3]),
        version,
    )


def answer(message: bytes, names: SyntheticNames) -> bytes | None:
    """The response to one message; None when there is none to give.

    One question and at most one record always fit 512 octets, the least that every client takes.
    """
    try:
        query = parse(message)
    except PeerError as error:
        if len(message) < 12 or error.code == "not-a-query":
            return None
        rcode = NOTIMP if error.code == "opcode" else FORMERR
        head = int.from_bytes(message[2:4], "big")
        return message[:2] + (0x8080 | head & 0x7900 | rcode).to_bytes(2, "big") + bytes(8)
    if query.edns_version:
        return _response(query, BADVERS)
    if query.klass != IN:
        return _response(query, REFUSED)
    return _response(query, *_data(query, names))


def is_local(query: Query) -> bool:
    """Whether the session itself answers a query even where others are passed on: no name, or one of its own."""
    if not query.labels or query.edns_version or query.klass != IN:
        return True
    try:
        name = b".".join(query.labels).decode("ascii").lower()
    except UnicodeDecodeError:
        return True
    return name == "localhost" or name.endswith(".localhost") or _absent(name)


def refuse(query: Query) -> bytes:
    """There is no such name: programs stop asking, and ask no other server."""
    return _response(query, NXDOMAIN)


def nothing(query: Query) -> bytes:
    """The name has no record of that type."""
    return _response(query, NOERROR)


def failure(query: Query) -> bytes:
    """It could not be found out."""
    return _response(query, SERVFAIL)


def _data(query: Query, names: SyntheticNames) -> tuple[int, bytes | None]:
    """The response code and the one record's data, if any."""
    if not query.labels:
        return NOERROR, None
    try:
        name = b".".join(query.labels).decode("ascii").lower()
    except UnicodeDecodeError:
        return NXDOMAIN, None
    if name == "localhost" or name.endswith(".localhost"):
        return NOERROR, _LOCAL.get(query.type)
    if name.endswith((".in-addr.arpa", ".ip6.arpa")):
        target = _reverse(query.labels, names)
        if target is None:
            return NXDOMAIN, None
        return NOERROR, _wire_name(target) if query.type == PTR else None
    if name == "arpa" or name.endswith(".arpa") or _absent(name):
        return NXDOMAIN, None
    if query.type not in (A, AAAA):
        # Services have names that hosts can't have, such as _http._tcp; there is nothing to say about any.
        return NOERROR, None
    if any(b"." in label for label in query.labels) or name_problem(name) is not None:
        return NXDOMAIN, None
    v4, v6 = names.addresses(name)
    return NOERROR, v4 if query.type == A else v6


def _absent(name: str) -> bool:
    return any(name == each or name.endswith("." + each) for each in _ABSENT)


def _reverse(labels: tuple[bytes, ...], names: SyntheticNames) -> str | None:
    digits = [label.decode("ascii") for label in reversed(labels[:-2])]
    # A label may hold dots, so the last two labels need not be what the text of the name ends with.
    zone = tuple(label.lower() for label in labels[-2:])
    packed = None
    if zone == (b"in-addr", b"arpa"):
        packed = _packed_v4(digits)
    elif zone == (b"ip6", b"arpa"):
        packed = _packed_v6(digits)
    if packed is None:
        return None
    if packed in _LOCAL.values():
        return "localhost"
    return names.name_at(packed)


def _packed_v4(parts: list[str]) -> bytes | None:
    if len(parts) != 4 or not all(part.isdecimal() and len(part) <= 3 for part in parts):
        return None
    numbers = [int(part) for part in parts]
    return bytes(numbers) if max(numbers) < 256 else None


def _packed_v6(parts: list[str]) -> bytes | None:
    if len(parts) != 32 or not all(len(part) == 1 and part.lower() in "0123456789abcdef" for part in parts):
        return None
    return bytes.fromhex("".join(parts))


def _response(query: Query, rcode: int, data: bytes | None = None) -> bytes:
    # QR and RA set; RD copied.
    flags = 0x8080 | query.recursion_desired << 8 | rcode & 15
    counts = (1, 0 if data is None else 1, 0, 1 if query.edns else 0)
    parts = [query.id.to_bytes(2, "big"), flags.to_bytes(2, "big")]
    parts += [count.to_bytes(2, "big") for count in counts]
    parts.append(query.question)
    if data is not None:
        # A pointer to the question's name, which always stands right after the header.
        parts.append(b"\xc0\x0c" + query.type.to_bytes(2, "big") + b"\x00\x01" + TTL.to_bytes(4, "big"))
        parts.append(len(data).to_bytes(2, "big") + data)
    if query.edns:
        parts.append(b"\x00\x00\x29" + UDP_SIZE.to_bytes(2, "big") + bytes((rcode >> 4, 0, 0, 0, 0, 0)))
    return b"".join(parts)


def _labels(message: bytes, at: int) -> tuple[tuple[bytes, ...], int]:
    start, labels = at, []
    while True:
        if at >= len(message):
            raise PeerError("the DNS name is cut short")
        length = message[at]
        at += 1
        if length == 0:
            break
        # A name that stands first in its message has nothing before it that a pointer could name.
        if length > 63:
            raise PeerError("the DNS name has a malformed label")
        if at + length > len(message):
            raise PeerError("the DNS name is cut short")
        labels.append(message[at : at + length])
        at += length
        if at - start >= _MAX_WIRE_NAME:
            raise PeerError("the DNS name is too long")
    return tuple(labels), at


def _edns(message: bytes, at: int) -> tuple[int, int]:
    """RFC 6891: the version, and where the record ends."""
    if at + 11 > len(message) or message[at : at + 3] != b"\x00\x00\x29":
        raise PeerError("the DNS query's further record is not EDNS")
    version = message[at + 6]
    end = at + 11 + int.from_bytes(message[at + 9 : at + 11], "big")
    at += 11
    while at < end:
        at += 4
        if at > len(message):
            break
        at += int.from_bytes(message[at - 2 : at], "big")
    if at != end or end > len(message):
        raise PeerError("the DNS query's EDNS record is malformed")
    return version, end


def _wire_name(name: str) -> bytes:
    return b"".join(bytes((len(part),)) + part.encode("ascii") for part in name.split(".")) + b"\x00"
