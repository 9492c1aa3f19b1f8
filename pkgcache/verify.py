"""Finding damage: what a store keeps is compared with what was written down when it was published."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import NamedTuple

from pkgcache.errors import StoreError
from pkgcache.inventory import BASE, Kept, inventory
from pkgcache.manifest import NAME, DamagedManifestError, Difference, compare, parse
from pkgcache.prune import Pruned, remove_all
from pkgcache.runner import Remove
from pkgcache.store import Store, hold
from pkgcache.survey import surveyed


class Verdict(NamedTuple):
    """What was found of one base or layer: `problem` says what is wrong with it as a whole, `files` which of its files
    are not as they were. Neither: it is in order."""

    kept: Kept
    problem: str = ""
    files: tuple[Difference, ...] = ()

    @property
    def damaged(self) -> bool:
        return bool(self.problem or self.files)


def verify(store: Store, told: Callable[[Verdict], None] = lambda _: None) -> tuple[Verdict, ...]:
    """Look at everything that is kept; `told` is called with each verdict as it comes."""
    verdicts: list[Verdict] = []
    everything = inventory(store)
    present = {kept.id for kept in everything}
    for kept in everything:
        try:
            with hold((kept.path,), used=False):
                verdict = _look(store, kept, present)
        except StoreError as error:
            if not os.path.isdir(kept.path):
                continue
            verdict = Verdict(kept, str(error))
        verdicts.append(verdict)
        told(verdict)
    return tuple(verdicts)


def _look(store: Store, kept: Kept, present: set[str]) -> Verdict:
    if kept.damage:
        return Verdict(kept, kept.damage)
    if kept.kind != BASE and kept.below not in present:
        return Verdict(kept, f"what it stands on is gone: {kept.below}")
    try:
        with open(f"{kept.path}/{NAME}", encoding="utf-8", errors="surrogateescape") as file:
            recorded = parse(file.read())
    except FileNotFoundError:
        return Verdict(kept, "it has no manifest, so nothing can be said about its files")
    except DamagedManifestError as error:
        return Verdict(kept, f"its manifest is damaged: {error}")
    return Verdict(kept, files=compare(recorded, parse(surveyed(store, kept.path))))


def repair(store: Store, verdicts: Sequence[Verdict], *, remove: Remove) -> Pruned:
    """Remove what is damaged, and what was built upon it, so that it is made again when it is next needed.

    What is in use stays; `kept` of the answer names it.
    """
    doomed = {verdict.kept.id for verdict in verdicts if verdict.damaged}
    everything = inventory(store)
    chosen = []
    # Those below come first in the inventory.
    for kept in everything:
        if kept.id in doomed or kept.below in doomed or kept.base in doomed:
            doomed.add(kept.id)
            chosen.append(kept)
    return remove_all(store, chosen[::-1], frozenset(kept.id for kept in everything), remove)
