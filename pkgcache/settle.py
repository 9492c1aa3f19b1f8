"""What a root file system from elsewhere needs so that packages can be installed in sessions on it.

This runs in a process confined to that root (`pkgcache.runner.Inside`); no program of it runs. What is there already
stays as it is: a base that was exported from here comes back unchanged.
"""

from __future__ import annotations

import os
from contextlib import suppress

POLICY = "#!/bin/sh\n# No service starts while packages are installed.\nexit 101\n"
SANDBOX_USER = 'APT::Sandbox::User "root";\n'
UNSAFE_IO = "force-unsafe-io\n"
_FILES = (
    # (needed directory, path, text, mode)
    ("var/lib/dpkg", "usr/sbin/policy-rc.d", POLICY, 0o755),
    ("etc/apt/apt.conf.d", "etc/apt/apt.conf.d/90sandbox", SANDBOX_USER, 0o644),
    ("etc/dpkg/dpkg.cfg.d", "etc/dpkg/dpkg.cfg.d/sandbox", UNSAFE_IO, 0o644),
)


def settle() -> str:
    """Write what is missing below /; returns the names of what was written."""
    written = []
    for directory, path, text, mode in _FILES:
        # In a root where these names lead nowhere, there is no such manager.
        with suppress(OSError):
            if os.path.isdir(f"/{directory}"):
                _write(f"/{path}", text, mode)
                written.append(path)
    return " ".join(written)


def _write(path: str, text: str, mode: int) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    with open(fd, "wb") as file:
        file.write(text.encode())
        os.fchmod(fd, mode)
