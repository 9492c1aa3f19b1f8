"""Host names: their one canonical form, and the patterns that a user allows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from netpolicy.errors import InputError, PeerError

MAX_NAME = 253  # RFC 1035 2.3.4, in presentation form without the final dot
MAX_LABEL = 63

_LABEL = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-_")
_DIGITS = frozenset("0123456789")
_HEX = frozenset("0123456789abcdef")


class HostPattern(NamedTuple):
    """A canonical name, or every name below it, and the one port that was asked for, if any."""

    name: str
    subdomains: bool
    port: int | None

    def __str__(self) -> str:
        if not self.name:
            return "*"
        text = f"*.{self.name}" if self.subdomains else self.name
        return text if self.port is None else f"{text}:{self.port}"


ANY_HOST = HostPattern("", True, None)  # no entry of a user's: the modes that let everything out have it


def matches(pattern: HostPattern, host: str) -> bool:
    """Whether the canonical name `host` fits; a wildcard covers any depth below its apex, not the apex."""
    if not pattern.name:
        return True
    if pattern.subdomains:
        return host.endswith("." + pattern.name)
    return host == pattern.name


def looks_like_address(name: str) -> bool:
    """Whether resolvers would read `name` as an address: they accept 127.1, 0x7f.1 and 2130706433 as IPv4."""
    if ":" in name or "[" in name:
        return True
    last = name.rsplit(".", 1)[-1]
    if last and _DIGITS.issuperset(last):
        return True
    return last.startswith("0x") and _HEX.issuperset(last[2:])


def name_problem(name: str) -> str | None:
    """Why a lower-case ASCII name without a final dot is no host name, or None."""
    if not name:
        return "it is empty"
    if len(name) > MAX_NAME:
        return f"it is longer than {MAX_NAME} characters"
    for label in name.split("."):
        if not label:
            return "it has an empty label (two dots in a row, or a dot at the start)"
        if len(label) > MAX_LABEL:
            return f"a label is longer than {MAX_LABEL} characters"
        if not _LABEL.issuperset(label):
            return "it has a character that host names can't have"
        if label[0] == "-" or label[-1] == "-":
            return "a label starts or ends with a hyphen"
    if looks_like_address(name):
        return "it is an address, not a name"
    return None


def presentation(labels: Sequence[bytes]) -> str:
    """Any DNS name as text that can be shown: RFC 4343 2.1, lower case, \\DDD for what host names can't have."""
    return ".".join(
        "".join(chr(octet) if chr(octet) in _LABEL else f"\\{octet:03}" for octet in label.lower())
        for label in labels
    )


def peer_name(raw: bytes, what: str) -> str:
    """The canonical form of a name that a peer sent, which has no final dot; PeerError if it is no name."""
    try:
        name = raw.decode("ascii").lower()
    except UnicodeDecodeError:
        raise PeerError(f"{what} has bytes outside ASCII", "bad-name") from None
    problem = name_problem(name)
    if problem is not None:
        raise PeerError(f"{what} is no host name: {problem}", "bad-name")
    return name


def normalise_name(text: str) -> str:
    """The canonical form of a name that a user wrote: lower case, ASCII by IDNA, no final dot."""
    name = text
    if not name.isascii() or "xn--" in name.lower():
        name = _to_ascii(name)
    name = name.lower()
    if name.endswith("."):
        name = name[:-1]
    problem = name_problem(name)
    if problem is not None:
        raise InputError(f"{text!r} is no host name: {problem}", _NAME_HINT)
    return name


def parse_pattern(text: str) -> HostPattern:
    """Read `name`, `*.name`, `name:port` or `https://name`; InputError says why anything else is refused."""
    rest, secure = _without_scheme(text)
    if not rest:
        raise _refused(text, "it is empty", _NAME_HINT)
    if rest != "".join(rest.split()):
        raise _refused(text, "it contains white space", "give each host as an entry of its own")
    for mark, reason, hint in _FOREIGN_PARTS:
        if mark in rest:
            raise _refused(text, reason, hint)
    if rest.count(":") > 1 or rest.startswith("["):
        raise _refused(text, "it is an address; only names can be allowed", _NAME_HINT)
    host, colon, digits = rest.partition(":")
    port = _port(text, digits) if colon else None
    if secure and port == 80:
        raise _refused(text, "port 80 is plain HTTP, not https", f"write {host}:80 to allow plain HTTP")
    if secure and port == 443:
        port = None
    subdomains = host.startswith("*.")
    if subdomains:
        host = host[2:]
    if "*" in host:
        raise _refused(
            text,
            "a * stands only at the start, followed by a dot and a name",
            "write *.example.test for every name below example.test",
        )
    try:
        name = normalise_name(host)
    except InputError as error:
        reason = str(error).partition("is no host name: ")[2] or str(error)
        raise _refused(text, reason, error.hint) from None
    if name == "localhost" or name.endswith(".localhost"):
        raise _refused(
            text, "localhost is the session itself, which no entry opens or closes", "leave this entry out"
        )
    return HostPattern(name, subdomains, port)


def parse_target(text: str) -> tuple[str, int]:
    """Read `HOST[:PORT]`, a name or an address ([v6]:port), as (canonical host, port); the port is 443 if left out."""
    address, port = text, ""
    if text.startswith("["):
        address, bracket, port = text[1:].partition("]")
        if not bracket or port[:1] not in ("", ":"):
            raise _refused(text, "the brackets of an IPv6 address are not closed", "write [2001:db8::1]:443")
        port = port.removeprefix(":")
    elif text.count(":") == 1:
        address, _, port = text.partition(":")
    if looks_like_address(address) and (port or not text.endswith(":")):
        from ipaddress import ip_address

        try:
            return str(ip_address(address)), _port(text, port) if port else 443
        except ValueError:
            raise _refused(text, "it is not an address in its usual form", _NAME_HINT) from None
    pattern = parse_pattern(text)
    if pattern.subdomains:
        raise _refused(text, "it covers many names", "ask about one name")
    return pattern.name, 443 if pattern.port is None else pattern.port


_NAME_HINT = "write a name such as example.test, *.example.test or example.test:80"

_FOREIGN_PARTS = (
    ("@", "it contains user information", "leave out everything up to the @"),
    (
        "/",
        "it contains a path; access is by host",
        "leave out the first / after the name and all that follows",
    ),
    ("?", "it contains a query; access is by host", "leave out the ? and all that follows"),
    ("#", "it contains a fragment; access is by host", "leave out the # and all that follows"),
)


def _without_scheme(text: str) -> tuple[str, bool]:
    scheme, mark, rest = text.partition("://")
    if not mark:
        return text, False
    if scheme.lower() == "https":
        return rest, True
    if scheme.lower() == "http":
        host = rest.split("/", 1)[0]
        raise _refused(text, "http:// is not accepted in an entry", f"write {host}:80 to allow plain HTTP")
    raise _refused(text, "only https:// may stand before the name", "write the name alone")


def _port(text: str, digits: str) -> int:
    if not (0 < len(digits) <= 5 and _DIGITS.issuperset(digits)) or not 0 < int(digits) < 65536:
        raise _refused(text, "the port is no number from 1 to 65535", "write it as in example.test:8443")
    if int(digits) == 53:
        raise _refused(text, "port 53 is the session's own name server", "leave this entry out")
    return int(digits)


def _refused(text: str, reason: str, hint: str) -> InputError:
    return InputError(f"host {text!r}: {reason}", hint)


def _to_ascii(name: str) -> str:
    import idna

    try:
        return idna.encode(name, uts46=True).decode("ascii")
    except (idna.IDNAError, UnicodeError) as error:
        raise InputError(f"{name!r} is no host name: {error}", _NAME_HINT) from None
