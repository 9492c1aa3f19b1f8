"""apt: Debian packages, installed with the base's own sources."""

from __future__ import annotations

import re

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
