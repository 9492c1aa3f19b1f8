"""The proxy that the host itself uses to get out: its variables, and what is said to it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from netpolicy.errors import PeerError
from netpolicy.hosts import looks_like_address

MAX_ANSWER = 16_384  # octets of the head of the proxy's answer


class HostProxy(NamedTuple):
    """An HTTP proxy. `authorization` is the value of the header by that name, or empty."""

    host: str
    port: int
    authorization: bytes = b""

    def __repr__(self) -> str:
        """Without what could be a secret."""
        return f"HostProxy({self.host}:{self.port})"


class HostProxies(NamedTuple):
    """`secure` is for all but plain HTTP, which `plain` is for; text says why one can't be used."""

    secure: HostProxy | str | None
    plain: HostProxy | str | None
    direct: tuple[str, ...]


def read_proxies(environment: Mapping[str, str]) -> HostProxies | None:
    """What HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY say, in lower or in upper case; None without a proxy.

    A value that can't be understood is kept as the reason: connections that it was meant for fail with it.
    """
    anything = _value(environment, "all_proxy")
    secure = _value(environment, "https_proxy") or anything
    plain = _value(environment, "http_proxy") or anything
    if not secure and not plain:
        return None
    direct = tuple(word for word in _value(environment, "no_proxy").lower().replace(",", " ").split())
    return HostProxies(_proxy(secure, "HTTPS_PROXY"), _proxy(plain, "HTTP_PROXY"), direct)


def choose(proxies: HostProxies, host: str, port: int, plain: bool) -> HostProxy | str | None:
    """The proxy for a canonical name or address, why it can't be used, or None to dial directly."""
    if any(_is_direct(entry, host, port) for entry in proxies.direct):
        return None
    return proxies.plain if plain else proxies.secure


def connect_request(proxy: HostProxy, host: str, port: int) -> bytes:
    """RFC 9110 9.3.6: a tunnel to a host, by name."""
    authority = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    lines = [f"CONNECT {authority} HTTP/1.1".encode("ascii"), f"Host: {authority}".encode("ascii")]
    if proxy.authorization:
        lines.append(b"Proxy-Authorization: " + proxy.authorization)
    return b"\r\n".join([*lines, b"", b""])


def head_length(data: bytes) -> int:
    """How many octets the head of the proxy's answer has; 0 while it is not whole. PeerError when it gets too long."""
    end = data.find(b"\r\n\r\n")
    if end >= 0:
        return end + 4
    if len(data) >= MAX_ANSWER:
        raise PeerError("the answer of the host's proxy is too long", "upstream-proxy")
    return 0


def read_status(head: bytes) -> int:
    """The status code of the answer; PeerError when it is no HTTP."""
    words = head.split(b"\r\n", 1)[0].split(b" ", 2)
    if len(words) < 2 or not words[0].startswith(b"HTTP/1.") or len(words[1]) != 3 or not words[1].isdigit():
        raise PeerError("the host's proxy does not answer as an HTTP proxy does", "upstream-proxy")
    return int(words[1])


def _value(environment: Mapping[str, str], name: str) -> str:
    return (environment.get(name) or environment.get(name.upper()) or "").strip()


def _proxy(text: str, variable: str) -> HostProxy | str | None:
    if not text:
        return None
    scheme, mark, rest = text.partition("://")
    if not mark:
        scheme, rest = "http", text
    wrong = f"the host's {variable} (or ALL_PROXY) can't be used: "
    if scheme.lower() != "http":
        return f"{wrong}only proxies with http:// are understood"
    rest = rest.split("/", 1)[0]
    credentials, _, where = rest.rpartition("@")
    if where.startswith("["):
        host, _, digits = where[1:].partition("]")
        digits = digits.removeprefix(":")
    else:
        host, _, digits = where.partition(":")
    if not host or (digits and not (digits.isascii() and digits.isdigit() and 0 < int(digits) < 65536)):
        return f"{wrong}it names no host and port"
    return HostProxy(host.lower(), int(digits) if digits else 80, _basic(credentials))


def _basic(credentials: str) -> bytes:
    if not credentials:
        return b""
    from base64 import b64encode

    name, _, password = credentials.partition(":")
    return b"Basic " + b64encode(_decoded(name) + b":" + _decoded(password))


def _decoded(text: str) -> bytes:
    """RFC 3986 2.1: %XX is an octet."""
    first, *rest = text.encode().split(b"%")
    parts = [first]
    for part in rest:
        try:
            parts.append(bytes.fromhex(part[:2].decode("ascii")) + part[2:])
        except ValueError:
            parts.append(b"%" + part)
    return b"".join(parts)


def _is_direct(entry: str, host: str, port: int) -> bool:
    """As curl and Go read NO_PROXY: a name covers itself and what is below it; also addresses, CIDRs, ports."""
    if entry == "*":
        return True
    if "/" in entry:
        return looks_like_address(host) and _within(host, entry)
    name, colon, digits = entry.rpartition(":")
    if colon and digits.isdigit() and (":" not in name or name.endswith("]")):
        if int(digits) != port:
            return False
        entry = name
    entry = entry.strip("[]")
    if looks_like_address(entry):
        return looks_like_address(host) and _within(host, entry)
    entry = entry.removeprefix("*").strip(".")
    return bool(entry) and (host == entry or host.endswith("." + entry))


def _within(host: str, network: str) -> bool:
    from netpolicy.addresses import within

    try:
        return within(host, network)
    except ValueError:
        return False
