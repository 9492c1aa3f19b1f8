"""apt: Debian packages, installed with the base's own sources."""

from __future__ import annotations

import re
from collections.abc import Sequence

from pkgcache.recipe import CLEAN, OFFLINE, Cache, Phase, require
from pkgcache.records import Locked
from pkgcache.report import MARK, first_told
from pkgcache.specs import Spec, refuse

# Debian policy 5.6.1 (names) and 5.6.12 (versions); an architecture is a dpkg architecture name.
_NAME = r"(?P<name>[a-z0-9][a-z0-9+.-]+)"
_ARCHITECTURE = r"(?::(?P<architecture>[a-z0-9][a-z0-9-]*))?"
_VERSION = r"(?:=(?P<version>[A-Za-z0-9][A-Za-z0-9.+:~-]*))?"
_SPEC = _NAME + _ARCHITECTURE + _VERSION


def parse(text: str) -> Spec:
    """`name`, `name=version`, `name:architecture`, `name:architecture=version`."""
    match = re.fullmatch(_SPEC, text)
    if match is None:
        if "/" in text:
            raise refuse("paths and target releases are not taken", "write name or name=version")
        if "==" in text:
            raise refuse("apt pins a version with one '='", "write name=version")
        raise refuse("it is not a Debian package name", "write name or name=version, in lower case")
    # apt-get reads "name-" as "remove name" when no package has that very name.
    if match["name"].endswith("-"):
        raise refuse("a package name that ends in '-' would ask apt to remove the package")
    name = match["name"] + (f":{match['architecture']}" if match["architecture"] else "")
    return Spec(name, name + (f"={match['version']}" if match["version"] else ""))


_OPTIONS = (
    "-q -y -o Dpkg::Use-Pty=0 -o APT::Cmd::Pattern-Only=true -o Acquire::Languages=none "
    "-o APT::Update::Error-Mode=any -o Dpkg::Options::=--force-confold"
)
# With names taken as patterns only, apt-get never falls back to a regular expression for a name that is not there.
_UPDATE = f"apt-get {_OPTIONS} update\n"
_ARCHIVES = "/var/cache/apt/archives"
_LISTS = "/var/lib/apt/lists"
_INSTALLED = r"dpkg-query -W -f '${Package}:${Architecture}=${Version}\n' | LC_ALL=C sort"

_BEFORE = "/var/tmp/before"
"""What is installed already; found out while the servers are waited for."""

_DOWNLOAD = f"""set -e
{require("apt-get", "command -v apt-get")}{{ {_INSTALLED}; }} > {_BEFORE} &
{_UPDATE}apt-get {_OPTIONS} $EXTRA install --download-only -- "$@"
wait
"""
# Both directories are mounted read-only, so apt can neither lock them nor fetch into them, and need not.
_INSTALL = f"""set -e
test -e {_BEFORE} || {{ {_INSTALLED}; }} > {_BEFORE}
apt-get {_OPTIONS} $EXTRA -o Debug::NoLocking=1 --no-download install -- "$@" || {{
  test -z "${OFFLINE}" || apt-get {_OPTIONS} $EXTRA -o Debug::NoLocking=1 --print-uris install -- "$@" |
    sed -n "s/^'[^']*' \\([^_ ]*\\)_.*/E: not kept: \\1/p"
  exit 1
}}
{_INSTALLED} > /tmp/after
LC_ALL=C comm -13 {_BEFORE} /tmp/after > /tmp/new
sed -n 's/^\\(.*\\)=\\(.*\\)$/@sandbox\\tpackage\\t\\1\\t\\2\\t/p' /tmp/new
xargs -r apt-cache -o Debug::NoLocking=1 show < /tmp/new 2>/dev/null | awk '
  /^Package: /      {{ name = $2 }}
  /^Version: /      {{ version = $2 }}
  /^Architecture: / {{ architecture = $2 }}
  /^SHA256: /       {{ printf "@sandbox\\tpackage\\t%s:%s\\t%s\\tsha256:%s\\n", name, architecture, version, $2 }}
' || true
rm -f /var/cache/apt/*.bin
"""

PROBE = f"""command -v apt-get >/dev/null || exit 0
apt-get indextargets --no-release-info --format '{MARK}endpoint\tapt\t$(REPO_URI)\t$(SOURCESENTRY)' | sort -u
printf '{MARK}tool\tapt\t%s\n' "$(apt-get --version | sed -n '1s/^apt \\([^ ]*\\).*/\\1/p')"
"""
FOLLOW = ""


def recipe(specs: tuple[str, ...], base: str, extra: str = "") -> tuple[Phase, ...]:
    """Fetch with the network, then install from what was fetched. `extra` are fixed options of the caller's."""
    options = f"EXTRA='{extra}'\n"
    archives, lists = "apt/archives", f"apt/lists-{base}"
    return (
        Phase(
            "download",
            options + _DOWNLOAD,
            specs,
            # For what apt worked out of the lists, which the next phase need not do again, and removes.
            kept=True,
            caches=(Cache(archives, _ARCHIVES, writable=True), Cache(lists, _LISTS, writable=True)),
            lock="apt",
            online=True,
        ),
        Phase(
            "install",
            options + _INSTALL + CLEAN,
            specs,
            kept=True,
            caches=(Cache(archives, _ARCHIVES, writable=False), Cache(lists, _LISTS, writable=False)),
        ),
    )


def again(specs: tuple[str, ...], packages: Sequence[Locked]) -> tuple[str, ...]:
    """What to install to get these very packages, whose names are like "jq:amd64"."""
    pins = {}
    for package in packages:
        name, _, architecture = package.name.partition(":")
        wanted = name if architecture == "all" else package.name
        pins[wanted] = f"{wanted}={package.version}"
    there = {*pins, *(name.partition(":")[0] for name in pins)}
    # What was in the base already is in no layer's record.
    rest = (spec for spec in specs if parse(spec).name not in there)
    return (*pins.values(), *rest)


def explain(lines: Sequence[str]) -> tuple[str, str] | None:
    """(package, what is wrong with it) when the log tells."""
    return first_told(_FAILURES, lines)


_FAILURES = (
    (r"^E: not kept: (?P<package>\S+)", "its archive is not kept"),
    (r"^E: Unable to locate package (?P<package>\S+)", "the base's sources have no such package"),
    (
        r"^E: Version '[^']*' for '(?P<package>[^']+)' was not found",
        "the base's sources don't have that version",
    ),
    (r"^E: Package '(?P<package>[^']+)' has no installation candidate", "no source offers it"),
    (r"^dpkg: error processing (?:package|archive) (?P<package>\S+)", "its installation scripts failed"),
    (
        r"^ (?P<package>[a-z0-9][a-z0-9+.-]+) : (?:Depends|Conflicts|Breaks): ",
        "its dependencies can't be met",
    ),
)
