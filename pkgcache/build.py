"""Making what an image lacks: the base, then each layer on the ones before, in sessions of the caller's runner."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack

from pkgcache import lock as locks
from pkgcache.bases import list_names, root_of
from pkgcache.errors import BuildError, StoreError
from pkgcache.image import Image
from pkgcache.layers import Maker, Order, Stand, first_key, made, on, speaker
from pkgcache.lock import Change, Lock, LockedLayer
from pkgcache.machine import ground
from pkgcache.memo import remember
from pkgcache.names import HOST
from pkgcache.phases import Progress, module
from pkgcache.records import BaseRecord, LayerRecord, Locked
from pkgcache.resolve import Resolution, Step, image, read_layer, resolve
from pkgcache.runner import Remove, Root, Runner
from pkgcache.store import Store, choose, create, exclusive, hold, publish, sweep

_SHOWN = 8


def build(
    store: Store,
    base: str,
    packages: Mapping[str, Sequence[str]],
    *,
    runner: Runner,
    remove: Remove,
    allowed_hosts: Sequence[str] = (),
    progress: Progress = lambda _: None,
    timeout_s: float | None = None,
    need_endpoints: bool = False,
    refresh: bool = False,
    lock: Lock | None = None,
    offline: bool = False,
) -> Image:
    """The image of `packages` on `base`, with everything made that is missing.

    A base that is not there is made when it is one of the known names. A layer's network is the package managers'
    servers and `allowed_hosts`. `timeout_s` limits the base and each layer. One process builds a layer, whoever
    else needs it waits. Raises InputError, HostError, StoreError, BuildError, and what the runner raises; then
    nothing half-made was published, and what was finished stays.

    `refresh`: specs are resolved again; where that comes to other packages, a new layer is used from now on.
    `lock`: each layer holds what the lock says, and such layers are used from now on.
    `offline`: nothing has a network; what is missing is made from kept downloads, a base not at all.
    """
    resolution = resolve(store, base, packages, need_endpoints=need_endpoints)
    if resolution.ready and not refresh and lock is None:
        found = image(store, resolution)
        remember(store, base, packages, need_endpoints, found)
        return found
    if lock is not None:
        locks.select(
            lock, base, resolution.platform, [(step.manager, step.specs) for step in resolution.steps]
        )
    create(store)
    sweep(store, remove)
    if resolution.base is None:
        if offline:
            raise StoreError(
                f"the base {base} is not there yet, and making it needs the network",
                "run it without --offline once",
            )
        if base == HOST:
            from pkgcache.host import build_host

            build_host(store, runner=runner, remove=remove, progress=progress)
        else:
            from pkgcache.debian import build_base

            build_base(store, base, runner=runner, remove=remove, progress=progress, timeout_s=timeout_s)
        resolution = resolve(store, base, packages, need_endpoints=need_endpoints)
    maker = Maker(
        store,
        runner,
        remove,
        tuple(allowed_hosts),
        progress,
        timeout_s,
        resolution.platform,
        refresh,
        lock,
        offline,
    )
    stand = _ground(store, resolution.base)
    with ExitStack() as leases:
        # What is built upon must not be removed meanwhile.
        leases.enter_context(hold((store.base(stand.base.id),)))
        steps = []
        for step in resolution.steps:
            layer = _one_layer(maker, stand, step)
            leases.enter_context(hold((store.layer(layer.key),)))
            stand = on(stand, store, layer)
            steps.append(step._replace(key=layer.key, present=True))
        built = image(store, resolution._replace(steps=tuple(steps)))
        # Another process may have chosen other layers for these inputs meanwhile.
        if resolve(store, base, packages, need_endpoints=need_endpoints).steps == tuple(steps):
            remember(store, base, packages, need_endpoints, built)
        return built


def outdated(
    store: Store,
    base: str,
    packages: Mapping[str, Sequence[str]],
    *,
    runner: Runner,
    remove: Remove,
    allowed_hosts: Sequence[str] = (),
    progress: Progress = lambda _: None,
    timeout_s: float | None = None,
) -> tuple[tuple[str, tuple[Change, ...]], ...]:
    """For each manager what has moved since its layer was built. Each layer is made again and thrown away: what a
    manager would install, it tells reliably only by doing so. Raises as `build` does, StoreError for what is not
    built."""
    resolution = resolve(store, base, packages)
    if not resolution.ready:
        raise StoreError("there is nothing to compare with: not all layers are built", "sandboxctl env build")
    create(store)
    sweep(store, remove)
    maker = Maker(store, runner, remove, tuple(allowed_hosts), progress, timeout_s, resolution.platform)
    stand = _ground(store, resolution.base)
    found = []
    with hold((store.base(stand.base.id), *(store.layer(step.key) for step in resolution.steps)), used=False):
        for step in resolution.steps:
            here = read_layer(store, step.key)
            order = Order(step.manager, step.specs, step.specs)
            with made(maker, stand, order, speaker(maker, step.manager)) as (_, record):
                found.append((step.manager, locks.changes(here.packages, record.packages)))
            stand = on(stand, store, here)
    return tuple(found)


def read_lock(store: Store, resolution: Resolution) -> Lock:
    """The lock of what is there. Raises StoreError while something is not built."""
    if resolution.base is None or not resolution.ready:
        raise StoreError("there is nothing to lock: not all layers are built", "sandboxctl env build")
    layers = [read_layer(store, step.key) for step in resolution.steps]
    return locks.lock(resolution.base, resolution.platform, layers)


def _ground(store: Store, record: BaseRecord | None) -> Stand:
    """What the lowest layer is built on."""
    assert record is not None
    trees = (ground(store, record.id),) if record.name == HOST else ()
    root = Root(root_of(store, record), trees)
    return Stand(root, root, record, "", record.endpoints)


def _one_layer(maker: Maker, stand: Stand, step: Step) -> LayerRecord:
    """The layer of a step, made unless the right one is there already."""
    store = maker.store
    say = speaker(maker, step.manager)
    first = first_key(maker, stand, step.manager, step.specs)
    with exclusive(store, first, lambda: say("waiting", "another process is building this layer")):
        key = store.chosen(first)
        here = read_layer(store, key) if os.path.isdir(store.layer(key)) else None
        if maker.lock is not None:
            (wanted,) = (layer for layer in maker.lock.layers if layer.manager == step.manager)
            return _locked_layer(maker, stand, step, wanted, first)
        if here is not None and not maker.refresh:
            say("reuse", ", ".join(step.specs))
            return here
        resolution = "" if here is None else f"refreshed {os.urandom(16).hex()}"
        order = Order(step.manager, step.specs, step.specs, resolution)
        with made(maker, stand, order, say) as (place, record):
            if here is not None and not locks.changes(here.packages, record.packages):
                say("reuse", f"nothing has moved: {', '.join(step.specs)}")
                return here
            # What was resolved to the same earlier, and is still there, need not be there twice.
            same = None if here is None else _fitting(maker, stand, step, record.packages, key)
            if same is None:
                publish(store, place, store.layer(record.key))
            else:
                record = same
        if here is not None:
            choose(store, first, record.key)
    say("done", f"{len(record.packages)} packages for {', '.join(step.specs)}")
    return record


def _locked_layer(maker: Maker, stand: Stand, step: Step, wanted: LockedLayer, first: str) -> LayerRecord:
    """The layer that holds what the lock says: one that is there, or a new one."""
    store = maker.store
    say = speaker(maker, step.manager)
    found = _fitting(maker, stand, step, wanted.packages, store.chosen(first))
    if found is None:
        again = getattr(module(step.manager), "again", _as_asked)
        order = Order(step.manager, step.specs, again(step.specs, wanted.packages), locks.name_of(wanted))
        with made(maker, stand, order, say, lambda record, log: _check(wanted, record, log)) as (
            place,
            found,
        ):
            publish(store, place, store.layer(found.key))
        say("done", f"{len(found.packages)} packages as locked")
    else:
        say("reuse", ", ".join(step.specs))
    if store.chosen(first) != found.key:
        choose(store, first, found.key)
    return found


def _as_asked(specs: tuple[str, ...], _packages: Sequence[Locked]) -> tuple[str, ...]:
    """For managers that can't be told more than the specs: what comes out is compared all the same."""
    return specs


def _fitting(
    maker: Maker, stand: Stand, step: Step, packages: Sequence[Locked], current: str
) -> LayerRecord | None:
    """A layer of these inputs that holds these packages; the `current` one where that does."""
    inputs = (step.manager, step.specs, stand.parent, stand.base.id, maker.platform)
    keys = list_names(f"{maker.store.path}/layers")
    for key in sorted(keys, key=lambda key: key != current):
        try:
            record = read_layer(maker.store, key)
        except StoreError:
            continue
        if record[1:6] == inputs and not locks.changes(packages, record.packages):
            return record
    return None


def _check(wanted: LockedLayer, record: LayerRecord, log: str) -> None:
    found = locks.changes(wanted.packages, record.packages)
    if found:
        told = "; ".join(locks.sentence(change) for change in found[:_SHOWN])
        more = f"; and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        raise BuildError(
            f"{wanted.manager} could not install what the lock says: {told}{more}",
            f"the servers may no longer have it, or the base has changed; the whole log is in {log}",
            manager=wanted.manager,
            package=found[0].name,
            log=log,
        )
