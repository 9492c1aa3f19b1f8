"""Building again without a network, from what earlier builds downloaded; and what is said when that is not enough."""

from __future__ import annotations

from pathlib import Path

import pytest

from pkgcache.build import read_lock
from pkgcache.errors import BuildError
from pkgcache.inventory import layers
from pkgcache.resolve import resolve
from pkgcache.runner import Job, Result
from pkgcache.store import discard
from tests.capabilities import need
from tests.integration.layers import Place
from tests.sessions.running import Sandbox, control

pytestmark = pytest.mark.timeout(600)

# docopt is a source package alone: what is kept of it is the wheel that was made here.
PACKAGES = {"apt": ["hello"], "npm": ["is-odd", "@types/estree"], "pip": ["docopt", "uvicorn[standard]<0.31"]}


@pytest.fixture
def place(data_dir: Path) -> Place:
    need("user-namespaces", "overlay", "registries", "mmdebstrap", "subids")
    return Place(str(data_dir), "range")


def forget_all(place: Place) -> None:
    """Remove every layer of these specs, also those that an earlier run chose by a lock."""
    specs = {(step.manager, step.specs) for step in resolve(place.store, "debian", PACKAGES).steps}
    for layer in layers(place.store):
        if (layer.manager, layer.specs) in specs:
            discard(place.store, place.store.layer(layer.key), place.remove)


def closed(place: Place) -> tuple[list[Job], object]:
    """Jobs that were run, and a runner that takes none that could reach anything."""
    ran: list[Job] = []

    def runner(job: Job) -> Result:
        assert (job.endpoints, job.allowed_hosts) == ((), ())
        ran.append(job)
        return place.run_job(job)

    return ran, runner


def test_what_was_built_once_is_built_again_without_a_network(place: Place) -> None:
    place.build("debian", PACKAGES)
    lock = read_lock(place.store, resolve(place.store, "debian", PACKAGES))
    forget_all(place)
    ran, runner = closed(place)
    again = place.build("debian", PACKAGES, runner=runner, offline=True, lock=lock)  # type: ignore[arg-type]
    assert len(again.keys) == 3 and ran
    code, said = place.run(
        again, "hello && node -p 'require(\"is-odd\")(3)' && python3 -c 'import docopt, uvloop'"
    )
    assert code == 0 and "true" in said, said


@pytest.mark.parametrize(
    ("manager", "spec"),
    [
        ("apt", "figlet"),
        ("npm", "left-pad"),
        ("npm", "@types/less"),
        ("pip", "pyjokes"),
    ],
)
def test_what_was_never_downloaded_is_named(place: Place, manager: str, spec: str) -> None:
    place.build("debian", {"apt": ["hello"]})
    _, runner = closed(place)
    with pytest.raises(BuildError, match="it is not among the kept downloads") as failed:
        place.build("debian", {manager: [spec]}, runner=runner, offline=True)  # type: ignore[arg-type]
    assert failed.value.package == spec
    assert "without --offline" in failed.value.hint


def test_an_offline_session_has_no_network_whatever_its_environment_allows(
    data_dir: Path, tmp_path: Path
) -> None:
    need("user-namespaces", "overlay")
    sandbox = Sandbox(data_dir)
    env = tmp_path / "env.yaml"
    env.write_text(
        "name: open\nconfig: {type: cloud, networking: {type: limited, allowed_hosts: [example.com]}}\n"
    )
    resolving = "cat /etc/resolv.conf"
    assert "nameserver" in sandbox.ok("--env", str(env), "--", "sh", "-c", resolving)
    assert sandbox.ok("--env", str(env), "--offline", "--", "sh", "-c", resolving) == ""


@pytest.mark.parametrize(
    "options", [("--net", "limited"), ("--allow", "example.com"), ("--allow-package-managers",)]
)
def test_a_network_and_none_contradict_each_other(empty_data_dir: Path, options: tuple[str, ...]) -> None:
    done = Sandbox(empty_data_dir).run("--offline", *options, "--", "true")
    assert done.code == 2 and done.out == ""


def test_a_base_that_is_not_there_is_told(empty_data_dir: Path) -> None:
    done = Sandbox(empty_data_dir).run("--offline", "--pip", "six", "--", "true")
    assert (done.code, done.out) == (125, "") and "the base debian is not there" in done.err
    env = empty_data_dir / "env.yaml"
    env.write_text("name: x\nconfig: {type: cloud, packages: {pip: [six]}}\n")
    built = control(empty_data_dir, "env", "build", "--offline", str(env))
    assert built.code == 125 and "the base debian is not there" in built.err
    assert control(empty_data_dir, "env", "build", "--offline", "--refresh", str(env)).code == 2
