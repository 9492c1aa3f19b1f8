"""What tells one state of the machine from another, as far as the packages of its own managers go."""

from __future__ import annotations

import os

from pkgcache.names import HOST
from pkgcache.store import Store

# The third is where Go's own archive is unpacked to.
_PLACES = ("/usr/local/bin", "/usr/bin", "/usr/local/go/bin")
_PROGRAMS = ("python3", "pip3", "node", "npm", "go", "cargo", "gem")
_FILES = ("/etc/os-release", "/etc/pip.conf", "/etc/npmrc", "/etc/gemrc")


def traits() -> tuple[str, ...]:
    """Path, size and time of change of the package managers' programs and settings."""
    found = []
    for path in (
        *(f"{place}/{name}" for place in _PLACES for name in _PROGRAMS),
        *_FILES,
    ):
        try:
            status = os.stat(path)
        except OSError:
            continue
        found += [path, str(status.st_size), str(status.st_mtime_ns)]
    return tuple(found)


def identity() -> str:
    """The id of the machine as a base: another when its system or one of its package managers changes."""
    from pkgcache.keys import FORMAT, digest

    return f"{HOST}-{digest((FORMAT, *traits()))[:16]}"


def ground(store: Store, base: str) -> str:
    """The directory that makes the machine's /usr/local writable, the lowest of the layers on it."""
    return f"{store.base(base)}/ground"
