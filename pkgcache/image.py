"""What a session stands on, and keeping it there while the session runs."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from pkgcache.runner import Endpoint
from pkgcache.store import Lease, hold


class Image(NamedTuple):
    """A root file system, ready for a session.

    `base` is the directory of its base, None for the machine's own. `layers` are directories, topmost first.
    `environment` is what sessions need so that what is installed is found. `endpoints` are the servers of the
    package managers in it. `keys` are the layers', lowest first. `held` are the directories of the store that a
    lease has to cover.
    """

    base: str | None
    layers: tuple[str, ...]
    environment: Mapping[str, str] = MappingProxyType({})
    endpoints: tuple[Endpoint, ...] = ()
    base_id: str = ""
    keys: tuple[str, ...] = ()
    held: tuple[str, ...] = ()


def lease(image: Image) -> Lease:
    """Keep the image's base and layers for as long as the lease is open. Raises StoreError when one is gone."""
    return hold(image.held)
