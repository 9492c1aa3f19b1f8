"""Why a layer is not there: what differs between what was asked for and the nearest layer that is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from pkgcache.records import LayerRecord


class Difference(NamedTuple):
    """One input of a layer's key: what was asked for, and what the nearest layer has."""

    input: str
    wanted: str
    there: str


class Finding(NamedTuple):
    """One layer that an environment needs. `nearest` is the key of the layer that comes closest, "" for none.

    `differs` is empty when it is there (`hit`). Without `nearest` and `differs`, no layer of that manager is there.
    """

    manager: str
    specs: tuple[str, ...]
    key: str
    hit: bool
    nearest: str = ""
    differs: tuple[Difference, ...] = ()


class Wanted(NamedTuple):
    """A layer as it was asked for; `key` and `base` are "" while the base is not there."""

    manager: str
    specs: tuple[str, ...]
    key: str
    parent: str
    base: str
    platform: str
    present: bool


def explain(wanted: Iterable[Wanted], there: Sequence[LayerRecord]) -> tuple[Finding, ...]:
    """A finding for each layer, in their order."""
    return tuple(_explain(layer, there) for layer in wanted)


def _explain(wanted: Wanted, there: Sequence[LayerRecord]) -> Finding:
    if wanted.present:
        return Finding(wanted.manager, wanted.specs, wanted.key, True)
    candidates = [record for record in there if record.manager == wanted.manager]
    if not candidates:
        return Finding(wanted.manager, wanted.specs, wanted.key, False)
    nearest = min(
        candidates, key=lambda record: (*_distance(wanted, record), _newest_first(record), record.key)
    )
    return Finding(
        wanted.manager, wanted.specs, wanted.key, False, nearest.key, tuple(_differences(wanted, nearest))
    )


def _distance(wanted: Wanted, record: LayerRecord) -> tuple[int, int]:
    """How many inputs differ, then how many specs."""
    return len(_differences(wanted, record)), len({*wanted.specs} ^ {*record.specs})


def _newest_first(record: LayerRecord) -> tuple[int, ...]:
    return tuple(-ord(character) for character in record.created)


def _differences(wanted: Wanted, record: LayerRecord) -> list[Difference]:
    found = []
    if wanted.base != record.base:
        found.append(Difference("base", wanted.base, record.base))
    # Another base means another layer below, which needs no saying.
    elif wanted.parent != record.parent:
        found.append(Difference("below", wanted.parent, record.parent))
    if wanted.platform != record.platform:
        found.append(Difference("platform", wanted.platform, record.platform))
    if wanted.specs != record.specs:
        more, less = sorted({*wanted.specs} - {*record.specs}), sorted({*record.specs} - {*wanted.specs})
        found.append(Difference("specs", ", ".join(more), ", ".join(less)))
    # The key covers one thing more than the record tells: how layers are built and named.
    return found or [Difference("format", "this version's", "another version's")]


def sentence(difference: Difference) -> str:
    """The difference for people."""
    wanted, there = difference.wanted, difference.there
    if difference.input == "specs":
        return "; ".join(f"it {word} {specs}" for word, specs in (("lacks", wanted), ("has", there)) if specs)
    if difference.input == "below":
        return (
            f"it stands on {_short(there) or 'the base alone'}, not on {_short(wanted) or 'the base alone'}"
        )
    if difference.input == "base":
        return (
            f"its base is {there}, not {wanted}" if wanted else f"its base, {there}, is not the current one"
        )
    return f"its {difference.input} is {there}, not {wanted}"


def _short(key: str) -> str:
    return key[:12]
