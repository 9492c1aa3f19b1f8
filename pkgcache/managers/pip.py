"""pip: Python packages, installed into the system's interpreter beneath /usr/local."""

from __future__ import annotations

from pkgcache.specs import Spec, refuse


def parse(text: str) -> Spec:
    """`name`, `name[extras]`, each with version specifiers; no address, no environment marker (PEP 508)."""
    from packaging.requirements import InvalidRequirement, Requirement
    from packaging.utils import canonicalize_name

    try:
        requirement = Requirement(text)
    except InvalidRequirement:
        raise refuse(
            "it is not a Python requirement", "write name, name==version or name[extra]>=version"
        ) from None
    if requirement.url is not None:
        raise refuse("addresses are not taken", "write name==version from the index")
    if requirement.marker is not None:
        raise refuse("environment markers are not taken", "leave out what follows ';'")
    extras = sorted({canonicalize_name(extra) for extra in requirement.extras})
    name = canonicalize_name(requirement.name)
    specifiers = ",".join(sorted({str(specifier) for specifier in requirement.specifier}))
    return Spec(name, name + (f"[{','.join(extras)}]" if extras else "") + specifiers)
