"""The names of layers: a digest over everything that decides what a layer holds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from hashlib import sha256

FORMAT = "1"
"""Part of every key. A change to how layers are built or named needs a new one."""


def digest(fields: Iterable[str]) -> str:
    """SHA-256, in hex, over the fields, each preceded by its length so that no two lists read alike."""
    state = sha256()
    for text in fields:
        data = text.encode("utf-8", "surrogateescape")
        state.update(b"%d:" % len(data))
        state.update(data)
    return state.hexdigest()


def layer_key(
    parent: str, base: str, manager: str, specs: Sequence[str], platform: str, resolution: str = ""
) -> str:
    """The key of one manager's layer.

    `parent` is the key of the layer below, or "" when the base is; `base` is the base's digest; `specs` are
    canonical (their order does not count, repetitions fold); `platform` is like "linux/x86_64". `resolution` tells
    layers apart whose specs were resolved anew or from a lock; "" is the first that was built.
    """
    form = f"{FORMAT} {resolution}" if resolution else FORMAT
    return digest((form, parent, base, platform, manager, *sorted(set(specs))))


def chain(
    base: str,
    packages: Iterable[tuple[str, Sequence[str]]],
    platform: str,
    chosen: Callable[[str], str] = lambda key: key,
) -> tuple[tuple[str, str], ...]:
    """(manager, key) for each manager of `packages`, lowest layer first; each key covers those below it.

    `chosen` says which of the layers with the same inputs is used, by the key of the first.
    """
    parent = ""
    keys = []
    for manager, specs in packages:
        parent = chosen(layer_key(parent, base, manager, specs, platform))
        keys.append((manager, parent))
    return tuple(keys)
