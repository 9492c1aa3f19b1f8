"""Running phases through the caller's runner, and telling what went wrong with one."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from importlib import import_module
from types import MappingProxyType, ModuleType
from typing import NamedTuple

from pkgcache import report
from pkgcache.buildlog import BuildLog, printable
from pkgcache.environment import ENVIRONMENT
from pkgcache.errors import BuildError, HostError, StoreError
from pkgcache.keys import digest
from pkgcache.recipe import MISSING, NOT_CLOSED, OFFLINE, SEALABLE, Phase
from pkgcache.report import MARK, Mark
from pkgcache.runner import Endpoint, Job, Mount, Result, Root, Runner
from pkgcache.specs import MANAGERS
from pkgcache.store import Store, exclusive, explain, is_full, write

_TIMED_OUT = 124
_PROBE_TIME_S = 180.0
_SHOWN = 8
BUILD_ENVIRONMENT = {"DEBIAN_FRONTEND": "noninteractive", "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C.UTF-8"}


class Event(NamedTuple):
    """Progress: what is built ("base" or a manager), the phase, a line of output or a summary, seconds so far.

    Phases: "waiting", "reuse", "download", "install", "scripts", "probe", "publish", "done", and for bases
    "bootstrap" and "configure".
    """

    manager: str
    phase: str
    text: str
    elapsed_s: float


Progress = Callable[[Event], None]


class World(NamedTuple):
    """What all phases of one build share. `deadline` is a time.monotonic() value or None. `environment` has the
    variables of the base's own, as an imported image has them. `offline`: no phase has a network, whatever the
    endpoints. `foreign`: the base's id when it was imported, so that its settings are not the user's, nor its
    package managers to be trusted with what other bases download.
    """

    store: Store
    runner: Runner
    endpoints: tuple[Endpoint, ...]
    allowed_hosts: tuple[str, ...]
    deadline: float | None
    environment: Mapping[str, str] = MappingProxyType({})
    offline: bool = False
    foreign: str = ""


def module(manager: str) -> ModuleType:
    """The module that knows a manager."""
    assert manager in MANAGERS
    return import_module(f"pkgcache.managers.{manager}")


def now() -> str:
    """The time, RFC 3339 in UTC."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def open_log(store: Store, name: str, said: Callable[[str], None]) -> BuildLog:
    """A log in the store's logs/, which stays there unless its build succeeds."""
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    try:
        return BuildLog(f"{store.path}/logs/{stamp}-{name}-{os.urandom(3).hex()}.log", said)
    except OSError as error:
        raise explain(error, store) from error


def run_phases(
    world: World,
    phases: Sequence[Phase],
    root: Root,
    log: BuildLog,
    enter: Callable[[str], None],
    *,
    apart: Root | None = None,
    scratch: str | None = None,
    in_place: bool = False,
) -> Result:
    """Run the phases that are due, up to the first that fails; the last one's result.

    `enter` is told the name of each as it begins. `apart` is the root of phases that are to see less than the others.
    What they keep goes to `scratch`, or to the base itself when `in_place`.
    """
    result = Result(0)
    for place, phase in enumerate(phases, 1):
        if (phase.online and world.offline) or (phase.asked and phase.name not in report.phases(log.marks)):
            continue
        enter(phase.name)
        stand = apart if phase.apart and apart is not None else root
        closed: list[str] = []

        def sealed(name: str = phases[place].name if phase.seals else "", closed: list[str] = closed) -> None:
            closed.append(name)
            enter(name)

        # The rest may be done in the same session where that sees no less than the rest may see.
        may_seal = phase.seals and stand == root
        result = _run_phase(world, phase, stand, log, scratch, in_place, sealed if may_seal else None)
        if may_seal and result.exit_code == NOT_CLOSED:
            # Whether it was closed after all: the rest was not done.
            result = result._replace(exit_code=0)
        elif result.exit_code != 0 or (closed and not _asked_for(phases[place], log)):
            break
    return result


def _asked_for(phase: Phase, log: BuildLog) -> bool:
    return phase.asked and phase.name in report.phases(log.marks)


def _run_phase(
    world: World,
    phase: Phase,
    root: Root,
    log: BuildLog,
    scratch: str | None,
    in_place: bool,
    sealed: Callable[[], None] | None,
) -> Result:
    log.note(f"== {phase.name} {' '.join(phase.arguments)}".rstrip())
    mounts = []
    for cache in phase.caches:
        source = world.store.downloads(cache.name, world.foreign)
        try:
            os.makedirs(source, exist_ok=True)
        except OSError as error:
            raise explain(error, world.store) from error
        mounts.append(Mount(source, cache.target, cache.writable, cache.private))
    return run_script(
        world, phase.script, root, log,
        arguments=phase.arguments, mounts=tuple(mounts),
        scratch=scratch if phase.kept and not in_place else None, in_place=in_place and phase.kept,
        sealed=sealed,
    )  # fmt: skip


def run_script(
    world: World,
    script: str,
    root: Root,
    log: BuildLog,
    *,
    arguments: Sequence[str] = (),
    mounts: tuple[Mount, ...] = (),
    scratch: str | None = None,
    in_place: bool = False,
    sealed: Callable[[], None] | None = None,
) -> Result:
    """Run a shell script of ours with its arguments as "$@".

    Where `sealed` is given, the script may have what it can write closed; that is called when it was.
    """
    remaining = None if world.deadline is None else max(1.0, world.deadline - time.monotonic())
    result = world.runner(
        Job(
            root=root,
            argv=("/bin/sh", "-c", script, "sh", *arguments),
            environment={
                **world.environment,
                **ENVIRONMENT,
                **BUILD_ENVIRONMENT,
                **({OFFLINE: "1"} if world.offline else {}),
                **({SEALABLE: "1"} if sealed else {}),
            },
            scratch=scratch,
            in_place=in_place,
            endpoints=() if world.offline else world.endpoints,
            allowed_hosts=() if world.offline else world.allowed_hosts,
            mounts=mounts,
            timeout_s=remaining,
            output=log.feed,
            sealing=partial(_seal_when_told, log, sealed) if sealed else None,
        )
    )
    log.finish_line()
    log.heard = lambda _: None
    for host in result.denied:
        log.note(f"denied by the network policy: {host}")
    return result


def _seal_when_told(log: BuildLog, sealed: Callable[[], None], close: Callable[[], None]) -> None:
    """Close what the session can write when it says so. What asks for it waits, and goes no further when it fails."""

    def hear(mark: Mark) -> None:
        if mark == ("seal",):
            log.heard = lambda _: None
            try:
                close()
            except Exception as error:
                log.note(f"the downloads can't be closed: {error}")
            else:
                sealed()

    log.heard = hear


def locked(world: World, phases: Sequence[Phase], waiting: Callable[[], None]) -> ExitStack:
    """The locks that these phases need, held until the stack is closed."""
    stack = ExitStack()
    try:
        for name in sorted({phase.lock for phase in phases if phase.lock}):
            stack.enter_context(exclusive(world.store, f"downloads-{name}", waiting))
    except BaseException:
        stack.close()
        raise
    return stack


def failure(
    world: World, manager: str, specs: Sequence[str], phase: str, result: Result, log: BuildLog
) -> BuildError | HostError | StoreError:
    """The error for a phase that ended with something other than 0."""
    program = report.missing(log.marks)
    if result.exit_code == MISSING and program is not None:
        return HostError(f"{manager}: there is no {program} in this base", _where_to_get(program))
    lines = list(log.lines)
    if is_full(world.store) or any("No space left on device" in line or "ENOSPC" in line for line in lines):
        return StoreError(
            f"the disk that holds {world.store.path} is full", "free some space, then try again"
        )
    package, why = None, f"its {phase} phase ended with exit code {result.exit_code}"
    if result.exit_code == _TIMED_OUT:
        why = "the time limit was reached"
    elif manager in MANAGERS and (told := module(manager).explain(lines)) is not None:
        package, why = _spec_of(told[0], specs), told[1]
    if world.offline and package is not None:
        why = "it is not among the kept downloads"
    if result.denied and package is None:
        why += f"; the network policy refused {', '.join(sorted(set(result.denied)))}"
    what = "the base could not be made" if manager == "base" else f"{manager} could not install"
    named = package or ", ".join(specs[:_SHOWN]) + (", …" if len(specs) > _SHOWN else "")
    hint = f"the whole log is in {log.path}"
    if world.offline:
        hint = f"run it once without --offline: what is downloaded is kept; {hint}"
    if result.denied:
        hint = f"add the refused hosts to allowed_hosts if the build needs them; {hint}"
    return BuildError(
        f"{what}{f' {named!r}' if manager != 'base' else ''}: {why}",
        hint,
        manager=manager,
        package=package,
        tail=tuple(log.tail),
        log=log.path,
    )


def _spec_of(told: str, specs: Sequence[str]) -> str:
    """The user's own spec for the name that a log told, or that name: a dependency."""
    wanted = told.lower().replace("_", "-")
    for spec in specs:
        name = spec.lower().replace("_", "-")
        if name == wanted or (
            name.startswith(wanted) and not name[len(wanted)].isalnum() and name[len(wanted)] not in "-./"
        ):
            return spec
    return printable(told)


def _where_to_get(program: str) -> str:
    packages = {"pip": "python3-pip", "apt-get": "apt", "go": "golang-go", "gem": "ruby"}
    package = packages.get(program, program)
    if program == "mmdebstrap":
        return "install it with: sudo apt-get install mmdebstrap"
    return (
        f"use the base debian, which has it, or have {package} installed: as an apt package of the environment, "
        "or on the machine for the base host"
    )


def probe(
    world: World,
    root: Root,
    managers: Sequence[str],
    log: BuildLog,
    *,
    extra: str = "",
) -> tuple[Mark, ...]:
    """Ask package managers in a root which servers they talk to: first their settings, with no network, then, with
    those servers alone, the servers themselves. `extra` is a script to run along with the first."""
    before = len(log.marks)
    modules = {manager: module(manager) for manager in managers}
    script = extra + "".join(f"(\n{known.PROBE})\n" for known in modules.values()) + "true\n"
    closed = world._replace(endpoints=(), allowed_hosts=(), deadline=time.monotonic() + _PROBE_TIME_S)
    log.note("== probe")
    run_script(closed, script, root, log)
    marks = _told(world, log.marks[before:])
    for manager, known in modules.items():
        own = [mark for mark in marks if len(mark) > 1 and mark[1] == manager]
        asked = report.follows(own)
        if asked and known.FOLLOW:
            servers = report.endpoints(own)
            there = closed._replace(endpoints=servers, deadline=time.monotonic() + _PROBE_TIME_S)
            _follow(there, manager, asked, root, log)
    return _told(world, log.marks[before:])


def _follow(world: World, manager: str, asked: Sequence[str], root: Root, log: BuildLog) -> None:
    """Ask a manager's servers for more of them. What they answered is kept for builds without the network."""
    kept = f"{world.store.downloads('servers')}/{digest((manager, *asked))}"
    if world.offline:
        try:
            with open(kept, "rb") as file:
                log.feed(file.read())
        except FileNotFoundError:
            raise StoreError(
                f"which servers {manager} uses was never asked, and asking needs the network",
                "run it once without --offline",
            ) from None
        return
    before = len(log.marks)
    run_script(world, module(manager).FOLLOW, root, log, arguments=asked)
    found = "".join(f"{MARK}{chr(9).join(mark)}\n" for mark in log.marks[before:])
    # What an image from elsewhere says is nothing for other bases to go by.
    if found and not world.foreign:
        try:
            os.makedirs(os.path.dirname(kept), exist_ok=True)
        except OSError as error:
            raise explain(error, world.store) from error
        write(world.store, kept, found)


def _told(world: World, marks: Sequence[Mark]) -> tuple[Mark, ...]:
    """The marks; those of an image from elsewhere say so, for its settings are not what the user configured."""
    return tuple(report.of_an_image(mark) if world.foreign else mark for mark in marks)
