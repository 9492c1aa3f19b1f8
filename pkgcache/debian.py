"""A Debian of the user's own: a root file system made by mmdebstrap, all of it inside a session."""

from __future__ import annotations

import os
import time
from base64 import b64encode
from collections.abc import Mapping
from functools import partial
from types import MappingProxyType

from pkgcache import report, sources
from pkgcache.bases import check_name, read_base
from pkgcache.buildlog import BuildLog
from pkgcache.errors import HostError, InputError
from pkgcache.managers import apt
from pkgcache.names import HOST, KNOWN
from pkgcache.phases import (
    Event,
    Progress,
    World,
    failure,
    locked,
    now,
    open_log,
    probe,
    run_phases,
    run_script,
)
from pkgcache.recipe import CLEAN, MISSING, require
from pkgcache.records import BaseRecord, Locked, to_json
from pkgcache.report import MARK
from pkgcache.runner import Remove, Result, Root, Runner
from pkgcache.specs import MANAGERS
from pkgcache.store import Store, create, exclusive, explain, point, publish, sweep, workplace, write

SUITE = "trixie"
PROFILES: dict[str, tuple[str, ...]] = {
    "minimal": (),
    "runtimes": (
        "build-essential",
        "bzip2",
        "cargo",
        "curl",
        "git",
        "golang-go",
        "less",
        "nodejs",
        "npm",
        "openssh-client",
        "patch",
        "pkg-config",
        "procps",
        "python3",
        "python3-dev",
        "python3-pip",
        "python3-venv",
        "ruby",
        "ruby-dev",
        "rustc",
        "unzip",
        "wget",
        "xz-utils",
        "zip",
    ),
}
"""What is in a base beside apt and what that needs."""

_TARGET = "/srv/base"
# The session gives no leave to mount or to make device nodes, and the root is used in sessions that bring both.
_BOOTSTRAP = "mmdebstrap --mode=root --variant=apt --skip=check/empty,chroot/mount,cleanup/dev,output/dev"

# mmdebstrap writes the sources before it contacts anyone; there it is stopped.
_ASK_SOURCES = f"""{require("mmdebstrap", "command -v mmdebstrap")}cd /tmp
{_BOOTSTRAP} --setup-hook='sed "s/^/{MARK}source\\t/" "$1/etc/apt/sources.list"; exit 1' "$1" /tmp/asked 2>&1
apt-get indextargets --no-release-info --format '{MARK}target\t$(REPO_URI)\t$(RELEASE)\t$(COMPONENT)' 2>/dev/null
. /etc/os-release
printf '{MARK}system\t%s\t%s\n' "$ID" "$VERSION_CODENAME"
"""
# The place is in the session's own root, so the files get the session's ids and no mount's.
_MAKE = f"""suite=$1; shift
mkdir -p {_TARGET}
{_BOOTSTRAP} --include=ca-certificates "$suite" {_TARGET} "$@"
"""
_CONFIGURE = """set -e
printf '#!/bin/sh\\n# No service starts while packages are installed.\\nexit 101\\n' > /usr/sbin/policy-rc.d
chmod 755 /usr/sbin/policy-rc.d
# The user _apt may be missing (one id) or barred from the session's directories.
printf 'APT::Sandbox::User "root";\\n' > /etc/apt/apt.conf.d/90sandbox
# A layer reaches the disk before it is published, as a whole; dpkg need not see to each file.
printf 'force-unsafe-io\\n' > /etc/dpkg/dpkg.cfg.d/sandbox
printf '[global]\\nbreak-system-packages = true\\nroot-user-action = ignore\\n' > /etc/pip.conf
mkdir -p /workspace /mnt/session/outputs /mnt/session/uploads /var/cache/npm /var/cache/pip /usr/lib/ssl
ln -sfn /etc/ssl/certs/ca-certificates.crt /usr/lib/ssl/cert.pem
: > /etc/machine-id
: > /etc/resolv.conf
echo sandbox > /etc/hostname
rm -rf /var/cache/apt/*.bin /var/lib/apt/lists/* /var/log/bootstrap.log
"""
LIST = f"""dpkg-query -W -f '{MARK}package\t${{Package}}:${{Architecture}}\t${{Version}}\t\n'
printf '{MARK}tool\tdebian\t%s\n' "$(cat /etc/debian_version)"
command -v python3 >/dev/null && printf '{MARK}tool\tpython3\t%s\n' "$(python3 --version | cut -d' ' -f2)"
command -v gcc >/dev/null && printf '{MARK}tool\tgcc\t%s\n' "$(gcc -dumpfullversion)"
command -v git >/dev/null && printf '{MARK}tool\tgit\t%s\n' "$(git --version | cut -d' ' -f3)"
"""


# The files travel as variables: what is in them is nobody else's to see, as arguments would be.
_PLACE_FILES = """set -e
umask 022
number=0
for path in "$@"; do
  number=$((number + 1))
  mkdir -p "$(dirname "$path")"
  printenv "FILE_$number" | base64 -d > "$path"
done
"""
_MAX_FILE = 65536


def build_base(
    store: Store,
    name: str = "debian",
    *,
    runner: Runner,
    remove: Remove,
    suite: str = SUITE,
    profile: str | None = None,
    mirror: str | None = None,
    files: Mapping[str, bytes] = MappingProxyType({}),
    rebuild: bool = False,
    progress: Progress = lambda _: None,
    timeout_s: float | None = None,
) -> BaseRecord:
    """The base called `name`, made unless it is there and not to be made again (`rebuild`).

    `files`: what is put into it, by absolute path, before its package managers are asked for their servers.

    `profile` None is the one that goes with the name, "runtimes" for a name of the user's own. A base that is made
    again gets a new id: sessions on the old one keep it. Raises InputError, HostError, StoreError, BuildError.
    """
    check_name(name)
    if name == HOST:
        raise InputError(
            "the base 'host' is the machine itself: there is nothing to build", "build the base debian"
        )
    profile = profile or KNOWN.get(name, "runtimes")
    if profile not in PROFILES:
        raise InputError(
            f"profile {profile!r}: there is none of this name", f"choose one of {', '.join(PROFILES)}"
        )
    sources.check(suite, mirror)
    _check_files(files)
    begun = time.monotonic()

    def say(phase: str, text: str) -> None:
        progress(Event("base", phase, text, time.monotonic() - begun))

    create(store)
    sweep(store, remove)
    with exclusive(
        store, f"base-{name}", lambda: say("waiting", f"another process is making the base {name}")
    ):
        existing = read_base(store, name)
        if existing is not None and not rebuild:
            if files:
                raise InputError(
                    f"the base '{name}' is there already, without these files", "make it again with --rebuild"
                )
            return existing
        deadline = None if timeout_s is None else begun + timeout_s
        world = World(store, runner, (), (), deadline)
        phase = ["bootstrap"]
        with (
            workplace(store, remove) as place,
            open_log(store, f"base-{name}", lambda text: say(phase[0], text)) as log,
        ):
            record, packages = _make(world, place, name, suite, profile, mirror, files, log, phase)
            say("publish", f"base {name}")
            made = f"{place}/made"
            write(store, f"{made}/base.json", to_json(record))
            write(store, f"{made}/packages.json", packages_to_json(packages))
            publish(store, made, store.base(record.id))
            point(store, name, record.id)
        os.unlink(log.path)
    say("done", f"base {name}: Debian {record.tools.get('debian', suite)}, {len(packages)} packages")
    return record


def _check_files(files: Mapping[str, bytes]) -> None:
    for path, data in files.items():
        if not path.startswith("/") or path.endswith("/") or ".." in path.split("/") or "\0" in path:
            raise InputError(
                f"{path!r} is no place for a file in a base", "name an absolute path without '..'"
            )
        if len(data) > _MAX_FILE:
            raise InputError(f"the file for {path} has more than {_MAX_FILE} bytes", "these are for settings")


def _make(
    world: World,
    place: str,
    name: str,
    suite: str,
    profile: str,
    mirror: str | None,
    files: Mapping[str, bytes],
    log: BuildLog,
    phase: list[str],
) -> tuple[BaseRecord, tuple[Locked, ...]]:
    """Make the root file system in `<place>/made/root`; `phase` is kept at the name of the current phase."""
    identity = f"{name}-{os.urandom(6).hex()}"
    try:
        os.mkdir(f"{place}/scratch")
        os.mkdir(f"{place}/made")
    except OSError as error:
        raise explain(error, world.store) from error
    machine = Root(None)
    asked = run_script(world._replace(endpoints=()), _ASK_SOURCES, machine, log, arguments=(suite,))
    lines = _choose(suite, mirror, log)
    if asked.exit_code == MISSING:
        raise failure(world, "base", (), phase[0], asked, log)
    if not lines:
        raise HostError(
            "mmdebstrap does not say where Debian's archive is", f"name a mirror; the log is in {log.path}"
        )
    marks = (("endpoint", "apt", address, "mmdebstrap") for address in sources.addresses(lines))
    world = world._replace(endpoints=report.endpoints(marks))

    def check(result: Result) -> None:
        if result.exit_code != 0:
            raise failure(world, "base", (), phase[0], result, log)

    check(run_script(world, _MAKE, machine, log, arguments=(suite, *lines), scratch=f"{place}/scratch"))
    os.rename(f"{place}/scratch/upper{_TARGET}", f"{place}/made/root")
    root = Root(f"{place}/made/root")
    phase[0] = "configure"
    check(run_script(world._replace(endpoints=()), _CONFIGURE + CLEAN, root, log, in_place=True))
    if files:
        contents = {f"FILE_{index}": b64encode(data).decode() for index, data in enumerate(files.values(), 1)}
        closed = world._replace(endpoints=(), environment=contents)
        check(run_script(closed, _PLACE_FILES, root, log, arguments=tuple(files), in_place=True))
    if PROFILES[profile]:
        _install(world, PROFILES[profile], identity, root, log, phase)
    phase[0] = "probe"
    found = probe(world, root, MANAGERS, log, extra=LIST)
    record = BaseRecord(
        identity, name, suite, profile, now(), lines, report.tools(found), report.endpoints(found)
    )
    return record, report.packages(found)


def _choose(suite: str, mirror: str | None, log: BuildLog) -> tuple[str, ...]:
    targets = [sources.Target(*mark[1:]) for mark in log.marks if mark[0] == "target" and len(mark) == 4]
    system = next((mark for mark in log.marks if mark[0] == "system" and len(mark) == 3), ("", "", ""))
    codename = system[2] if system[1] == "debian" else ""
    return sources.choose(suite, mirror, report.sources(log.marks), targets, codename)


def _install(
    world: World, packages: tuple[str, ...], identity: str, root: Root, log: BuildLog, phase: list[str]
) -> None:
    phases = apt.recipe(packages, identity, "--no-install-recommends")
    with locked(world, phases, lambda: log.note("waiting for another build that uses apt")):
        result = run_phases(world, phases, root, log, partial(phase.__setitem__, 0), in_place=True)
        if result.exit_code != 0:
            raise failure(world, "base", (), phase[0], result, log)


def packages_to_json(packages: tuple[Locked, ...]) -> str:
    """The packages as a JSON list of objects."""
    import json

    return json.dumps([package._asdict() for package in packages], indent=1) + "\n"
