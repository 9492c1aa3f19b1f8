"""What every request passes before its route: an id, the key, the headers, the size of the body.

Plain ASGI, for it stands before every answer and has to cost nothing.
"""

import hmac
import logging
import os
import re
import time
from collections.abc import Iterable
from typing import NamedTuple

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sandbox.emulator.answers import refusal
from sandbox.emulator.connections import Peer
from sandbox.managed import identifiers
from sandbox.managed.failures import Refused

BETA = "managed-agents-2026-04-01"
LARGEST_BODY = 32 << 20
_LARGEST_UPLOAD = (500 << 20) + (1 << 20)
_OPEN = ("/health", "/openapi.json", "/docs")
_WITHOUT_BETA = ("/v1/files", "/v1/skills", "/sandbox/")
_USAGE = 2
_NAMED_HOSTS = ("localhost", "127.0.0.1", "::1")

_HOST = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([^\s:/?#@\[\]]+))(?::[0-9]*)?")

_log = logging.getLogger("sandboxsh.serve")


class Door(NamedTuple):
    """Who gets in. ``key`` None: this user's programs, with any key that is not empty. ``hosts``: the names that a
    request may call us by; empty for any. A page in a browser that made its own name lead here is known by that."""

    key: str | None = None
    hosts: tuple[str, ...] = _NAMED_HOSTS


class Gate:
    """Wraps the application. Errors of any kind leave in the API's shape, with ``request-id``."""

    def __init__(self, app: ASGIApp, door: Door) -> None:
        self.app = app
        self.door = door

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request_id = identifiers.new("req")
        scope["state"] = {**scope.get("state", {}), "request_id": request_id}
        started, begun = 0, time.monotonic()

        async def answer(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = message["status"]
                message["headers"] = [*message["headers"], (b"request-id", request_id.encode())]
            await send(message)

        try:
            headers = dict(scope["headers"])
            if crowd := scope["state"].get("crowd"):
                raise _crowded(crowd)
            self._check_host([value for name, value in scope["headers"] if name == b"host"])
            self._admit(scope["path"], headers, scope["state"].get("peer"))
            body = _Counted(receive, _limit(scope["path"], scope["method"]), headers)
            await self.app(scope, body.receive, answer)
        except Refused as refused:
            await refusal(refused, request_id)(scope, receive, answer)
        except Exception as error:
            told = _told(error)
            if told is None:
                _log.exception("%s %s failed (%s)", scope["method"], scope["path"], request_id)
            if started:
                raise
            bug = Refused("api_error", "Something failed inside the emulator; its log says what.")
            await refusal(told or bug, request_id)(scope, receive, answer)
        finally:
            took = (time.monotonic() - begun) * 1000
            _log.info("%s %s %d %.1f ms %s", scope["method"], scope["path"], started, took, request_id)

    def _check_host(self, given: list[bytes]) -> None:
        host = _host(given[0].decode("latin-1")) if len(given) == 1 else ""
        if self.door.hosts and host not in self.door.hosts:
            raise Refused("permission_error", f"The Host header names {host!r}, which is not this server.")

    def _admit(self, path: str, headers: dict[bytes, bytes], peer: Peer | None) -> None:
        if path.startswith(_OPEN):
            return
        given = _key(headers)
        if not given:
            raise Refused(
                "authentication_error", "x-api-key header is required (any text will do on loopback)."
            )
        if self.door.key is not None and not hmac.compare_digest(given, self.door.key.encode()):
            raise Refused("authentication_error", "invalid x-api-key")
        if self.door.key is None and (peer is None or peer.user != os.geteuid()):
            raise Refused(
                "permission_error",
                "This server takes requests of the user who started it alone. Start it with a key for others: "
                "SANDBOXSH_API_KEY in its environment, or --api-key.",
            )
        if path.startswith("/v1/") and not path.startswith(_WITHOUT_BETA):
            betas = headers.get(b"anthropic-beta", b"").decode("latin-1")
            if BETA not in (beta.strip() for beta in betas.split(",")):
                raise Refused(
                    "invalid_request_error",
                    f"The header anthropic-beta must name {BETA}; it is {betas or 'missing'}.",
                )


def _told(error: Exception) -> Refused | None:
    """A failure that a person can mend, as the commands tell it; None for a bug."""
    code = getattr(error, "exit_code", None)
    if not isinstance(code, int):
        return None
    kind = "invalid_request_error" if code == _USAGE else "api_error"
    return Refused(kind, str(error), hint=getattr(error, "hint", ""))


def _crowded(most: int) -> Refused:
    return Refused(
        "overloaded_error",
        f"There are {most} connections to this server, which is as many as it takes (serve --max-connections). "
        "Close some; each open event stream is one.",
        retry=True,
    )


class _Counted:
    """A request's body, which ends with a refusal when it is longer than ``limit``."""

    def __init__(self, receive: Receive, limit: int, headers: dict[bytes, bytes]) -> None:
        self._receive = receive
        self._limit = limit
        self._seen = 0
        length = headers.get(b"content-length", b"0")
        if length.isdigit() and int(length) > limit:
            raise _too_large(limit)

    async def receive(self) -> Message:
        message = await self._receive()
        self._seen += len(message.get("body", b""))
        if self._seen > self._limit:
            raise _too_large(self._limit)
        return message


def _too_large(limit: int) -> Refused:
    return Refused("request_too_large", f"The body is larger than {limit >> 20} MiB.")


def _limit(path: str, method: str) -> int:
    return _LARGEST_UPLOAD if method == "POST" and path == "/v1/files" else LARGEST_BODY


def _key(headers: dict[bytes, bytes]) -> bytes:
    given = headers.get(b"x-api-key", b"").strip()
    if given:
        return given
    scheme, _, token = headers.get(b"authorization", b"").partition(b" ")
    return token.strip() if scheme.lower() == b"bearer" else b""


def _host(text: str) -> str:
    """The name in a Host header, without its port; empty when it is malformed."""
    found = _HOST.fullmatch(text)
    return "" if found is None else (found[1] or found[2]).lower()


def wrong_route(error: HTTPException, path: str, method: str, allowed: Iterable[str] = ()) -> Refused:
    """What the framework refuses by itself: no such route, another method, a body that can't be read."""
    if error.status_code == 404:
        return Refused("not_found_error", f"There is no route {method} {path}.")
    if error.status_code == 405:
        named = ", ".join(sorted(allowed)) or "other methods"
        return Refused("method_not_allowed", f"{path} takes {named}, not {method}.")
    if error.status_code == 413:
        return Refused("request_too_large", str(error.detail))
    return Refused("invalid_request_error", str(error.detail))
