"""What a user asks of package managers, read and put in one form.

Nothing that passes here can be taken by a manager for an option, a path, an address or shell text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from pkgcache.errors import InputError

MANAGERS = ("apt", "cargo", "gem", "go", "npm", "pip")
"""In the order in which they are installed, each over the ones before."""

MAX_SPECS = 1000
MAX_LENGTH = 500


class Spec(NamedTuple):
    """`name` identifies the package to its manager; `text` is the canonical spec, passed on as it is."""

    name: str
    text: str


def refuse(reason: str, hint: str = "") -> InputError:
    """The error that a manager's parser raises; `parse_packages` says which spec it was about."""
    return InputError(reason, hint)


def parse(manager: str, text: str) -> Spec:
    """One spec of one manager. Raises InputError with the reason alone as its message."""
    from importlib import import_module

    if manager not in MANAGERS:
        raise refuse(f"there is no package manager '{manager}'", f"choose one of {', '.join(MANAGERS)}")
    if not isinstance(text, str):
        raise refuse(f"a package is text, not {type(text).__name__}")
    if len(text) > MAX_LENGTH:
        raise refuse(f"longer than {MAX_LENGTH} characters")
    if not text.isascii() or not text.isprintable():
        raise refuse("only printable ASCII characters can stand in a package spec")
    stripped = text.strip()
    if not stripped:
        raise refuse("it is empty")
    if stripped.startswith("-"):
        raise refuse("it starts with '-': options can't be passed to the package manager")
    spec = import_module(f"pkgcache.managers.{manager}").parse(stripped)
    assert isinstance(spec, Spec)
    return spec


def parse_packages(
    packages: Mapping[str, Sequence[str]], where: str = "packages"
) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """(manager, canonical specs) in the order of installation; the specs are sorted and none is repeated.

    Managers without a spec are left out. `where` names the mapping in messages, as in "packages.pip[2]".
    Raises InputError.
    """
    for manager in packages:
        if manager not in MANAGERS:
            raise InputError(
                f"{where}.{manager}: there is no package manager '{manager}'",
                f"choose one of {', '.join(MANAGERS)}",
            )
    result = []
    for manager in MANAGERS:
        given = packages.get(manager) or ()
        if isinstance(given, str) or not isinstance(given, Sequence):
            raise InputError(
                f"{where}.{manager}: must be a list of package specs, not {type(given).__name__}"
            )
        if len(given) > MAX_SPECS:
            raise InputError(f"{where}.{manager}: {len(given)} packages, more than the {MAX_SPECS} allowed")
        specs = _parse_list(manager, given, f"{where}.{manager}")
        if specs:
            result.append((manager, specs))
    return tuple(result)


def _parse_list(manager: str, given: Sequence[str], where: str) -> tuple[str, ...]:
    by_name: dict[str, str] = {}
    texts: set[str] = set()
    for index, text in enumerate(given):
        try:
            spec = parse(manager, text)
        except InputError as error:
            raise InputError(f"{where}[{index}] {text!r}: {error}", error.hint) from None
        other = by_name.setdefault(spec.name, spec.text)
        # pip alone takes several constraints on one name and satisfies them together.
        if other != spec.text and manager != "pip":
            raise InputError(
                f"{where}[{index}] {text!r}: '{spec.name}' is asked for twice, also as '{other}'",
                "keep one of the two",
            )
        texts.add(spec.text)
    return tuple(sorted(texts))
