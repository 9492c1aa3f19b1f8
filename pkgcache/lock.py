"""What is really installed, as a value that can be written to a file, compared, and asked for again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from pkgcache.errors import InputError
from pkgcache.keys import digest
from pkgcache.records import BaseRecord, LayerRecord, Locked
from pkgcache.specs import MANAGERS

VERSION = 1


class LockedLayer(NamedTuple):
    """One manager's layer: what was asked for, when it was resolved (RFC 3339 in UTC), and to what."""

    manager: str
    specs: tuple[str, ...]
    resolved: str
    packages: tuple[Locked, ...]


class Lock(NamedTuple):
    """An environment's packages. `base` is the name of the base, `base_id` the build of it that they stand on."""

    base: str
    base_id: str
    platform: str
    layers: tuple[LockedLayer, ...]


class Change(NamedTuple):
    """One package that two layers have differently: versions, with hashes where those alone differ; "" for none."""

    name: str
    before: str
    after: str


def lock(base: BaseRecord, platform: str, layers: Iterable[LayerRecord]) -> Lock:
    """The lock of these layers, lowest first."""
    return Lock(
        base.name,
        base.id,
        platform,
        tuple(LockedLayer(each.manager, each.specs, each.created, each.packages) for each in layers),
    )


def changes(before: Iterable[Locked], after: Iterable[Locked]) -> tuple[Change, ...]:
    """The packages that differ, by name. Of a hash that only one side knows, nothing is said."""
    old, new = _by_name(before), _by_name(after)
    found = []
    for name in sorted(old.keys() | new.keys()):
        one, other = old.get(name, {}), new.get(name, {})
        if one.keys() != other.keys():
            found.append(Change(name, ", ".join(sorted(one)), ", ".join(sorted(other))))
            continue
        for version in sorted(one):
            hashes = one[version], other[version]
            if all(hashes) and hashes[0] != hashes[1]:
                found.append(Change(name, *(f"{version} {hash_}" for hash_ in hashes)))
    return tuple(found)


def _by_name(packages: Iterable[Locked]) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for package in packages:
        found.setdefault(package.name, {})[package.version] = package.hash
    return found


def sentence(change: Change) -> str:
    """The change for people: "six 1.16.0 → 1.17.0"."""
    return f"{change.name} {change.before or 'not there'} → {change.after or 'not there'}"


def name_of(layer: LockedLayer) -> str:
    """What tells a layer that was built from a lock from others of the same specs."""
    return "locked-" + digest(
        f"{package.name}\n{package.version}\n{package.hash}" for package in layer.packages
    )


def select(locked: Lock, base: str, platform: str, wanted: Sequence[tuple[str, tuple[str, ...]]]) -> None:
    """Raise InputError unless the lock is one of these very packages on this base and platform."""
    if (locked.base, locked.platform) != (base, platform):
        raise InputError(
            f"the lock is of the base {locked.base} on {locked.platform}, not of {base} on {platform}",
            f"build with --base {locked.base}, or make a new lock with: sandboxctl env lock",
        )
    asked = dict(wanted)
    there = {layer.manager: layer.specs for layer in locked.layers}
    for manager in MANAGERS:
        if asked.get(manager, ()) != there.get(manager, ()):
            raise InputError(
                f"the lock does not fit: packages.{manager} is {_list(asked.get(manager))}, "
                f"in the lock {_list(there.get(manager))}",
                "make a new lock with: sandboxctl env lock",
            )


def _list(specs: Sequence[str] | None) -> str:
    return ", ".join(specs) if specs else "empty"


def to_plain(locked: Lock) -> dict[str, Any]:
    """The lock as mappings, lists and text; the same lock, the same order."""
    return {
        "lock": VERSION,
        "base": {"name": locked.base, "id": locked.base_id},
        "platform": locked.platform,
        "layers": [
            {
                "manager": layer.manager,
                "specs": list(layer.specs),
                "resolved": layer.resolved,
                "packages": [
                    {name: value for name, value in package._asdict().items() if value}
                    for package in layer.packages
                ],
            }
            for layer in locked.layers
        ],
    }


def from_plain(value: object, where: str) -> Lock:
    """The reverse of `to_plain`. Raises InputError, which names the file `where` and the field."""
    top = _mapping(value, where, ("lock", "base", "platform", "layers"))
    if top["lock"] != VERSION:
        raise _wrong(where, "lock", f"is {top['lock']!r}; this version reads {VERSION}")
    base = _mapping(top["base"], f"{where}: base", ("name", "id"))
    layers = []
    for number, item in enumerate(_sequence(top["layers"], where, "layers")):
        place = f"{where}: layers[{number}]"
        layer = _mapping(item, place, ("manager", "specs", "resolved", "packages"))
        if layer["manager"] not in MANAGERS:
            raise _wrong(place, "manager", f"is {layer['manager']!r}, none of {', '.join(MANAGERS)}")
        packages = []
        for index, entry in enumerate(_sequence(layer["packages"], place, "packages")):
            inner = f"{place}.packages[{index}]"
            package = _mapping(entry, inner, ("name", "version"), ("hash",))
            packages.append(Locked(*(_text(package.get(name, ""), inner, name) for name in Locked._fields)))
        specs = tuple(_text(spec, place, "specs") for spec in _sequence(layer["specs"], place, "specs"))
        resolved = _text(layer["resolved"], place, "resolved")
        layers.append(LockedLayer(layer["manager"], specs, resolved, tuple(packages)))
    return Lock(
        _text(base["name"], where, "base.name"),
        _text(base["id"], where, "base.id"),
        _text(top["platform"], where, "platform"),
        tuple(layers),
    )


def _wrong(where: str, field: str, problem: str) -> InputError:
    return InputError(f"{where}: {field} {problem}", "make the lock with: sandboxctl env lock")


def _mapping(
    value: object, where: str, needed: Sequence[str], possible: Sequence[str] = ()
) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise _wrong(where, "it", "is not a mapping")
    for name in needed:
        if name not in value:
            raise _wrong(where, name, "is missing")
    for name in value:
        if name not in (*needed, *possible):
            raise _wrong(where, str(name), "is not a field of a lock")
    return value


def _sequence(value: object, where: str, field: str) -> list[object]:
    if not isinstance(value, list):
        raise _wrong(where, field, "is not a list")
    return value


def _text(value: object, where: str, field: str) -> str:
    if not isinstance(value, str):
        raise _wrong(where, field, "is not text")
    return value
