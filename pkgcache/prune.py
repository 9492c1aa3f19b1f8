"""Making a store smaller, without taking anything that is in use or that something else stands on."""

from __future__ import annotations

import os
from typing import NamedTuple

from pkgcache.bases import forget, list_names, read_record
from pkgcache.errors import StoreError
from pkgcache.inventory import BASE, Kept, inventory
from pkgcache.resolve import read_layer
from pkgcache.retention import Item, choose
from pkgcache.runner import Remove
from pkgcache.store import Store, discard, sweep


class Pruned(NamedTuple):
    """`gone` was removed (or would be); `kept` was chosen but came into use."""

    gone: tuple[Kept, ...]
    kept: tuple[Kept, ...] = ()


def prune(
    store: Store,
    now: float,
    *,
    remove: Remove,
    max_size: int | None = None,
    older_than: float | None = None,
    dry_run: bool = False,
) -> Pruned:
    """Remove what `retention.choose` names. `now` and the times of use are seconds since the epoch."""
    found = {kept.id: kept for kept in inventory(store)}
    items = [
        Item(kept.id, kept.below, kept.size, kept.used, kept.in_use, not kept.current)
        for kept in found.values()
    ]
    chosen = [found[id_] for id_ in choose(items, now, max_size=max_size, older_than=older_than)]
    if dry_run:
        return Pruned(tuple(chosen))
    sweep(store, remove)
    pruned = remove_all(store, chosen, frozenset(found), remove)
    for key in list_names(f"{store.path}/chosen"):
        # Nothing was chosen, or what was is gone.
        if store.chosen(key) == key:
            os.unlink(f"{store.path}/chosen/{key}")
    return pruned


def remove_all(store: Store, chosen: list[Kept], known: frozenset[str], remove: Remove) -> Pruned:
    """Remove what is chosen, topmost first; `known` are the ids of all that was there when that was decided."""
    gone: list[Kept] = []
    left: list[Kept] = []
    for kept in chosen:
        stays_below = any(other.below == kept.id for other in left)
        if not stays_below and _remove(store, kept, known, remove):
            gone.append(kept)
        else:
            left.append(kept)
    if gone:
        remove(f"{store.path}/memo")
    return Pruned(tuple(gone), tuple(left))


def _remove(store: Store, kept: Kept, known: frozenset[str], remove: Remove) -> bool:
    base = read_record(store, kept.id) if kept.kind == BASE and not kept.damage else None
    try:
        if not discard(store, kept.path, remove, unless=lambda: _stood_on(store, kept.id, known)):
            return False
    except StoreError:
        return False
    if base is not None:
        forget(store, base, remove)
    return True


def _stood_on(store: Store, identity: str, known: frozenset[str]) -> bool:
    """Whether a layer that came since stands on this one."""
    for key in list_names(f"{store.path}/layers"):
        if key in known:
            continue
        try:
            layer = read_layer(store, key)
        except StoreError:
            continue
        if identity in (layer.parent, layer.base):
            return True
    return False
