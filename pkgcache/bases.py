"""Bases: the machine itself, or a Debian of the user's own."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

from pkgcache.records import BaseRecord
from pkgcache.runner import Remove, Runner
from pkgcache.store import Store

SUITE = "trixie"
PROFILES = ("runtimes", "minimal")
KNOWN = {"debian": "runtimes", "debian-minimal": "minimal"}
"""Names of bases that are built when a session first needs them, and their profiles."""


@dataclass(frozen=True, slots=True)
class BaseEntry:
    """A line of `base list`: `current` tells whether the name still means this build, `size` is in bytes (None: not asked)."""

    record: BaseRecord
    path: str | None
    current: bool
    in_use: bool
    size: int | None


def read_base(store: Store, name: str) -> BaseRecord | None:
    """The record of the base that `name` (or an id) means now, None when there is none."""
    raise NotImplementedError


def build_base(
    store: Store,
    name: str,
    *,
    runner: Runner,
    remove: Remove,
    suite: str = SUITE,
    profile: str | None = None,
    mirror: str | None = None,
    rebuild: bool = False,
    progress: Callable[..., None] = lambda _: None,
    timeout_s: float | None = None,
) -> BaseRecord:
    """Make the base `name` (or return it when it is there and not `rebuild`)."""
    raise NotImplementedError


def list_bases(store: Store) -> tuple[BaseEntry, ...]:
    """Every base in the store, the current ones first."""
    raise NotImplementedError


def remove_base(store: Store, name: str, *, remove: Remove) -> tuple[str, ...]:
    """Remove a base by name or id together with the layers that stand on it; returns what was removed."""
    raise NotImplementedError
