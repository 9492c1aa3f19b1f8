"""Which servers a new Debian base is made from, decided from what the host's own tools say."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from pkgcache.errors import InputError

_LINE = re.compile(r"deb (?P<options>\[[^]]*\] )?(?P<address>\S+) (?P<release>\S+) (?P<components>.+)")
_ADDRESS = r"https?://[A-Za-z0-9.-]+(?::[0-9]{1,5})?(?:/[A-Za-z0-9._~/+-]*)?"


class Target(NamedTuple):
    """One entry of the host's own apt sources."""

    address: str
    release: str
    component: str


def check(suite: str, mirror: str | None) -> None:
    """Raise InputError unless the suite and the mirror are well-formed."""
    if re.fullmatch(r"[a-z][a-z0-9-]{1,30}", suite) is None:
        raise InputError(
            f"suite {suite!r}: it is not the code name of a Debian release", "for example, trixie"
        )
    if mirror is not None and re.fullmatch(_ADDRESS, mirror) is None:
        raise InputError(
            f"mirror {mirror!r}: it is not an http or https address of a Debian archive",
            "write http://host/path, without user name, query or spaces",
        )


def choose(
    suite: str, mirror: str | None, default: Sequence[str], host: Iterable[Target], codename: str
) -> tuple[str, ...]:
    """The lines of the new base's apt sources.

    `mirror` alone when one is given. Otherwise the bootstrap tool's `default` lines, in which each archive that the
    host (a Debian called `codename`, "" for another system) has a mirror for is replaced by that mirror.
    """
    if mirror is not None:
        return (f"deb {mirror} {suite} main",)
    own: dict[str, str] = {}
    for target in host:
        if codename and target.component == "main" and re.fullmatch(_ADDRESS, target.address):
            own.setdefault(target.release, target.address)
    lines = []
    for text in default:
        match = _LINE.fullmatch(text)
        if match is None:
            continue
        release = match["release"]
        here = own.get(codename + release.removeprefix(suite)) if release.startswith(suite) else None
        lines.append(
            f"deb {match['options'] or ''}{here or match['address']} {release} {match['components']}"
        )
    return tuple(lines)


def addresses(lines: Iterable[str]) -> tuple[str, ...]:
    """The addresses in such lines."""
    return tuple(match["address"] for line in lines if (match := _LINE.fullmatch(line)) is not None)
