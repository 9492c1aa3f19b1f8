"""What starting costs: the whole wall time of a process that starts a session for ``true``, in milliseconds."""

import os
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from benchmark.containers import engines
from benchmark.processes import output, wall_ms
from benchmark.rounds import Contender, Failed

OURS = "sandboxsh"
BASE = "sandboxsh, debian"
LAYERED = "sandboxsh, debian and layers"
PODMAN = "podman, rootless"


@contextmanager
def contenders(
    sandboxsh: Sequence[str], environment_file: str, environment: Mapping[str, str], *, full: bool
) -> Iterator[list[Contender]]:
    """``sandboxsh``: the command with its common options. ``full``: build the environment where it is missing.

    Raises Failed when sandboxsh does not work at all, or the environment can't be built.
    """
    output((*sandboxsh, "--", "true"), environment)
    layered = _layered(sandboxsh, environment_file, environment, full=full)
    with engines(environment) as containers:
        yield [
            _of(OURS, (*sandboxsh, "--", "true"), environment, ours=True),
            *layered,
            _of("python3 -I -S -c pass", (_interpreter(), "-I", "-S", "-c", "pass"), environment),
            _of("bwrap", ("bwrap", "--unshare-all", "--ro-bind", "/", "/", "true"), environment),
            _of("unshare", ("unshare", "-Urmnpf", "--mount-proc", "true"), environment),
            *containers,
            _of("srt", ("srt", "true"), environment),
        ]


def _of(name: str, argv: tuple[str, ...], environment: Mapping[str, str], *, ours: bool = False) -> Contender:
    if shutil.which(argv[0]) is None:
        return Contender((name,), None, "not installed", ours)
    return Contender((name,), lambda: (wall_ms(argv, environment),), ours=ours)


def _interpreter() -> str:
    return os.path.realpath(sys.executable)


def _layered(
    sandboxsh: Sequence[str], file: str, environment: Mapping[str, str], *, full: bool
) -> list[Contender]:
    base = (*sandboxsh, "--base", "debian", "--", "true")
    layers = (*sandboxsh, "--env", file, "--", "true")
    if full:
        output(layers, environment, timeout_s=1800)
    elif not _is_built(sandboxsh, file):
        why = "not built in this data directory; --full builds it"
        return [Contender((name,), None, why) for name in (BASE, LAYERED)]
    return [_of(BASE, base, environment, ours=True), _of(LAYERED, layers, environment, ours=True)]


def _is_built(sandboxsh: Sequence[str], file: str) -> bool:
    from sandbox import environments, idmap, images, paths

    given = sandboxsh[sandboxsh.index("--data") + 1] if "--data" in sandboxsh else None
    data = paths.data_directory(given, os.environ, os.geteuid())
    found = environments.find(file, data)
    resolution = images.resolve(
        data,
        idmap.choose(idmap.read_host_ids(), None),
        images.DEBIAN,
        found.packages.wanted(),
        need_endpoints=found.networking.allow_package_managers,
    )
    return resolution.ready


def check(sandboxsh: Sequence[str]) -> None:
    """Raises Failed when the command is not there."""
    if shutil.which(sandboxsh[0]) is None:
        raise Failed(f"{sandboxsh[0]} is not there: run scripts/setup")
