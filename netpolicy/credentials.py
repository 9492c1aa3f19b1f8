"""What the user attaches to a host: a header that the wall adds, for which paths, and perhaps another remote.

A secret goes one way: from the user to the wall, and from there to the host that it is for. Nothing here shows one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from netpolicy.errors import InputError
from netpolicy.hosts import HostPattern, looks_like_address, normalise_name
from netpolicy.policy import Policy, Request, Rule, Verdict, decide

if TYPE_CHECKING:
    from netpolicy.httprules import Forward

_URL = re.compile(
    r"(?P<scheme>(?i:https?))://(?P<host>\[[0-9A-Fa-f:.]+\]|[^\s/?#@:\[\]]+)(:(?P<port>[0-9]{1,5}))?(?P<path>/[^\s?#]*)?"
)
_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}", re.ASCII)  # RFC 9110 5.6.2
_VALUE = re.compile(r"[!-~](?:[ -~]{0,8190}[!-~])?", re.ASCII)
_SEGMENT = re.compile(r"[A-Za-z0-9._~!$&'()*+,;=:@-]+", re.ASCII)  # RFC 3986 3.3, without escapes
_UNRESERVED = re.compile(rb"%([0-9A-Fa-f]{2})")
# What the host could act on instead of the request's own method and path.
_OVERRIDES = re.compile(
    rb"x-(original|rewrite|forwarded)-.*|x-(http-)?method(-override)?|forwarded|x-request-uri", re.DOTALL
)
_FORBIDDEN = frozenset(
    ("connection", "content-length", "expect", "host", "te", "trailer", "transfer-encoding", "upgrade")
)


class Secret:
    """Text that neither a message nor a traceback nor a serializer shows."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return "Secret(…)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._text == self._text

    def __hash__(self) -> int:
        return hash(self._text)

    def __reduce__(self) -> Any:
        raise TypeError("a secret is not serialized")


class Remote(NamedTuple):
    """Where a rewritten host is really reached. `ca`: the authorities (PEM) that vouch for it, else the host's."""

    scheme: Literal["http", "https"]
    host: str
    port: int
    path: str = ""
    ca: bytes = b""


class Credential(NamedTuple):
    """A header for one host and port.

    `origin` says who attached it, as records show it. `paths`: what it is good for, each with what is below it; none
    means every path of the host. `name` and `value` are the header, or `value` is None: the paths are opened and
    nothing is added. `remote`: the user's word that these paths are reached elsewhere; `paths` then has at least one,
    and `remote.path` stands in its place.
    """

    host: str
    port: int
    origin: str
    paths: tuple[str, ...] = ()
    name: str = "authorization"
    value: Secret | None = None
    remote: Remote | None = None
    methods: tuple[str, ...] = ("GET", "HEAD", "POST", "PUT")


class Grant(NamedTuple):
    """What a request comes to: the verdict, and the credential that it gets with the path that it is good for."""

    verdict: Verdict
    credential: Credential | None = None
    path: str = ""


def repository(
    url: str, token: str | None = None, *, user: str = "x-access-token", rewrite: str = "", ca: bytes = b""
) -> Credential:
    """The credential for a Git repository at `https://HOST[:PORT]/PATH`, with or without `.git` at its end.

    `token` is its password, for `user`. `rewrite`: the URL (http or https) of the repository that is really reached;
    `ca`: the authorities (PEM) that vouch for that one. InputError names what is wrong, and never the token.
    """
    scheme, host, port, path = _parse_url(url, "repository")
    if scheme != "https":
        raise InputError(
            f"repository {url}: only https:// is possible", "a token must not travel in the clear"
        )
    path = path.removesuffix(".git")
    if not path:
        raise InputError(f"repository {url} names no repository", "write https://HOST/OWNER/NAME")
    value = None
    if token is not None:
        from base64 import b64encode

        try:
            pair = f"{user}:{token}".encode("ascii")
        except UnicodeEncodeError:
            raise InputError(f"repository {url}: its token has characters outside ASCII") from None
        value = Secret("Basic " + b64encode(pair).decode("ascii"))
    remote = None
    if rewrite:
        to_scheme, to_host, to_port, to_path = _parse_url(rewrite, "rewritten repository")
        remote = Remote("http" if to_scheme == "http" else "https", to_host, to_port, to_path, ca)
    place = host if port == 443 else f"{host}:{port}"
    # The longer one first: a rewritten path stands for the repository, however it is written.
    return checked(
        Credential(
            host, port, f"repository https://{place}{path}", (f"{path}.git", path), value=value, remote=remote
        )
    )


def checked(credential: Credential) -> Credential:
    """The same in canonical form; InputError names the field that can't be accepted, and never the value."""
    what = f"credential of {credential.origin!r}"
    host = credential.host
    if looks_like_address(host):
        raise InputError(f"{what}: {host} is an address", "a credential is for a name: TLS names no address")
    host = normalise_name(host)
    if not 0 < credential.port < 65536 or credential.port in (53, 80):
        raise InputError(f"{what}: port {credential.port} can't be used", "name the port of a TLS server")
    for path in credential.paths:
        if plain_path(path.encode("ascii", "replace")) != path or path.endswith("/"):
            raise InputError(
                f"{what}: {path!r} is no plain path", "write /a/b, without escapes and a / at its end"
            )
    if credential.remote is not None and not credential.paths:
        raise InputError(f"{what}: it is rewritten, but names no path", "name the path that is rewritten")
    if not _NAME.fullmatch(credential.name) or credential.name.lower() in _FORBIDDEN:
        raise InputError(
            f"{what}: a header can't be called {credential.name!r}", "for example: authorization"
        )
    if credential.value is not None and not _VALUE.fullmatch(credential.value.reveal()):
        raise InputError(
            f"{what}: the header's value is empty, too long, or has characters that a header can't have",
            "up to 8,192 printable characters of ASCII, without blanks around them",
        )
    if not credential.origin.isprintable() or not credential.origin:
        raise InputError(f"{what}: its origin can't be shown", "say in a few words who attached it")
    return credential._replace(host=host, name=credential.name.lower())


def with_ports(policy: Policy, credentials: Iterable[Credential]) -> Policy:
    """The policy of a session that starts with these credentials: it also listens where they are good for something."""
    ports = sorted({each.port for each in credentials if each.port != 443})
    return policy._replace(attached_ports=tuple(ports)) if policy.mode == "limited" else policy


def judge(
    policy: Policy,
    credentials: Sequence[Credential],
    host: str,
    port: int,
    method: bytes,
    target: bytes,
    headers: Sequence[tuple[bytes, bytes]],
) -> Grant:
    """What comes of a request to a host that has credentials: one of them, none, or a refusal.

    A blocklist goes before all. What a credential is good for is open whatever else the policy says; the rest of the
    host is open only if the policy opens it, and gets nothing added.
    """
    verdict = decide(policy, Request("tls", host, port))
    if verdict.code in ("blocked", "no-network"):
        return Grant(verdict)
    ours = [each for each in credentials if each.host == host and each.port == port]
    path = None if any(_OVERRIDES.fullmatch(_usual(name)) for name, _ in headers) else plain_path(target)
    if path is not None:
        fitting = [
            (prefix, each)
            for each in ours
            if method.decode("ascii", "replace") in each.methods
            for prefix in each.paths or ("",)
            if path == prefix or path.startswith(prefix + "/")
        ]
        if fitting:
            # The first of those that say most.
            prefix, best = max(fitting, key=lambda pair: len(pair[0]))
            rule = Rule(HostPattern(host, False, None), "tls", port, best.origin)
            return Grant(Verdict(True, f"allowed by {best.origin}", rule, ""), best, prefix)
    if verdict.allow:
        return Grant(verdict)
    origins = ", ".join(dict.fromkeys(each.origin for each in ours))
    reason = f"{host} is open for what is attached alone ({origins})"
    return Grant(Verdict(False, reason, None, verdict.hint, "not-attached", verdict.entry))


def with_credential(forward: Forward, grant: Grant) -> Forward:
    """The request as it goes out. The client's own word for who it is goes no further where ours stands."""
    credential = grant.credential
    headers = [pair for pair in forward.headers if pair[0] != b"proxy-authorization"]
    if credential is None:
        return forward._replace(headers=headers)
    # What goes out is what was judged.
    path, mark, query = forward.target.partition(b"?")
    plain = plain_path(path) or ""
    if credential.value is not None:
        ours = _usual(credential.name.encode("ascii"))
        headers = [pair for pair in headers if _usual(pair[0]) not in (ours, b"authorization")]
        headers.append((credential.name.encode("ascii"), credential.value.reveal().encode("ascii")))
    remote = credential.remote or Remote("https", credential.host, credential.port)
    if credential.remote is not None:
        plain = (remote.path + plain[len(grant.path) :]) or "/"
    # In canonical form, too: servers that know a name in one form only have another site for the rest.
    headers = [(b"host", authority(remote)), *(pair for pair in headers if pair[0] != b"host")]
    return forward._replace(target=plain.encode("ascii") + mark + query, headers=headers)


def _usual(name: bytes) -> bytes:
    """A header's name as programs behind a gateway (CGI, WSGI) see it, for which both marks are one."""
    return name.replace(b"_", b"-")


def authority(remote: Remote) -> bytes:
    """What the Host header calls a remote."""
    host = f"[{remote.host}]" if ":" in remote.host else remote.host
    usual = 443 if remote.scheme == "https" else 80
    return (host if remote.port == usual else f"{host}:{remote.port}").encode("ascii")


def plain_path(target: bytes) -> str | None:
    """The path of a request's target when nobody could read it in another way, else None.

    Escapes of characters that need none are undone (RFC 3986 6.2.2.2). Dots, empty segments, backslashes, parameters
    of a segment and every other escape are not plain: servers differ in what they make of them.
    """
    path = target.partition(b"?")[0]
    if not path.startswith(b"/"):
        return None
    text = _UNRESERVED.sub(_undo, path).decode("ascii", "replace")
    first, *segments = text.split("/")
    if first or not segments:
        return None
    last = segments.pop()
    if any(not _SEGMENT.fullmatch(each) or each.strip(".") == "" or ";" in each for each in segments):
        return None
    if last and (not _SEGMENT.fullmatch(last) or last.strip(".") == "" or ";" in last):
        return None
    return text


def _undo(escape: re.Match[bytes]) -> bytes:
    octet = bytes.fromhex(escape[1].decode("ascii"))
    return octet if octet.isalnum() or octet in (b"-", b"_", b"~") else escape[0]


def encode(credentials: Sequence[Credential], roots: bytes) -> bytes:
    """One line for a running proxy, which `decode` reads; `roots` are the authorities (PEM) that vouch for hosts."""
    import json

    told = [
        {
            **each._asdict(),
            "value": None if each.value is None else each.value.reveal(),
            "remote": None
            if each.remote is None
            else {**each.remote._asdict(), "ca": each.remote.ca.decode("latin-1")},
        }
        for each in credentials
    ]
    return json.dumps({"credentials": told, "roots": roots.decode("latin-1")}).encode("ascii") + b"\n"


def decode(line: bytes) -> tuple[tuple[Credential, ...], bytes]:
    """What `encode` wrote."""
    import json

    said = json.loads(line)
    found = []
    for each in said["credentials"]:
        remote = each["remote"]
        if remote is not None:
            each["remote"] = Remote(**{**remote, "ca": remote["ca"].encode("latin-1")})
        if each["value"] is not None:
            each["value"] = Secret(each["value"])
        found.append(Credential(**{**each, "paths": tuple(each["paths"]), "methods": tuple(each["methods"])}))
    return tuple(found), said["roots"].encode("latin-1")


def _parse_url(url: str, what: str) -> tuple[str, str, int, str]:
    """Scheme, host, port and plain path of a URL; InputError never shows what could be a password in it."""
    found = _URL.fullmatch(url)
    if found is None:
        # What follows an @ is a host; what stands before it may be a password.
        shown = "" if "@" in url else f" {url!r}"
        raise InputError(f"{what}{shown}: it is no URL", "write https://HOST[:PORT]/PATH; give a token apart")
    scheme, host, digits, path = found["scheme"].lower(), found["host"], found["port"], found["path"] or ""
    path = path.rstrip("/")
    port = int(digits) if digits else 443 if scheme == "https" else 80
    if not 0 < port < 65536:
        raise InputError(f"{what} {url}: port {digits} is not from 1 to 65535", "correct the port")
    if path and plain_path(path.encode("ascii", "replace")) != path:
        raise InputError(
            f"{what} {url}: its path can't be used", "write it without escapes, dots and empty parts"
        )
    if not looks_like_address(host):
        host = normalise_name(host)
    return scheme, host.strip("[]"), port, path
