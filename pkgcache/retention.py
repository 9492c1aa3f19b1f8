"""What of the store goes when it is to become smaller: decided from what is there, nothing is removed here."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from pkgcache.errors import InputError

_SIZES = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_BINARY = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_AGES = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


class Item(NamedTuple):
    """A base or a layer, as far as keeping it goes.

    `below` is the id of what it stands on, "" for a base. `used` is when it was last used, in seconds since the
    epoch. `dead`: no session that starts from now on can come to use it.
    """

    id: str
    below: str
    size: int
    used: float
    in_use: bool
    dead: bool


def choose(
    items: Sequence[Item], now: float, *, max_size: int | None = None, older_than: float | None = None
) -> tuple[str, ...]:
    """The ids of what goes, in an order in which nothing is removed beneath something that is still there.

    What is dead goes, what was not used for `older_than` seconds, and then what was used longest ago until all of
    it is no more than `max_size` bytes. What is in use stays, and what it stands on.
    """
    left = {item.id: item for item in items}
    gone: list[str] = []

    def free() -> list[Item]:
        stood_on = {item.below for item in left.values()}
        found = [item for item in left.values() if not item.in_use and item.id not in stood_on]
        return sorted(found, key=lambda item: (not item.dead, item.used, item.id))

    def take(item: Item) -> None:
        del left[item.id]
        gone.append(item.id)

    def too_old(item: Item) -> bool:
        return item.dead or (older_than is not None and now - item.used > older_than)

    def too_much() -> bool:
        return max_size is not None and sum(item.size for item in left.values()) > max_size

    while candidates := free():
        doomed = [item for item in candidates if too_old(item)] or candidates[: too_much()]
        if not doomed:
            break
        for item in doomed:
            take(item)
    return tuple(gone)


def read_size(text: str) -> int:
    """Bytes of "500M", "10G" or "2GiB". Raises InputError."""
    match = re.fullmatch(r"([0-9]{1,12}(?:\.[0-9]{1,6})?) ?([KMGT]?)(I?)B?", text.strip().upper())
    if match is None or (match[3] and not match[2]):
        raise InputError(f"size {text!r}: not a size", "write 500M, 10G or 2GiB")
    units = _BINARY if match[3] else _SIZES
    return int(float(match[1]) * units[match[2]])


def read_age(text: str) -> float:
    """Seconds of "12h", "30d" or "2w". Raises InputError."""
    match = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,6})?) ?([smhdw])", text.strip().lower())
    if match is None:
        raise InputError(f"age {text!r}: not an age", "write 12h, 30d or 2w")
    return float(match[1]) * _AGES[match[2]]


def size_text(size: int) -> str:
    """A size for people: "1.7 GB"."""
    value = float(size)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 999.5:
            return f"{value:.0f} {unit}" if unit in ("B", "kB") or value >= 99.5 else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"
