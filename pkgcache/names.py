"""Words that several parts share."""

from __future__ import annotations

import os

HOST = "host"
"""The name of the base that is the machine itself."""

KNOWN = {"debian": "runtimes", "debian-minimal": "minimal"}
"""Names of bases that are made when a session first needs them, and their profiles."""


def platform() -> str:
    """What layers are built for, like "linux/x86_64"."""
    return f"linux/{os.uname().machine}"
