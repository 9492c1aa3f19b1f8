"""From packages to layers without running anything: the path that every session start takes."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pkgcache import keys
from pkgcache.bases import read_base
from pkgcache.errors import StoreError
from pkgcache.records import HOST, BaseRecord
from pkgcache.runner import Endpoint
from pkgcache.specs import parse_packages
from pkgcache.store import Lease, Store, hold


@dataclass(frozen=True, slots=True)
class Step:
    """One manager's layer: canonical specs, its key ("" while the base does not exist), whether it is there."""

    manager: str
    specs: tuple[str, ...]
    key: str
    present: bool


@dataclass(frozen=True, slots=True)
class Resolution:
    """What an image needs; `base` is None when it has not been built. `steps` come lowest layer first."""

    base_name: str
    base: BaseRecord | None
    steps: tuple[Step, ...]
    platform: str

    @property
    def ready(self) -> bool:
        return self.base is not None and all(step.present for step in self.steps)


@dataclass(frozen=True, slots=True)
class Image:
    """What a session stands on.

    `base` is the directory of its root file system, None for the machine's own. `layers` are directories, topmost
    first. `environment` is what sessions need so that what is installed is found. `endpoints` are the servers of
    the package managers in it. `held` are the store's directories that a lease has to cover.
    """

    base: str | None
    layers: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    endpoints: tuple[Endpoint, ...] = ()
    base_id: str = ""
    keys: tuple[str, ...] = ()
    held: tuple[str, ...] = ()


def resolve(
    store: Store,
    base: str = HOST,
    packages: Mapping[str, Sequence[str]] | None = None,
    *,
    need_endpoints: bool = False,
    platform: str | None = None,
) -> Resolution:
    """What `packages` on `base` comes to, and what of it is in the store.

    `need_endpoints` asks that the record tells the package managers' servers: it matters for the host base alone,
    whose record is only made when somebody needs it. Raises InputError for a bad spec or base name.
    """
    raise NotImplementedError


def image(store: Store, resolution: Resolution) -> Image:
    """The image of a resolution that is ready. Raises StoreError when something was removed since."""
    raise NotImplementedError


def lease(image: Image) -> Lease:
    """Keep the image's base and layers for as long as the lease is open. Raises StoreError when one is gone."""
    return hold(image.held)
