"""The bases that a store has: reading, listing, removing them. Making them is `debian` and `host`."""

from __future__ import annotations

import os
from typing import NamedTuple

from pkgcache import machine
from pkgcache.errors import InputError, StoreError
from pkgcache.names import HOST, KNOWN
from pkgcache.records import BaseRecord, Locked, base_from_json, packages_from_json
from pkgcache.runner import Remove
from pkgcache.store import Store, discard, explain, in_use

_NAME = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-_.")


class BaseEntry(NamedTuple):
    """One base in a store: `current` tells whether its name still means this build of it, `in_use` whether a
    session or a build holds it, `layers` how many layers stand on it."""

    record: BaseRecord
    path: str
    current: bool
    in_use: bool
    layers: int


def check_name(name: str) -> None:
    """Raise InputError unless `name` can name a base."""
    if not (0 < len(name) <= 64 and _NAME.issuperset(name) and name[0].isalnum()):
        raise InputError(
            f"base {name!r}: a base's name is made of lower-case letters, digits, '-', '_' and '.'",
            f"for example, {', '.join((HOST, *KNOWN))}",
        )


def read_base(store: Store, name: str) -> BaseRecord | None:
    """The record of the base that `name` means now (or that has this id), None when there is none.

    Raises InputError for a malformed name, StoreError for a damaged record.
    """
    check_name(name)
    return read_record(store, _current(store, name) or name)


def read_record(store: Store, identity: str) -> BaseRecord | None:
    """The record of the base with this id, None when there is none. Raises StoreError for a damaged one."""
    path = f"{store.base(identity)}/base.json"
    try:
        with open(path, "rb") as file:
            return base_from_json(file.read(), path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise explain(error, store) from error


def read_packages(store: Store, record: BaseRecord) -> tuple[Locked, ...]:
    """The packages that a base was made of, where that is known. Raises StoreError for a damaged list."""
    path = f"{store.base(record.id)}/packages.json"
    try:
        with open(path, "rb") as file:
            return packages_from_json(file.read(), path)
    except (FileNotFoundError, NotADirectoryError):
        return ()


def root_of(store: Store, record: BaseRecord) -> str | None:
    """The directory of the base's root file system, None for the machine itself."""
    return None if record.name == HOST else f"{store.base(record.id)}/root"


def list_bases(store: Store) -> tuple[BaseEntry, ...]:
    """Every base in the store, by name, the current one of each name first."""
    by_base: dict[str, int] = {}
    for _, base in _layers(store):
        by_base[base] = by_base.get(base, 0) + 1
    entries = []
    for identity in list_names(f"{store.path}/bases"):
        record = read_record(store, identity)
        if record is None:
            continue
        path = store.base(identity)
        entries.append(
            BaseEntry(record, path, standing(store, record), in_use(store, path), by_base.get(identity, 0))
        )
    return tuple(
        sorted(entries, key=lambda entry: (entry.record.name, not entry.current, entry.record.created))
    )


def standing(store: Store, record: BaseRecord) -> bool:
    """Whether the base's name still means this build of it."""
    return record.id == (machine.identity() if record.name == HOST else _current(store, record.name))


def _current(store: Store, name: str) -> str | None:
    try:
        return os.readlink(f"{store.names()}/{name}")
    except OSError:
        return None


def remove_base(store: Store, name: str, *, remove: Remove) -> tuple[str, ...]:
    """Remove a base, by name or id, and the layers that stand on it; returns the ids and keys that went.

    Raises InputError when there is no such base, StoreError when it or one of its layers is in use.
    """
    record = read_base(store, name)
    if record is None:
        raise InputError(f"there is no base '{name}'", "see: sandboxctl base list")
    keys = [key for key, base in _layers(store) if base == record.id]
    for path in (store.base(record.id), *map(store.layer, keys)):
        if in_use(store, path):
            raise StoreError(
                f"the base '{name}' is in use by a running session or build",
                "end the sessions that use it, then try again",
            )
    gone = [key for key in keys if discard(store, store.layer(key), remove)]
    if discard(store, store.base(record.id), remove):
        gone.append(record.id)
    forget(store, record, remove)
    return tuple(gone)


def forget(store: Store, record: BaseRecord, remove: Remove) -> None:
    """Remove what is kept of a base that is gone: its name, apt's lists for it, answers that name it."""
    try:
        if _current(store, record.name) == record.id:
            os.unlink(f"{store.names()}/{record.name}")
    except OSError as error:
        raise explain(error, store) from error
    remove(store.downloads("", record.id) if record.foreign else store.downloads(f"apt/lists-{record.id}"))
    remove(f"{store.path}/memo")


def _layers(store: Store) -> list[tuple[str, str]]:
    """(key, id of the base) of every layer."""
    from pkgcache.records import layer_from_json

    found = []
    for key in list_names(f"{store.path}/layers"):
        path = f"{store.layer(key)}/layer.json"
        try:
            with open(path, "rb") as file:
                found.append((key, layer_from_json(file.read(), path).base))
        except FileNotFoundError:
            continue
    return found


def list_names(directory: str) -> list[str]:
    """What is in a directory, sorted; nothing when it is not there."""
    try:
        return sorted(os.listdir(directory))
    except FileNotFoundError:
        return []
