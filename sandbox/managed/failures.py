"""What is refused, in the API's own words: a kind, a message, and a code where callers branch on it."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

_STATUS = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "permission_error": 403,
    "not_found_error": 404,
    "method_not_allowed": 405,
    "conflict_error": 409,
    "precondition_failed_error": 412,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}
_OTHER_TYPES = {
    "precondition_failed_error": "invalid_request_error",
    "method_not_allowed": "invalid_request_error",
}


class Refused(Exception):
    """A request that can't be carried out; nothing was changed.

    ``code`` and ``details`` travel as ``error.details``; ``retry``: whether the same request may succeed later.
    On the command line it is a mistake of the user's (exit code 2).
    """

    exit_code = 2

    def __init__(
        self,
        kind: str,
        message: str,
        *,
        code: str | None = None,
        details: Mapping[str, Any] = MappingProxyType({}),
        retry: bool = False,
        hint: str = "",
    ) -> None:
        super().__init__(message)
        self.kind = _OTHER_TYPES.get(kind, kind)
        self.status = _STATUS[kind]
        self.details = {**({"error_code": code} if code else {}), **details}
        self.retry = retry
        self.hint = hint


def invalid(message: str, *, code: str | None = None, hint: str = "") -> Refused:
    return Refused("invalid_request_error", message, code=code, hint=hint)


def not_found(what: str, identifier: str, *, code: str | None = None) -> Refused:
    return Refused("not_found_error", f"There is no {what} {identifier}.", code=code)


def conflict(message: str, *, code: str | None = None) -> Refused:
    return Refused("conflict_error", message, code=code)
