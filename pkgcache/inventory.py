"""What a store keeps: every base and layer with its size, its last use, and what it stands on."""

from __future__ import annotations

import os
from typing import NamedTuple

from pkgcache.bases import list_names, read_record, standing
from pkgcache.errors import StoreError
from pkgcache.keys import layer_key
from pkgcache.manifest import NAME, size_of
from pkgcache.records import LayerRecord
from pkgcache.resolve import read_layer
from pkgcache.store import Store, in_use
from pkgcache.survey import surveyed

BASE = "base"


class Kept(NamedTuple):
    """A base or a layer. `below` is what it stands on: a layer's key, a base's id, "" for a base.

    `name` is the manager of a layer, the name of a base. `size` is in bytes on disk. `used` is in seconds since the
    epoch. `current`: the next session that asks for the same may get it. `damage`: why its record can't be read.
    """

    id: str
    kind: str
    name: str
    specs: tuple[str, ...]
    below: str
    base: str
    created: str
    size: int
    used: float
    in_use: bool
    current: bool
    path: str
    damage: str = ""


def inventory(store: Store) -> tuple[Kept, ...]:
    """All bases, then all layers, those below before those above. What vanishes meanwhile is left out."""
    found = {}
    for identity in list_names(f"{store.path}/bases"):
        kept = _one(store, identity, BASE)
        if kept is not None:
            found[kept.id] = kept
    layers = [_one(store, key, "layer") for key in list_names(f"{store.path}/layers")]
    waiting = [layer for layer in layers if layer is not None]
    while waiting:
        unplaced = {layer.id for layer in waiting}
        ready = [layer for layer in waiting if layer.below not in unplaced]
        for layer in ready or waiting:
            below = found.get(layer.below)
            current = layer.current and below is not None and below.current
            found[layer.id] = layer._replace(current=current)
        waiting = [layer for layer in waiting if layer.id not in found]
    return tuple(found.values())


def _one(store: Store, identity: str, kind: str) -> Kept | None:
    path = store.base(identity) if kind == BASE else store.layer(identity)
    try:
        used = os.stat(path).st_mtime
        size = _size(store, path)
    except (FileNotFoundError, NotADirectoryError, StoreError):
        if not os.path.isdir(path):
            return None
        used, size = 0.0, 0
    blank = Kept(identity, kind, "?", (), "", "", "", size, used, in_use(store, path), False, path)
    try:
        if kind == BASE:
            base = read_record(store, identity)
            if base is None:
                raise StoreError(f"{path}/base.json is missing")
            return blank._replace(name=base.name, created=base.created, current=standing(store, base))
        layer = read_layer(store, identity)
    except StoreError as error:
        return blank._replace(damage=str(error)) if os.path.isdir(path) else None
    return blank._replace(
        name=layer.manager,
        specs=layer.specs,
        below=layer.parent or layer.base,
        base=layer.base,
        created=layer.created,
        current=store.chosen(_inputs(layer)) == identity,
    )


def _inputs(layer: LayerRecord) -> str:
    """The key that what was asked for comes to, in this version's format."""
    return layer_key(layer.parent, layer.base, layer.manager, layer.specs, layer.platform)


def _size(store: Store, path: str) -> int:
    """From the manifest; counted when there is none."""
    try:
        with open(f"{path}/{NAME}", encoding="utf-8", errors="surrogateescape") as file:
            told = size_of(file.readline())
    except FileNotFoundError:
        told = None
    return told if told is not None else size_of(surveyed(store, path).partition("\n")[0]) or 0


def layers(store: Store) -> tuple[LayerRecord, ...]:
    """The records of all layers that can be read."""
    found = []
    for key in list_names(f"{store.path}/layers"):
        try:
            found.append(read_layer(store, key))
        except StoreError:
            continue
    return tuple(found)


def downloads_size(store: Store) -> int:
    """What the kept downloads take on disk, in bytes."""
    seen: set[tuple[int, int]] = set()
    total = 0
    for folder, _, files in os.walk(store.downloads("")):
        for name in files:
            try:
                status = os.lstat(f"{folder}/{name}")
            except FileNotFoundError:
                continue
            if (status.st_dev, status.st_ino) not in seen:
                seen.add((status.st_dev, status.st_ino))
                total += status.st_blocks * 512
    return total
