"""The container engines among the peers: an image with nothing but ``true``, made here and gone afterwards."""

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from benchmark.processes import output, wall_ms
from benchmark.rounds import Contender, Failed

_IMAGE = "localhost/sandboxsh-bench:1"
# Where podman's defaults don't work, less is asked of it or another runtime, which is in its favour.
_ULIMITS = ("--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1000:1000")
_WAYS: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = (
    ((), ()),
    ((), ("--cgroups", "disabled", *_ULIMITS)),
    (("--runtime", "runc"), _ULIMITS),
)


@contextmanager
def engines(environment: Mapping[str, str]) -> Iterator[list[Contender]]:
    """The engines that are here; what they were given is taken away at the end."""
    place = tempfile.mkdtemp(prefix="sandboxsh-bench-", dir="/var/tmp")
    try:
        try:
            archive = _archive(place, environment)
        except Failed as failure:
            why = f"no image could be made: {failure}"
            yield [Contender((name,), None, why) for name in (_podman_name(), "docker")]
            return
        with _podman(place, archive, environment) as podman, _docker(archive, environment) as docker:
            yield [podman, docker]
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _archive(place: str, environment: Mapping[str, str]) -> str:
    """A tar of ``true`` and the libraries that it needs."""
    program = shutil.which("true") or "/bin/true"
    root = f"{place}/files"
    try:
        libraries = re.findall(r"(/\S+) \(0x", output(("ldd", program), environment))
    except Failed:
        libraries = []  # it is linked statically, or there is no ldd; then the engine tells
    for source, target in ((program, "/bin/true"), *((each, each) for each in libraries)):
        os.makedirs(os.path.dirname(root + target), exist_ok=True)
        shutil.copy(source, root + target)
    archive = f"{place}/image.tar"
    output(("tar", "-C", root, "-cf", archive, "."), environment)
    return archive


def _podman_name() -> str:
    return "podman, rootless" if os.geteuid() else "podman, as root"


@contextmanager
def _podman(place: str, archive: str, environment: Mapping[str, str]) -> Iterator[Contender]:
    name = _podman_name()
    if not shutil.which("podman"):
        yield Contender((name,), None, "not installed")
        return
    # Directories of its own: the user's images stay as they are, and so does what podman keeps running for them.
    podman = (
        *("podman", "--log-level", "error"),
        *("--root", f"{place}/root", "--runroot", f"{place}/run", "--tmpdir", f"{place}/tmp"),
    )
    try:
        try:
            output((*podman, "import", "--quiet", archive, _IMAGE), environment)
            command = _working(podman, environment)
        except Failed as failure:
            yield Contender((name,), None, str(failure))
            return
        yield Contender((name,), lambda: (wall_ms(command, environment),))
    finally:
        if os.geteuid():
            _quietly(*podman, "unshare", "rm", "-rf", f"{place}/root", f"{place}/run")
            _quietly(*podman, "system", "migrate")
        else:
            _quietly("umount", f"{place}/root/overlay")


def _working(podman: tuple[str, ...], environment: Mapping[str, str]) -> tuple[str, ...]:
    """The first way of running podman that works here; the failure of the plain way when none does."""
    failures: list[Failed] = []
    for before, after in _WAYS:
        command = (*podman, *before, "run", "--rm", "--network", "none", *after, _IMAGE, "/bin/true")
        try:
            output(command, environment)
        except Failed as failure:
            failures.append(failure)
        else:
            return command
    raise failures[0]


@contextmanager
def _docker(archive: str, environment: Mapping[str, str]) -> Iterator[Contender]:
    if not shutil.which("docker"):
        yield Contender(("docker",), None, "not installed")
        return
    try:
        output(("docker", "info", "--format", "{{.ServerVersion}}"), environment, timeout_s=10)
        output(("docker", "import", archive, _IMAGE), environment)
    except Failed as failure:
        yield Contender(("docker",), None, str(failure))
        return
    command = ("docker", "run", "--rm", "--network", "none", _IMAGE, "/bin/true")
    try:
        yield Contender(("docker",), lambda: (wall_ms(command, environment),))
    finally:
        _quietly("docker", "image", "rm", _IMAGE)


def _quietly(*argv: str) -> None:
    subprocess.run(argv, capture_output=True, stdin=subprocess.DEVNULL, check=False)
