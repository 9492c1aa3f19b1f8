"""The variables that sessions need so that what the managers installed is found, and what they install later."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

PREFIX = "/usr/local"
"""Where the managers install: ahead of the system's own directories on PATH and on the interpreters' paths."""

GO_MODULES = f"{PREFIX}/share/go/mod"
"""Where modules that are no programs are kept for sessions to import."""

ENVIRONMENT: Mapping[str, str] = MappingProxyType(
    {
        "CARGO_INSTALL_ROOT": PREFIX,
        "GOMODCACHE": GO_MODULES,
        "NODE_PATH": f"{PREFIX}/lib/node_modules",
        "npm_config_prefix": PREFIX,
        "PIP_BREAK_SYSTEM_PACKAGES": "1",
        "PIP_ROOT_USER_ACTION": "ignore",
    }
)
