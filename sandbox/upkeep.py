"""What the data directory accumulates: looking at it, making it smaller, finding damage in it."""

import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from sandbox import ground, images
from sandbox.build_runner import make_remove
from sandbox.idmap import IdMap
from sandbox.seccomp.cache import forget_old

if TYPE_CHECKING:
    from pkgcache.inventory import Kept
    from pkgcache.prune import Pruned
    from pkgcache.verify import Verdict
    from pkgcache.why import Finding


class Stock(NamedTuple):
    """What is kept for sessions with these ids. ``downloads`` in bytes on disk."""

    kept: tuple["Kept", ...]
    downloads: int


class Cleared(NamedTuple):
    """What was removed, or would be. ``grounds`` and ``filters`` are paths; ``downloads`` in bytes."""

    pruned: "Pruned"
    grounds: tuple[str, ...]
    filters: tuple[str, ...]
    downloads: int


def stock(data: str, ids: IdMap) -> Stock:
    """Everything that is kept for these ids."""
    from pkgcache.inventory import downloads_size, inventory

    store = images.store(data, ids)
    return Stock(inventory(store), downloads_size(store))


def prune(
    data: str,
    ids: IdMap,
    *,
    max_size: int | None = None,
    older_than: float | None = None,
    downloads: bool = False,
    dry_run: bool = False,
) -> Cleared:
    """Remove what nothing can use any more, and what ``retention.choose`` makes of the limits.

    Nothing that a session or a build uses goes. ``downloads``: the kept downloads go too.
    """
    from pkgcache.inventory import downloads_size
    from pkgcache.prune import prune as prune_

    store = images.store(data, ids)
    remove = make_remove(ids)
    pruned = prune_(
        store, time.time(), remove=remove, max_size=max_size, older_than=older_than, dry_run=dry_run
    )
    freed = downloads_size(store) if downloads else 0
    if downloads and not dry_run:
        for name in os.listdir(store.downloads("")) if os.path.isdir(store.downloads("")) else ():
            remove(store.downloads(name))
    return Cleared(
        pruned,
        ground.forget_unused(data, ids, dry_run=dry_run),
        forget_old(f"{data}/seccomp", dry_run=dry_run),
        freed,
    )


def verify(data: str, ids: IdMap, told: "Callable[[Verdict], None]") -> "tuple[Verdict, ...]":
    """Compare everything with what was recorded when it was made."""
    from pkgcache.verify import verify as verify_

    return verify_(images.store(data, ids), told)


def repair(data: str, ids: IdMap, verdicts: "tuple[Verdict, ...]") -> "Pruned":
    """Remove what is damaged and what stands on it."""
    from pkgcache.verify import repair as repair_

    return repair_(images.store(data, ids), verdicts, remove=make_remove(ids))


def why(data: str, ids: IdMap, base: str, wanted: images.Wanted) -> "tuple[Finding, ...]":
    """For each layer that ``wanted`` on ``base`` needs: whether it is there, or what the nearest one has otherwise."""
    from pkgcache.inventory import layers
    from pkgcache.why import Wanted, explain

    resolution = images.resolve(data, ids, base, wanted, need_endpoints=False)
    standing = resolution.base.id if resolution.base is not None else ""
    parents = ("", *(step.key for step in resolution.steps))
    asked = [
        Wanted(step.manager, step.specs, step.key, parent, standing, resolution.platform, step.present)
        for step, parent in zip(resolution.steps, parents, strict=False)
    ]
    return explain(asked, layers(images.store(data, ids)))
