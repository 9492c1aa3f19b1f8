"""pip: Python packages, installed into the system's interpreter beneath /usr/local."""

from __future__ import annotations

import re
from collections.abc import Sequence

from pkgcache.recipe import CLEAN, MISSING, OFFLINE, Cache, Phase, require
from pkgcache.records import Locked
from pkgcache.report import MARK, first_told
from pkgcache.specs import Spec, refuse

# The forms that nearly all specs have, where PEP 508 and PEP 440 leave nothing to decide: the library that knows the
# whole grammar takes longer to load than a session to start.
_PLAIN = r"(?P<name>[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)(?P<version>(?:==|>=|<=)[0-9]+(?:\.[0-9]+)*)?"


def parse(text: str) -> Spec:
    """`name`, `name[extras]`, each with version specifiers; no address, no environment marker (PEP 508)."""
    plain = re.fullmatch(_PLAIN, text)
    if plain is not None:
        name = re.sub(r"[-_.]+", "-", plain["name"]).lower()
        return Spec(name, name + (plain["version"] or ""))
    return _parse_any(text)


def _parse_any(text: str) -> Spec:
    from packaging.requirements import InvalidRequirement, Requirement
    from packaging.utils import InvalidName, canonicalize_name

    try:
        requirement = Requirement(text)
        # The grammar lets "a_" pass for a name; the specification of names does not.
        name = canonicalize_name(requirement.name, validate=True)
        extras = sorted({canonicalize_name(extra, validate=True) for extra in requirement.extras})
    except (InvalidRequirement, InvalidName):
        raise refuse(
            "it is not a Python requirement", "write name, name==version or name[extra]>=version"
        ) from None
    if requirement.url is not None:
        raise refuse("addresses are not taken", "write name==version from the index")
    if requirement.marker is not None:
        raise refuse("environment markers are not taken", "leave out what follows ';'")
    specifiers = ",".join(sorted({str(specifier) for specifier in requirement.specifier}))
    return Spec(name, name + (f"[{','.join(extras)}]" if extras else "") + specifiers)


_CACHE = "/var/cache/pip"
_KEPT = f"{_CACHE}/kept"
# Wheels that were made here from source packages, whose own hashes mean nothing elsewhere.
_BUILT = f"{_KEPT}/built"

# One process does it all: starting Python and pip again would take as long as installing something small.
#
# pip's own cache answers only when the index says that the same page is still current, which takes a network, and some
# indexes forbid keeping anything. So each wheel is copied before pip removes its temporary directory. Where pip has
# changed in this, nothing is kept and all else works.
#
# What pip tells servers of the machine, its compilers among them, it starts three programs to find out.
_PROGRAM = f"""
import sys
try:
    from pip._internal.cli.main import main
except ModuleNotFoundError as error:
    if error.name not in ("pip", "pip._internal"):
        raise
    print("{MARK}missing\\tpip")
    sys.exit({MISSING})

import glob, json, os, shutil
from pip import __version__
from pip._internal.utils import temp_dir

try:
    from pip._internal.network import session
    session.user_agent = lambda: "pip/" + __version__
except ImportError:
    pass

remove = temp_dir.TempDirectory.cleanup
places = {{"unpack": "{_KEPT}", "ephem-wheel-cache": "{_BUILT}"}}

def keep(self):
    place = next((place for name, place in places.items() if f"-{{name}}-" in self.path), "")
    if place:
        for wheel in glob.glob(glob.escape(self.path) + "/**/*.whl", recursive=True):
            made = place + "/." + str(os.getpid())
            try:
                shutil.copyfile(wheel, made)
                os.rename(made, place + "/" + os.path.basename(wheel))
            except OSError:
                pass
    remove(self)

if not os.environ.get("{OFFLINE}"):
    os.makedirs("{_BUILT}", exist_ok=True)
    temp_dir.TempDirectory.cleanup = keep
status = main()
if status or not os.path.exists("/tmp/report.json"):
    sys.exit(status)

with open("/tmp/report.json", encoding="utf-8") as file:
    installed = json.load(file)["install"]
os.unlink("/tmp/report.json")
for package in installed:
    archive = package.get("download_info", {{}}).get("archive_info", {{}})
    digests = archive.get("hashes") or dict([archive["hash"].split("=", 1)] if archive.get("hash") else [])
    digest = "sha256:" + digests["sha256"] if "sha256" in digests else ""
    if "{_BUILT}/" in package.get("download_info", {{}}).get("url", ""):
        digest = ""
    about = package["metadata"]
    print("{MARK}package", about["name"].lower(), about["version"], digest, sep="\\t")
"""

# Settings travel as variables: a pip that is too old for one of them ignores it.
_INSTALL = f"""{require("pip", "command -v python3")}export PIP_BREAK_SYSTEM_PACKAGES=1 PIP_NO_INPUT=1
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore PIP_PROGRESS_BAR=off PIP_USER=0
export PIP_CACHE_DIR={_CACHE} PIP_REPORT=/tmp/report.json
test -z "${OFFLINE}" || export PIP_NO_INDEX=1 PIP_FIND_LINKS="{_KEPT} {_BUILT}"
python3 -c '{_PROGRAM}' install -- "$@" || exit
test ! -d {_CACHE}/wheels || find {_CACHE}/wheels -name '*.whl' -exec ln -f -t {_BUILT} {{}} + 2>/dev/null
"""

# pip's own option parser knows the effective settings and the built-in defaults alike.
PROBE = f"""python3 -m pip --version >/dev/null 2>&1 || exit 0
python3 - <<'END'
import os
from pip import __version__
from pip._internal.commands import create_command
from pip._internal.configuration import Configuration

def source(option):
    if "PIP_" + option.upper().replace("-", "_") in os.environ:
        return "environment"
    settings = Configuration(isolated=False)
    settings.load()
    for files in getattr(settings, "_parsers", {{}}).values():
        for name, parser in files:
            if any(parser.has_option(section, option) for section in ("global", "install")):
                return name
    return "built-in default"

options, _ = create_command("install").parse_args([])
servers = [] if options.no_index else [(options.index_url, "index-url")]
servers += [(url, "extra-index-url") for url in options.extra_index_urls]
servers += [(url, "find-links") for url in options.find_links]
for url, option in servers:
    print("{MARK}endpoint", "pip", url, source(option), sep="\\t")
if not options.no_index:
    print("{MARK}follow", "pip", "index", sep="\\t")
print("{MARK}tool", "pip", __version__, sep="\\t")
END
"""
# An index names the servers of the files on the page of each project. These two are on every index that mirrors the
# public one; where they are not, the index serves its files itself.
FOLLOW = f"""python3 - <<'END'
from pip._internal.commands import create_command

command = create_command("download")
options, _ = command.parse_args(["pip"])
with command.main_context():
    finder = command._build_package_finder(options, command.get_default_session(options))
    servers = {{}}
    for project in ("pip", "setuptools"):
        for candidate in finder.find_all_candidates(project):
            servers.setdefault(candidate.link.scheme + "://" + candidate.link.netloc.rpartition("@")[2])
    for server in servers:
        print("{MARK}endpoint", "pip", server, "the index", sep="\\t")
END
"""


def recipe(specs: tuple[str, ...], _base: str) -> tuple[Phase, ...]:
    """One phase: a source package's metadata can only be had by running its code, so nothing can be split off."""
    cache = Cache("pip", _CACHE, writable=True)
    return (Phase("install", _INSTALL + CLEAN, specs, kept=True, caches=(cache,)),)


def again(specs: tuple[str, ...], packages: Sequence[Locked]) -> tuple[str, ...]:
    """What to install to get these very packages: the specs have the extras, the pins the versions."""
    return (*specs, *(f"{package.name}=={package.version}" for package in packages))


def explain(lines: Sequence[str]) -> tuple[str, str] | None:
    """(package, what is wrong with it) when the log tells."""
    return first_told(_FAILURES, lines)


_FAILURES = (
    (
        r"^ERROR: Could not find a version that satisfies the requirement (?P<package>[A-Za-z0-9._-]+).*"
        r"\(from versions: none\)",
        "the index has no such package for this Python",
    ),
    (
        r"^ERROR: No matching distribution found for (?P<package>[A-Za-z0-9._-]+)",
        "the index has no matching version for this Python",
    ),
    (r"^ERROR: Failed building wheel for (?P<package>[A-Za-z0-9._-]+)", "building it from source failed"),
    (r"^ERROR: Cannot install (?P<package>[A-Za-z0-9._-]+)", "the requirements contradict each other"),
)
