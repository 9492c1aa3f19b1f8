"""cargo: programs from crates. The specs are read; installing them is not there yet."""

from __future__ import annotations

import re

from pkgcache.specs import Spec, refuse

_NAME = r"[A-Za-z][A-Za-z0-9_-]{0,63}"
_NUMBER = r"(?:0|[1-9][0-9]*)"
_VERSION = rf"{_NUMBER}(?:\.{_NUMBER}){{0,2}}(?:-[0-9A-Za-z.-]+)?(?:\+[0-9A-Za-z.-]+)?"
_REQUIREMENT = rf"(?:[=^~]|[<>]=?)?{_VERSION}"


def parse(text: str) -> Spec:
    """`name` or `name@requirement`, the requirement as cargo writes them (`14.1.1`, `^1.2`, `~0.3`)."""
    name, at, requirement = text.partition("@")
    if re.fullmatch(_NAME, name) is None:
        raise refuse("it is not a crate name", "write name or name@version")
    requirement = requirement.strip()
    if at and re.fullmatch(_REQUIREMENT, requirement) is None:
        raise refuse(f"'{requirement}' is not a version requirement", "write name@1.2.3")
    return Spec(name.lower().replace("_", "-"), f"{name}@{requirement}" if at else name)
