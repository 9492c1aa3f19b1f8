"""apt: Debian packages, installed with the base's own sources."""

from __future__ import annotations

import re
from collections.abc import Sequence

from pkgcache.recipe import CLEAN, NOT_CLOSED, OFFLINE, SEALABLE, Cache, Phase, require, seal
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
_ARCHIVES = "/var/cache/apt/archives"
_LISTS = "/var/lib/apt/lists"
# What apt is about to unpack, and the hashes that its signed index gives. Of an archive that is kept, apt looks at the
# size alone, so its hash is compared here. Hooks of version 3 (apt.conf(5), Pre-Install-Pkgs) are told, after an empty
# line: name, old version, its architecture and multi-arch, direction, new version, its architecture and multi-arch,
# archive.
_HOOKS = "/var/tmp/hooks"
_PACKAGES = f"""#!/bin/sh
cd {_HOOKS} || exit
sed '1,/^$/d' | awk '$9 ~ /^[/]/' > told
test -s told || exit 0
awk '{{ print $1 ":" $7 "=" $6 }}' told | xargs apt-cache -o Debug::NoLocking=1 show 2>/dev/null | awk '
  /^Package: /      {{ name = $2 }}
  /^Version: /      {{ version = $2 }}
  /^Architecture: / {{ architecture = $2 }}
  /^SHA256: /       {{ print name ":" architecture "=" version, $2 }}
' > index &
awk '{{ print $9 }}' told | xargs sha256sum > archives || exit
wait
awk '
  FILENAME == "index"    {{ expected[$1] = $2; next }}
  FILENAME == "archives" {{ found[$2] = $1; next }}
  {{ id = $1 ":" $7 "=" $6 }}
  # One that no index knows is no better than one that was changed.
  index($9, "{_ARCHIVES}/") == 1 && expected[id] != found[$9] {{ print "E: not as indexed: " $1; bad = 1 }}
  {{ printf "@sandbox\\tpackage\\t%s:%s\\t%s\\tsha256:%s\\n", $1, $7, $6, found[$9] }}
  END {{ exit bad }}
' index archives told
"""
# All that apt runs of packages comes after this hook: debconf's questions, too.
_SEAL = f"""#!/bin/sh
touch {_HOOKS}/open
{seal(_ARCHIVES)}{seal(_LISTS)}rm {_HOOKS}/open
"""
# Nobody else uses these directories; and while a lock is held there, they can't be closed.
_APT = f"""{require("apt-get", "command -v apt-get")}\
install() {{
  apt-get {_OPTIONS} $EXTRA -o Debug::NoLocking=1 -o DPkg::Pre-Install-Pkgs::={_HOOKS}/packages \\
    -o DPkg::Tools::Options::{_HOOKS}/packages::Version=3 "$@"
}}
mkdir -p {_HOOKS} && cat > {_HOOKS}/packages <<'END' && cat > {_HOOKS}/seal <<'END2' && chmod 755 {_HOOKS}/* || exit
{_PACKAGES}END
{_SEAL}END2
"""
_DOWNLOAD = f"""{_APT}apt-get {_OPTIONS} update || exit
if test -z "${SEALABLE}"; then
  install --download-only install -- "$@"
  exit
fi
install -o DPkg::Pre-Invoke::={_HOOKS}/seal install -- "$@" || {{
  test ! -e {_HOOKS}/open || exit {NOT_CLOSED}
  exit 1
}}
"""
# Both directories are mounted read-only, so apt can't fetch into them, and need not.
_INSTALL = f"""{_APT}install --no-download install -- "$@" || {{
  test -z "${OFFLINE}" || apt-get {_OPTIONS} $EXTRA -o Debug::NoLocking=1 --print-uris install -- "$@" |
    sed -n "s/^'[^']*' \\([^_ ]*\\)_.*/E: not kept: \\1/p"
  exit 1
}}
"""
_CLEAN = "rm -f /var/cache/apt/*.bin\n" + CLEAN

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
            # What apt worked out of the lists, a next phase need not do again.
            options + _DOWNLOAD + _CLEAN,
            specs,
            kept=True,
            caches=(Cache(archives, _ARCHIVES, writable=True), Cache(lists, _LISTS, writable=True)),
            lock="apt",
            online=True,
            seals=True,
        ),
        Phase(
            "install",
            options + _INSTALL + _CLEAN,
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
    (
        r"^E: not as indexed: (?P<package>\S+)",
        "its kept archive is not what the index says; sandboxctl cache prune --downloads removes it",
    ),
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
