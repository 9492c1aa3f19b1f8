"""What phases say to the builder among their ordinary output: lines that start with a mark, fields split by tabs.

@sandbox  endpoint  <manager> <url> <source>      a server that the manager talks to
@sandbox  follow    <manager> <url>               something to fetch in order to learn more servers
@sandbox  tool      <program> <version>
@sandbox  package   <name> <version> <hash or nothing>
@sandbox  missing   <program>
@sandbox  source    <line>                        one line of apt sources
@sandbox  phase     <name>                        the phase of that name has to run
@sandbox  seal                                    nothing but the layer may be written from now on
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from pkgcache.records import Locked
from pkgcache.runner import Endpoint

MARK = "@sandbox\t"
Mark = tuple[str, ...]

_URL = re.compile(
    r"(?:sparse\+)?(?P<scheme>https?)://(?:[^/@\s]*@)?(?P<host>[A-Za-z0-9._-]+)(?::(?P<port>[0-9]{1,5}))?(?:[/?#]\S*)?"
)
_PORTS = {"http": 80, "https": 443}


def read_mark(line: str) -> Mark | None:
    """The fields after the mark, or None for an ordinary line."""
    return tuple(line[len(MARK) :].split("\t")) if line.startswith(MARK) else None


def endpoint(manager: str, url: str, source: str) -> Endpoint | None:
    """The server of an http or https address; None for others (files, `direct`, IPv6 literals)."""
    match = _URL.fullmatch(url.strip())
    if match is None:
        return None
    scheme = match["scheme"]
    port = int(match["port"] or _PORTS[scheme])
    if not 0 < port < 65536:
        return None
    return Endpoint(manager, scheme, match["host"].lower().rstrip("."), port, source or "built-in default")


def endpoints(marks: Iterable[Mark]) -> tuple[Endpoint, ...]:
    """Every server that the marks name, once, in order of manager and name."""
    found: dict[tuple[str, str, str, int], Endpoint] = {}
    for mark in marks:
        if mark[0] == "endpoint" and len(mark) == 4:
            server = endpoint(*mark[1:])
            if server is not None:
                found.setdefault(server[:4], server)
    return tuple(found[key] for key in sorted(found))


def of_an_image(mark: Mark) -> Mark:
    """The same mark, its source no path and no setting of the user's: an imported image may not name private
    servers."""
    if mark[0] != "endpoint" or len(mark) != 4:
        return mark
    return (*mark[:3], f"imported image, {mark[3] or 'built-in default'}")


def follows(marks: Iterable[Mark]) -> tuple[str, ...]:
    """The addresses still to be asked."""
    return tuple(dict.fromkeys(mark[2] for mark in marks if mark[0] == "follow" and len(mark) == 3))


def packages(marks: Iterable[Mark]) -> tuple[Locked, ...]:
    """What was installed, sorted by name; of two marks for one package and version, the one with a hash counts."""
    found: dict[tuple[str, str], Locked] = {}
    for mark in marks:
        if mark[0] == "package" and len(mark) == 4:
            package = Locked(*mark[1:])
            if package.hash or (package.name, package.version) not in found:
                found[package.name, package.version] = package
    return tuple(found[key] for key in sorted(found))


def tools(marks: Iterable[Mark]) -> dict[str, str]:
    """Versions by program."""
    return {mark[1]: mark[2] for mark in marks if mark[0] == "tool" and len(mark) == 3 and mark[2]}


def sources(marks: Iterable[Mark]) -> tuple[str, ...]:
    """Lines of apt sources, in order, none twice."""
    return tuple(dict.fromkeys(mark[1] for mark in marks if mark[0] == "source" and len(mark) == 2))


def phases(marks: Iterable[Mark]) -> frozenset[str]:
    """The phases that are asked for."""
    return frozenset(mark[1] for mark in marks if mark[0] == "phase" and len(mark) == 2)


def missing(marks: Iterable[Mark]) -> str | None:
    """The program that a phase did not find."""
    return next((mark[1] for mark in marks if mark[0] == "missing" and len(mark) == 2), None)


def most_telling(failures: Sequence[tuple[str, str]], lines: Sequence[str]) -> tuple[str, str] | None:
    """(package, what is wrong) by the first pattern that any line matches; each pattern has a group `package`."""
    for pattern, why in failures:
        for line in lines:
            match = re.search(pattern, line)
            if match is not None:
                return match["package"], why
    return None


def first_told(failures: Sequence[tuple[str, str]], lines: Sequence[str]) -> tuple[str, str] | None:
    """The same by the first line that any pattern matches, for managers that begin with the cause."""
    for line in lines:
        told = most_telling(failures, (line,))
        if told is not None:
            return told
    return None
