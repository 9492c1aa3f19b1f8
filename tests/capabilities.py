"""What tests need of the machine they run on, and what happens where it is missing.

`need("subids")` skips the test where this machine or this user lacks that. With SANDBOX_MUST_WORK=1 it fails
instead: continuous integration sets that, so that no wall goes untested there without a word. The two needs
that name who runs the tests, "root" and "ordinary-user", always skip: the suite runs once as each.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest


def need(*names: str) -> None:
    """Skip, or fail under SANDBOX_MUST_WORK=1, unless the machine has every capability that is named."""
    for name in names:
        missing = _PROBES[name]()
        if missing is None:
            continue
        told = f"needs {name}: {missing}"
        if os.environ.get("SANDBOX_MUST_WORK") == "1" and name not in ("root", "ordinary-user"):
            pytest.fail(f"{told}, and SANDBOX_MUST_WORK=1 forbids skipping", pytrace=False)
        pytest.skip(told)


def has(*names: str) -> bool:
    """Whether the machine has every capability that is named."""
    return all(_PROBES[name]() is None for name in names)


Probe = Callable[[], str | None]
"""What is missing, or None."""

_PROBES: dict[str, Probe] = {}


def _probe(name: str) -> Callable[[Probe], Probe]:
    def keep(probe: Probe) -> Probe:
        _PROBES[name] = functools.cache(probe)
        return _PROBES[name]

    return keep


def _program(name: str) -> Probe:
    def probe() -> str | None:
        found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
        return None if found else f"{name} is not installed"

    return functools.cache(probe)


for _name in (
    "mmdebstrap",
    "openssl",
    "curl",
    "git",
    "nft",
    "ip",
    "pip3",
    "npm",
    "node",
    "podman",
    "bwrap",
    "pasta",
    "umoci",
):
    _PROBES[_name] = _program(_name)


@_probe("root")
def _root() -> str | None:
    return None if os.geteuid() == 0 else "these tests run as an ordinary user"


@_probe("ordinary-user")
def _ordinary_user() -> str | None:
    return "these tests run as root" if os.geteuid() == 0 else None


def _in_namespaces(script: str, *options: str) -> str | None:
    """Run a shell script as root of new namespaces; what it complained about when it failed."""
    unshare = shutil.which("unshare")
    if unshare is None:
        return "unshare (util-linux) is not installed"
    done = subprocess.run(
        [unshare, "--user", "--map-root-user", *options, "sh", "-c", script],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    if done.returncode == 0:
        return None
    return done.stderr.strip().splitlines()[-1] if done.stderr.strip() else f"exit code {done.returncode}"


@_probe("user-namespaces")
def _user_namespaces() -> str | None:
    return _in_namespaces("true", "--mount", "--pid", "--fork", "--net", "--ipc", "--uts", "--cgroup")


@_probe("overlay")
def _overlay() -> str | None:
    import tempfile

    with tempfile.TemporaryDirectory() as place:
        for name in ("lower", "upper", "work", "merged"):
            Path(place, name).mkdir()
        options = f"userxattr,lowerdir={place}/lower,upperdir={place}/upper,workdir={place}/work"
        missing = _in_namespaces(f"mount -t overlay -o {options} overlay {place}/merged", "--mount")
        # The kernel leaves work/work behind with mode 0, owned by this user.
        inner = Path(place, "work", "work")
        if inner.exists():
            inner.chmod(0o700)
        return missing


@_probe("tmpfs")
def _tmpfs() -> str | None:
    return _in_namespaces("mount -t tmpfs tmpfs /tmp", "--mount")


@_probe("subids")
def _subids() -> str | None:
    """65,536 ids that this user may map (root needs no helper and no range)."""
    from sandbox import idmap

    host = idmap.read_host_ids()
    if idmap.choose(host).mode == idmap.RANGE:
        return None
    return "this user has no range of subordinate ids, or newuidmap is missing"


@_probe("nft-tproxy")
def _nft_tproxy() -> str | None:
    """The kernel's nf_tables with tproxy, which modules of its own hold; no program is needed."""
    program = (
        "from sandbox import netns; netns.bring_up(); netns.make_all_local(); "
        'netns.capture(*netns.listen((("any-tcp", 0), ("any-udp", 0))))'
    )
    return _in_namespaces(f"{sys.executable} -c '{program}'", "--net")


@_probe("ipv6")
def _ipv6() -> str | None:
    import socket

    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError as error:
        return f"no IPv6 loopback: {error}"
    return None


@_probe("registries")
def _registries() -> str | None:
    """The Python index that pip itself is set up for answers."""
    try:
        done = subprocess.run(
            [sys.executable, "-m", "pip", "install", "--dry-run", "--no-deps", "--ignore-installed", "six"],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return "the package index didn't answer within 60 s"
    return None if done.returncode == 0 else "the package index can't be reached"
