"""Making what an image lacks: the base, then each layer on the ones before, in sessions of the caller's runner."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import NamedTuple

from pkgcache import report
from pkgcache.bases import root_of
from pkgcache.buildlog import BuildLog
from pkgcache.debian import build_base
from pkgcache.host import build_host
from pkgcache.image import Image
from pkgcache.machine import ground
from pkgcache.memo import remember
from pkgcache.names import HOST
from pkgcache.phases import (
    Event,
    Progress,
    World,
    failure,
    locked,
    module,
    now,
    open_log,
    probe,
    run_phase,
)
from pkgcache.records import BaseRecord, LayerRecord, to_json
from pkgcache.resolve import Step, image, read_layer, resolve
from pkgcache.runner import Endpoint, Remove, Root, Runner
from pkgcache.specs import MANAGERS
from pkgcache.store import Store, create, exclusive, explain, hold, publish, sweep, workplace, write


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
) -> Image:
    """The image of `packages` on `base`, with everything made that is missing.

    A base that is not there is made when it is one of the known names. A layer's network is the package managers'
    servers and `allowed_hosts`. `timeout_s` limits the base and each layer. One process builds a layer, whoever
    else needs it waits. Raises InputError, HostError, StoreError, BuildError, and what the runner raises; then
    nothing half-made was published, and what was finished stays.
    """
    resolution = resolve(store, base, packages, need_endpoints=need_endpoints)
    if resolution.ready:
        found = image(store, resolution)
        remember(store, base, packages, need_endpoints, found)
        return found
    create(store)
    sweep(store, remove)
    if resolution.base is None:
        if base == HOST:
            build_host(store, runner=runner, remove=remove, progress=progress)
        else:
            build_base(store, base, runner=runner, remove=remove, progress=progress, timeout_s=timeout_s)
        resolution = resolve(store, base, packages, need_endpoints=need_endpoints)
    record = resolution.base
    assert record is not None
    maker = _Maker(store, runner, remove, tuple(allowed_hosts), progress, timeout_s, resolution.platform)
    trees = (ground(store, record.id),) if record.name == HOST else ()
    stand = _Stand(Root(root_of(store, record), trees), record, "", record.endpoints)
    with ExitStack() as leases:
        # What is built upon must not be removed meanwhile.
        leases.enter_context(hold((store.base(record.id),)))
        for step in resolution.steps:
            layer = _one_layer(maker, stand, step)
            leases.enter_context(hold((store.layer(step.key),)))
            stand = _Stand(
                Root(stand.root.base, (f"{store.layer(step.key)}/upper", *stand.root.layers)),
                record,
                step.key,
                (*stand.endpoints, *layer.endpoints),
            )
        steps = tuple(step._replace(present=True) for step in resolution.steps)
        built = image(store, resolution._replace(steps=steps))
        remember(store, base, packages, need_endpoints, built)
        return built


class _Maker(NamedTuple):
    """What is the same for all layers of one build."""

    store: Store
    runner: Runner
    remove: Remove
    allowed_hosts: tuple[str, ...]
    progress: Progress
    timeout_s: float | None
    platform: str


class _Stand(NamedTuple):
    """What the next layer is built on. `parent` is the key of the layer below, "" for none."""

    root: Root
    base: BaseRecord
    parent: str
    endpoints: tuple[Endpoint, ...]


def _one_layer(maker: _Maker, stand: _Stand, step: Step) -> LayerRecord:
    """The layer of a step, made unless it is there already."""
    begun = time.monotonic()

    def say(phase: str, text: str) -> None:
        maker.progress(Event(step.manager, phase, text, time.monotonic() - begun))

    store = maker.store
    named = ", ".join(step.specs)
    with exclusive(store, step.key, lambda: say("waiting", "another process is building this layer")):
        if os.path.isdir(store.layer(step.key)):
            say("reuse", named)
            return read_layer(store, step.key)
        deadline = None if maker.timeout_s is None else begun + maker.timeout_s
        world = World(store, maker.runner, stand.endpoints, maker.allowed_hosts, deadline)
        phase = ["begin"]
        with (
            workplace(store, maker.remove) as place,
            open_log(store, step.manager, lambda text: say(phase[0], text)) as log,
        ):
            _install(world, stand, step, place, log, phase)
            made = f"{place}/made"
            record = LayerRecord(
                step.key,
                step.manager,
                step.specs,
                stand.parent,
                stand.base.id,
                maker.platform,
                now(),
                round(time.monotonic() - begun, 3),
                report.packages(log.marks),
                _newcomers(world, stand, step, f"{place}/scratch", log),
            )
            try:
                os.mkdir(made)
                os.rename(f"{place}/scratch/upper", f"{made}/upper")
                log.save(f"{made}/log")
            except OSError as error:
                raise explain(error, store) from error
            write(store, f"{made}/layer.json", to_json(record))
            phase[0] = "publish"
            publish(store, made, store.layer(step.key))
    say("done", f"{len(record.packages)} packages for {named}")
    return record


def _install(world: World, stand: _Stand, step: Step, place: str, log: BuildLog, phase: list[str]) -> None:
    """Run the manager's phases; the changes are in `<place>/scratch/upper`. `phase` is kept at the current one."""
    phases = module(step.manager).recipe(step.specs, stand.base.id)
    scratch = f"{place}/scratch"
    try:
        os.mkdir(scratch)
    except OSError as error:
        raise explain(error, world.store) from error
    with locked(world, phases, lambda: log.note(f"waiting for another build that uses {step.manager}")):
        for one in phases:
            phase[0] = one.name
            result = run_phase(world, one, stand.root, log, scratch=scratch)
            if result.exit_code != 0:
                raise failure(world, step.manager, step.specs, one.name, result, log)


def _newcomers(world: World, stand: _Stand, step: Step, scratch: str, log: BuildLog) -> tuple[Endpoint, ...]:
    """The servers of managers that an apt layer brought.

    Asked of apt's layers alone: the settings that other managers' packages could leave behind must not open the
    wall.
    """
    known = {endpoint.manager for endpoint in stand.endpoints}
    absent = [manager for manager in MANAGERS if manager not in known]
    if step.manager != "apt" or not absent:
        return ()
    root = Root(stand.root.base, (f"{scratch}/upper", *stand.root.layers))
    return report.endpoints(probe(world, root, absent, log))
