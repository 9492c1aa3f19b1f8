"""Identifiers and times as the API writes them."""

import time
from datetime import UTC, datetime

# Base 58: without the characters that are read for one another.
_LETTERS = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_LENGTH = 24


def new(prefix: str) -> str:
    """A new identifier, such as ``env_`` and 24 characters. Those made later sort after those made earlier by a
    millisecond or more, as text."""
    import secrets

    now, head = time.time_ns() // 1_000_000, ""
    while len(head) < 8:
        now, digit = divmod(now, 58)
        head = _LETTERS[digit] + head
    return f"{prefix}_" + head + "".join(secrets.choice(_LETTERS) for _ in range(_LENGTH - len(head)))


def now() -> str:
    """The time, RFC 3339 with microseconds and ``Z``: as text it sorts as it passed."""
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def read_time(text: str) -> str:
    """Any RFC 3339 time in the form of ``now``. ValueError when it is none."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("has no time zone")
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
