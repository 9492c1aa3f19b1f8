"""Making one layer in a place of its own, up to the moment before it is published."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple

from pkgcache import report
from pkgcache.buildlog import BuildLog
from pkgcache.keys import layer_key
from pkgcache.lock import Lock
from pkgcache.phases import Event, Progress, World, failure, locked, module, now, open_log, probe, run_phases
from pkgcache.records import BaseRecord, LayerRecord, to_json
from pkgcache.runner import Endpoint, Remove, Root, Runner
from pkgcache.specs import MANAGERS
from pkgcache.store import Store, explain, workplace, write

Say = Callable[[str, str], None]


class Maker(NamedTuple):
    """What is the same for all layers of one build. `refresh`: what is there is resolved again; `lock`: what has to
    come out; `offline`: only what is kept of earlier downloads is used."""

    store: Store
    runner: Runner
    remove: Remove
    allowed_hosts: tuple[str, ...]
    progress: Progress
    timeout_s: float | None
    platform: str
    refresh: bool = False
    lock: Lock | None = None
    offline: bool = False


class Stand(NamedTuple):
    """What the next layer is built on. `apart` is as much of `root` as holds no code of packages but apt's; `parent`
    is the key of the layer below, "" for none."""

    root: Root
    apart: Root
    base: BaseRecord
    parent: str
    endpoints: tuple[Endpoint, ...]


class Order(NamedTuple):
    """A layer to be made: what was asked for, and what the manager is told to install for that. `resolution` is part
    of its key."""

    manager: str
    specs: tuple[str, ...]
    installed: tuple[str, ...]
    resolution: str = ""


def first_key(maker: Maker, stand: Stand, manager: str, specs: tuple[str, ...]) -> str:
    """The key that a layer's inputs come to."""
    return layer_key(stand.parent, stand.base.id, manager, specs, maker.platform)


def on(stand: Stand, store: Store, layer: LayerRecord) -> Stand:
    """What the layer above this one is built on."""
    root = Root(stand.root.base, (f"{store.layer(layer.key)}/upper", *stand.root.layers))
    apart = root if layer.manager == "apt" else stand.apart
    return Stand(root, apart, stand.base, layer.key, (*stand.endpoints, *layer.endpoints))


def speaker(maker: Maker, manager: str) -> Say:
    """What tells progress of one layer: a phase and a text."""
    begun = time.monotonic()
    return lambda phase, text: maker.progress(Event(manager, phase, text, time.monotonic() - begun))


@contextmanager
def made(
    maker: Maker,
    stand: Stand,
    order: Order,
    say: Say,
    check: Callable[[LayerRecord, str], None] = lambda _record, _log: None,
) -> Iterator[tuple[str, LayerRecord]]:
    """The directory of a layer that is ready to be published, and its record; it is gone at the end of the block.

    `check` is called with the record and the path of the log, and may refuse the layer by raising; the log is then
    kept.
    """
    begun = time.monotonic()
    store = maker.store
    deadline = None if maker.timeout_s is None else begun + maker.timeout_s
    world = World(
        store, maker.runner, stand.endpoints, maker.allowed_hosts, deadline,
        dict(stand.base.environment), maker.offline, stand.base.id if stand.base.foreign else "",
    )  # fmt: skip
    phase = ["begin"]
    with (
        workplace(store, maker.remove) as place,
        open_log(store, order.manager, lambda text: say(phase[0], text)) as log,
    ):
        _install(world, stand, order, place, log, phase)
        record = LayerRecord(
            layer_key(
                stand.parent, stand.base.id, order.manager, order.specs, maker.platform, order.resolution
            ),
            order.manager,
            order.specs,
            stand.parent,
            stand.base.id,
            maker.platform,
            now(),
            round(time.monotonic() - begun, 3),
            report.packages(log.marks),
            _newcomers(world, stand, order, f"{place}/scratch", log),
            order.resolution,
        )
        check(record, log.path)
        finished = f"{place}/made"
        try:
            os.mkdir(finished)
            os.rename(f"{place}/scratch/upper", f"{finished}/upper")
            log.save(f"{finished}/log")
        except OSError as error:
            raise explain(error, store) from error
        write(store, f"{finished}/layer.json", to_json(record))
        phase[0] = "publish"
        yield finished, record


def _install(world: World, stand: Stand, order: Order, place: str, log: BuildLog, phase: list[str]) -> None:
    """Run the manager's phases; the changes are in `<place>/scratch/upper`. `phase` is kept at the current one."""
    phases = module(order.manager).recipe(order.installed, stand.base.id)
    scratch = f"{place}/scratch"
    try:
        os.mkdir(scratch)
    except OSError as error:
        raise explain(error, world.store) from error
    with locked(world, phases, lambda: log.note(f"waiting for another build that uses {order.manager}")):
        result = run_phases(
            world, phases, stand.root, log, partial(phase.__setitem__, 0), apart=stand.apart, scratch=scratch
        )
        if result.exit_code != 0:
            raise failure(world, order.manager, order.specs, phase[0], result, log)


def _newcomers(world: World, stand: Stand, order: Order, scratch: str, log: BuildLog) -> tuple[Endpoint, ...]:
    """The servers of managers that an apt layer brought.

    Asked of apt's layers alone: the settings that other managers' packages could leave behind must not open the
    wall.
    """
    known = {endpoint.manager for endpoint in stand.endpoints}
    absent = [manager for manager in MANAGERS if manager not in known]
    if order.manager != "apt" or not absent:
        return ()
    root = Root(stand.root.base, (f"{scratch}/upper", *stand.root.layers))
    return report.endpoints(probe(world, root, absent, log))
