"""From packages to layers without running anything: the path that every session start takes."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from pkgcache import machine, names
from pkgcache.bases import read_base, root_of
from pkgcache.environment import ENVIRONMENT
from pkgcache.errors import InputError, StoreError
from pkgcache.image import Image, lease
from pkgcache.keys import chain
from pkgcache.names import HOST, KNOWN
from pkgcache.records import BaseRecord, LayerRecord, layer_from_json
from pkgcache.specs import parse_packages
from pkgcache.store import Store, explain

__all__ = ["Image", "Resolution", "Step", "image", "lease", "read_layer", "resolve"]


class Step(NamedTuple):
    """One manager's layer: canonical specs, its key ("" while the base isn't there), whether it is there."""

    manager: str
    specs: tuple[str, ...]
    key: str
    present: bool


class Resolution(NamedTuple):
    """What an image needs; `base` is None while it is not there. `steps` come lowest layer first."""

    base_name: str
    base: BaseRecord | None
    steps: tuple[Step, ...]
    platform: str

    @property
    def ready(self) -> bool:
        """Whether nothing has to be built."""
        return self.base is not None and all(step.present for step in self.steps)


def resolve(
    store: Store,
    base: str = HOST,
    packages: Mapping[str, Sequence[str]] | None = None,
    *,
    need_endpoints: bool = False,
    platform: str | None = None,
) -> Resolution:
    """What `packages` on `base` comes to, and what of it is in the store.

    `need_endpoints` asks for a record that tells the package managers' servers. It matters for the machine itself,
    which is looked at only when somebody needs that. Raises InputError for a bad spec or an unknown base.
    """
    if platform is None:
        platform = names.platform()
    wanted = parse_packages(packages or {})
    _check_possible(base, wanted)
    record = _read_host(store, bool(wanted) or need_endpoints) if base == HOST else read_base(store, base)
    if record is None:
        if base != HOST and base not in KNOWN:
            raise InputError(
                f"there is no base '{base}'",
                f"make it with sandboxctl base build or base import, or use {', '.join(KNOWN)}",
            )
        return Resolution(
            base, None, tuple(Step(manager, specs, "", False) for manager, specs in wanted), platform
        )
    layers = chain(record.id, wanted, platform, store.chosen)
    return Resolution(
        base,
        record,
        tuple(
            Step(manager, specs, key, os.path.isdir(store.layer(key)))
            for (manager, specs), (_, key) in zip(wanted, layers, strict=True)
        ),
        platform,
    )


def _check_possible(base: str, wanted: Sequence[tuple[str, tuple[str, ...]]]) -> None:
    for manager, _ in wanted:
        if manager == "apt" and base == HOST:
            raise InputError(
                "packages.apt: apt packages can't be installed on the base 'host': its files are the machine's own",
                "use the base debian",
            )


def _read_host(store: Store, looked_at: bool) -> BaseRecord | None:
    identity = machine.identity()
    return read_base(store, identity) if looked_at else BaseRecord(identity, HOST)


def image(store: Store, resolution: Resolution) -> Image:
    """The image of a resolution that is ready. Raises StoreError when something was removed since."""
    base = resolution.base
    assert base is not None
    layers = [store.layer(step.key) for step in resolution.steps]
    records = [read_layer(store, step.key) for step in resolution.steps]
    trees = [f"{layer}/upper" for layer in reversed(layers)]
    held = list(layers)
    if base.name != HOST:
        held.insert(0, store.base(base.id))
    elif layers:
        trees.append(machine.ground(store, base.id))
        held.insert(0, store.base(base.id))
    return Image(
        root_of(store, base),
        tuple(trees),
        {**dict(base.environment), **ENVIRONMENT},
        (*base.endpoints, *(endpoint for record in records for endpoint in record.endpoints)),
        base.id,
        tuple(step.key for step in resolution.steps),
        tuple(held),
    )


def read_layer(store: Store, key: str) -> LayerRecord:
    """The record of a layer. Raises StoreError when it is gone or damaged."""
    path = f"{store.layer(key)}/layer.json"
    try:
        with open(path, "rb") as file:
            return layer_from_json(file.read(), path)
    except FileNotFoundError:
        raise StoreError(
            f"the layer {key[:12]} was removed", "run the same again: it is built anew"
        ) from None
    except OSError as error:
        raise explain(error, store) from error
