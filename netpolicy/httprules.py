"""What plain HTTP may say on its way out: one host a request, in one voice, and nothing but HTTP."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address
from typing import NamedTuple

from netpolicy.errors import PeerError
from netpolicy.hosts import looks_like_address, peer_name

Headers = list[tuple[bytes, bytes]]

# RFC 9110 7.6.1, and what it names as sent by older implementations.
_HOP_BY_HOP = frozenset(
    (b"connection", b"http2-settings", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"upgrade")
)
# These say what the message is. No Connection header can take them away.
_FRAMING = frozenset((b"content-length", b"host", b"transfer-encoding"))


class Forward(NamedTuple):
    """A request that asks for exactly one host: what goes to that host, should the policy allow it."""

    host: str
    target: bytes
    headers: Headers


def read_request(
    method: bytes,
    target: bytes,
    version: bytes,
    headers: Sequence[tuple[bytes, bytes]],
    port: int,
    secure: bool = False,
) -> Forward:
    """Find out the host of a request received on `port`; header names are in lower case. `secure`: inside TLS.

    PeerError when it is not certain, or when the connection would become something other than HTTP.
    """
    if version not in (b"1.0", b"1.1"):
        raise PeerError("the request is of an unknown version of HTTP")
    if method == b"CONNECT":
        raise PeerError("tunnels (CONNECT) are not allowed; connect to the host itself", "connect")
    _refuse_two_lengths(version, headers)
    values = [value for name, value in headers if name == b"host"]
    if len(values) != 1:
        raise PeerError(f"the request has {len(values)} Host headers instead of one", "host-header")
    host = _authority(values[0], port, 443 if secure else 80)
    path = target
    if target == b"*":
        if method != b"OPTIONS":
            raise PeerError("the request's target is malformed", "bad-target")
    elif not target.startswith(b"/"):
        if secure:
            raise PeerError("the request's target is no path", "bad-target")
        path = _absolute(target, host, port, method)
    _refuse_upgrades(headers)
    return Forward(host, path, _forwarded(headers))


def through_proxy(forward: Forward, port: int, authorization: bytes) -> Forward:
    """The request as the host's own proxy takes it (RFC 9112 3.2.2), with that proxy's credentials alone."""
    host = f"[{forward.host}]" if ":" in forward.host else forward.host
    place = host if port == 80 else f"{host}:{port}"
    path = b"" if forward.target == b"*" else forward.target
    headers = [(name, value) for name, value in forward.headers if name != b"proxy-authorization"]
    if authorization:
        headers.append((b"proxy-authorization", authorization))
    return Forward(forward.host, b"http://" + place.encode("ascii") + path, headers)


def response_headers(headers: Sequence[tuple[bytes, bytes]]) -> Headers:
    """The headers of a response less those that concern one connection alone.

    A length beside a transfer encoding is void (RFC 9112 6.3).
    """
    dropped = _HOP_BY_HOP | _connection_tokens(headers) | {b"transfer-encoding"}
    if any(name == b"transfer-encoding" for name, _ in headers):
        dropped |= {b"content-length"}
    return [(name, value) for name, value in headers if name not in dropped]


def explanation(reason: str, hint: str) -> str:
    """The text of a refusal."""
    text = f"The sandbox did not let this request out: {reason}."
    return f"{text}\nTo allow it: {hint}" if hint else text


def refusal(status: int, code: str, text: str, with_body: bool = True) -> bytes:
    """A whole response that ends the connection and says why, for a person and for a program."""
    body = text.encode("ascii", "backslashreplace") + b"\n"
    head = (
        f"HTTP/1.1 {status} {_PHRASES[status]}\r\n"
        "Content-Type: text/plain; charset=us-ascii\r\n"
        f"Content-Length: {len(body)}\r\n"
        "Cache-Control: no-store\r\n"
        f"X-Sandbox-{'Denied' if status in (400, 403, 431) else 'Failed'}: {code}\r\n"
        "Connection: close\r\n\r\n"
    )
    return head.encode("ascii") + (body if with_body else b"")


_PHRASES = {
    400: "Bad Request",
    403: "Forbidden",
    431: "Request Header Fields Too Large",
    502: "Bad Gateway",
    504: "Gateway Timeout",
}


def _refuse_two_lengths(version: bytes, headers: Sequence[tuple[bytes, bytes]]) -> None:
    """RFC 9112 6.1: a message with both lengths may be an attempt at smuggling; HTTP/1.0 has no encodings."""
    names = [name for name, _ in headers]
    if b"transfer-encoding" in names and (b"content-length" in names or version == b"1.0"):
        raise PeerError("the request states its length in two ways", "smuggling")
    if names.count(b"content-length") > 1 or names.count(b"transfer-encoding") > 1:
        raise PeerError("the request states its length more than once", "smuggling")


def _absolute(target: bytes, host: str, port: int, method: bytes) -> bytes:
    """The path of an absolute target (RFC 9112 3.2.2), which must name the host that the header names."""
    scheme, mark, rest = target.partition(b"://")
    if not mark or scheme.lower() != b"http":
        raise PeerError("the request's target is malformed, or not of plain HTTP", "bad-target")
    ends = [at for at in (rest.find(b"/"), rest.find(b"?"), rest.find(b"#")) if at >= 0]
    end = min(ends, default=len(rest))
    if _authority(rest[:end], port, 80) != host:
        raise PeerError("the request's target and its Host header name different hosts", "host-mismatch")
    path = rest[end:]
    if not path and method == b"OPTIONS":
        return b"*"
    return path if path.startswith(b"/") else b"/" + path


def _authority(value: bytes, port: int, usual: int) -> str:
    """The canonical host of `host[:port]`, whose port, `usual` when left out, must be the one connected to."""
    if b"@" in value:
        raise PeerError("the request's host contains user information", "bad-name")
    host, digits = value, b""
    if value.startswith(b"["):
        host, mark, rest = value[1:].partition(b"]")
        if not mark or b":" not in host or (rest and not rest.startswith(b":")):
            raise PeerError("the request's host is malformed", "bad-name")
        digits = rest[1:]
    elif b":" in value:
        host, _, digits = value.partition(b":")
    if digits and not (digits.isdigit() and len(digits) <= 5):
        raise PeerError("the request's host has a malformed port", "bad-name")
    if (int(digits) if digits else usual) != port:
        raise PeerError("the request names another port than the one it was sent to", "host-mismatch")
    return _address(host) or peer_name(host.removesuffix(b"."), "the request's host")


def _address(host: bytes) -> str | None:
    text = host.decode("ascii", "replace")
    if not looks_like_address(text):
        return None
    try:
        if "%" in text:
            raise ValueError("an interface of the client's (RFC 6874) means nothing here")
        return str(ip_address(text))
    except ValueError:
        raise PeerError("the request's host is a malformed address", "bad-name") from None


def _refuse_upgrades(headers: Sequence[tuple[bytes, bytes]]) -> None:
    """Refuse a change of protocol; but h2c is an offer that HTTP clients make, and may be passed over."""
    wanted = [token for name, value in headers if name == b"upgrade" for token in _tokens(value)]
    if any(token != b"h2c" for token in wanted):
        raise PeerError("a change of protocol (Upgrade) is not allowed on plain HTTP", "upgrade")


def _forwarded(headers: Sequence[tuple[bytes, bytes]]) -> Headers:
    dropped = (_HOP_BY_HOP | _connection_tokens(headers)) - _FRAMING
    kept = [(name, value) for name, value in headers if name not in dropped]
    return sorted(kept, key=lambda header: header[0] != b"host")


def _connection_tokens(headers: Sequence[tuple[bytes, bytes]]) -> frozenset[bytes]:
    return frozenset(token for name, value in headers if name == b"connection" for token in _tokens(value))


def _tokens(value: bytes) -> list[bytes]:
    return [token for part in value.split(b",") if (token := part.strip().lower())]
