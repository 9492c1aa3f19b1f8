"""Layers of the managers that compile: what comes from the network comes first, and is only read afterwards."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pkgcache import report
from pkgcache.errors import BuildError, HostError
from pkgcache.image import Image
from pkgcache.managers import gem
from pkgcache.phases import World, open_log, probe
from pkgcache.recipe import SEALABLE
from pkgcache.records import Locked
from pkgcache.resolve import read_layer
from pkgcache.runner import Endpoint, Job, Result, Root
from tests.integration.gems import HOST, Source, source
from tests.integration.layers import Place
from tests.integration.test_layers import MODES, place_of, work_left

pytestmark = pytest.mark.timeout(600)

GO_PROGRAM = "golang.org/x/example/hello"
GO_LIBRARY = "github.com/google/uuid"
# A program that needs a few crates, one of them (libc) with a build script.
CRATE = "guessing_game"


@pytest.fixture
def place(data_dir: Path) -> Place:
    """With the base, so that a build's jobs are the layer's own."""
    made = place_of("range", data_dir)
    made.build("debian", {})
    return made


@pytest.fixture(params=MODES)
def either(request: pytest.FixtureRequest, data_dir: Path) -> Place:
    return place_of(request.param, data_dir)


def recorded(place: Place, image: Image) -> dict[str, tuple[str, str]]:
    """Version and hash of each package of the topmost layer."""
    packages = read_layer(place.store, image.keys[-1]).packages
    return {package.name: (package.version, package.hash) for package in packages}


def offline(place: Place) -> Callable[[Job], Result]:
    """The runner, without any network."""
    return lambda job: place.run_job(job._replace(endpoints=(), allowed_hosts=()))


def built_offline(
    place: Place,
    packages: dict[str, list[str]],
    runner: Callable[[Job], Result] | None = None,
    without: Callable[[Job], Result] | None = None,
) -> Image:
    """The image, built without a network in one session, from what a build downloaded that got no further because its
    downloads could not be closed."""
    place.forget_layers("debian", packages)
    jobs: list[Job] = []

    def only_the_first(job: Job) -> Result:
        jobs.append(job)
        variables = {name: value for name, value in job.environment.items() if name != SEALABLE}
        open_ended = job._replace(environment=variables, sealing=None)
        return (runner or place.run_job)(open_ended) if len(jobs) == 1 else Result(1)

    with pytest.raises(BuildError):
        place.build("debian", packages, runner=only_the_first)
    later: list[Job] = []

    def without_a_network(job: Job) -> Result:
        later.append(job)
        return (without or offline(place))(job)

    image = place.build("debian", packages, runner=without_a_network)
    assert len(later) == 1
    download, install = jobs
    assert [mount.writable for mount in download.mounts] == [True]
    assert [mount.writable for mount in install.mounts] == [False]
    return image


def fails(place: Place, manager: str, spec: str, runner: Callable[[Job], Result] | None = None) -> BuildError:
    """The failure of a build that must fail, by naming this package and leaving nothing."""
    before = sorted(os.listdir(f"{place.store.path}/layers")) if os.path.isdir(place.store.path) else []
    with pytest.raises(BuildError) as failed:
        place.build("debian", {manager: [spec]}, runner=runner)
    assert failed.value.manager == manager and failed.value.package is not None
    assert (
        failed.value.package.partition("@")[0].partition(":")[0] == spec.partition("@")[0].partition(":")[0]
    )
    assert failed.value.tail and failed.value.log is not None and os.path.getsize(failed.value.log) > 0
    assert sorted(os.listdir(f"{place.store.path}/layers")) == before
    assert work_left(place) == []
    return failed.value


def test_go_programs_are_found_by_name_and_libraries_by_import_and_again_without_a_network(
    place: Place,
) -> None:
    image = built_offline(place, {"go": [GO_PROGRAM, f"{GO_LIBRARY}@v1.6.0"]})
    script = f"""set -e
    hello
    mkdir -p /tmp/main && cd /tmp/main && go mod init main.test/main
    printf 'package main\\nimport "{GO_LIBRARY}"\\nfunc main() {{ println(uuid.Nil.String()) }}\\n' > main.go
    go get {GO_LIBRARY}@v1.6.0 && go vet .
    """
    code, said = place.run(image, script)
    assert code == 0 and said.startswith("Hello, world!\n"), said
    known = recorded(place, image)
    assert known[GO_LIBRARY][0] == "v1.6.0"
    assert known[GO_PROGRAM][0] not in ("", "latest")
    assert all(digest.startswith("sha256:") for _, digest in known.values())
    upper = Path(place.store.layer(image.keys[-1]), "upper")
    assert [path.name for path in upper.glob("root/*")] == []


@pytest.mark.parametrize(
    "spec, why",
    [
        ("golang.org/x/example/no-such-program", "no such"),
        ("golang.org/x/no-such-module-of-ours", "no such module"),
        (f"{GO_LIBRARY}@v1.999.0", "no such module or version"),
    ],
)
def test_what_go_does_not_find_is_named(place: Place, spec: str, why: str) -> None:
    assert why in str(fails(place, "go", spec))


def test_without_a_network_go_says_so(place: Place) -> None:
    assert "can't be reached" in str(fails(place, "go", f"{GO_LIBRARY}@v1.0.0", offline(place)))


MACHINES = ("/usr/local/go/bin", "/usr/local/bin", "/usr/bin")


@pytest.mark.parametrize(
    "manager, packages, script",
    [
        (
            "go",
            [f"{GO_LIBRARY}@v1.6.0"],
            f"mkdir /tmp/x && cd /tmp/x && go mod init x.test/x && go get {GO_LIBRARY}@v1.6.0",
        ),
        ("cargo", ["minigrep@0.1.0"], "which minigrep"),
    ],
)
def test_the_machines_own_manager_is_used_or_missed(
    either: Place, manager: str, packages: list[str], script: str
) -> None:
    if not any(os.access(f"{path}/{manager}", os.X_OK) for path in MACHINES):
        with pytest.raises(HostError, match=f"there is no {manager} in this base"):
            either.build("host", {manager: packages})
        return
    code, said = either.run(either.build("host", {manager: packages}), script)
    assert code == 0, said


def test_cargo_programs_are_found_by_name_and_again_without_a_network(place: Place) -> None:
    image = built_offline(place, {"cargo": [CRATE, "minigrep@0.1.0"]})
    code, said = place.run(
        image, f"set -e; {CRATE} 2>/dev/null </dev/null | head -n 1; which minigrep; cargo install --list"
    )
    assert code == 0 and said.startswith("Guess the number!\n/usr/local/bin/minigrep\n"), said
    assert "minigrep v0.1.0:" in said
    known = recorded(place, image)
    assert known["minigrep"][0] == "0.1.0"
    assert set(known) >= {CRATE, "minigrep", "libc", "rand"}
    assert all(version[0].isdigit() and digest.startswith("sha256:") for version, digest in known.values())
    upper = Path(place.store.layer(image.keys[-1]), "upper")
    assert [path.name for path in upper.glob("root/*")] == []


@pytest.mark.parametrize(
    "spec, why",
    [
        ("no-such-crate-of-ours", "no such crate"),
        ("minigrep@9.0.0", "no such version"),
        ("minigrep@~9", "no such version"),
        ("itoa@1.0.9", "it has no program"),
    ],
)
def test_what_cargo_can_not_install_is_named(place: Place, spec: str, why: str) -> None:
    assert why in str(fails(place, "cargo", spec))


def test_without_a_network_cargo_says_so(place: Place) -> None:
    assert "can't be reached" in str(fails(place, "cargo", "minigrep@~0.1", offline(place)))


@pytest.fixture(scope="module")
def gems(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Source]:
    """A gem source that is served, set up in the base debian."""
    place = place_of("range", data_dir)
    base = place.build("debian", {}).base
    assert base is not None
    # A data directory that is kept between runs has gems of these names from before.
    place.remove(place.store.downloads("gem"))
    folder = Path(tempfile.mkdtemp(prefix="gems-", dir=data_dir))
    folder.chmod(0o755)
    try:
        with source(place, base, folder) as served:
            yield served
    finally:
        place.remove(str(folder))


def test_gems_with_an_extension_are_found_by_name_and_by_require_and_again_without_a_network(
    place: Place, gems: Source
) -> None:
    image = built_offline(
        place, {"gem": ["greeting:~> 1.0"]}, gems.runner(place), gems.runner(place, network=False)
    )
    code, said = place.run(
        image, "greet; ruby -e 'require \"greeting\"; puts Native.answer'; gem list --local native"
    )
    assert code == 0 and said.startswith("greeting 1.1.0, 42\n42\n"), said
    assert "native (1.0.3)" in said
    known = recorded(place, image)
    assert (known["greeting"][0], known["native"][0]) == ("1.1.0", "1.0.3")
    assert all(len(digest) == len("sha256:") + 64 for _, digest in known.values())
    upper = Path(place.store.layer(image.keys[-1]), "upper")
    assert [path.name for path in upper.glob("root/*")] == []


def test_the_sources_of_gems_are_read_from_their_configuration(place: Place, gems: Source) -> None:
    base = place.build("debian", {}).base
    world = World(place.store, gems.runner(place), (), (), None)
    with open_log(place.store, "probe", lambda _: None) as log:
        found = report.endpoints(probe(world, Root(base), ("gem",), log))
    os.unlink(log.path)
    assert found == (Endpoint("gem", "https", HOST, 443, "/etc/gemrc"),)


@pytest.mark.parametrize(
    "spec, why",
    [
        ("no-such-gem-of-ours", "no source has such a gem"),
        ("greeting:9.0", "no source has such a gem or version"),
        ("broken", "extension"),
    ],
)
def test_what_gem_can_not_install_is_named(place: Place, gems: Source, spec: str, why: str) -> None:
    assert why in str(fails(place, "gem", spec, gems.runner(place)))


def test_programs_that_a_package_left_do_not_reach_the_downloads_of_the_next_manager(
    place: Place, gems: Source
) -> None:
    place.forget_layers("debian", {"gem": ["false"], "npm": ["is-number"]})
    image = place.build("debian", {"gem": ["false"], "npm": ["is-number"]}, runner=gems.runner(place))
    # They are there for sessions, and were for the phases without downloads.
    code, said = place.run(image, "command -v npm && node -p 'require(\"is-number\")(1)'")
    assert code == 0 and "/usr/local/bin/npm" in said and said.endswith("true\n"), said
    assert not any(os.path.exists(f"{place.store.downloads(name)}/written") for name in ("gem", "npm"))


def test_a_gem_in_an_early_version_is_installed_when_it_is_asked_for(place: Place, gems: Source) -> None:
    image = place.build("debian", {"gem": ["greeting:2.0.0.pre1"]}, runner=gems.runner(place))
    assert place.run(image, "greet") == (0, "greeting 2.0.0.pre1, 42\n")


def test_packages_that_need_different_versions_of_a_gem_get_both(place: Place, gems: Source) -> None:
    """`older` needs another `greeting` than the one that is asked for; alone, it needs none beside it."""
    alone = place.build("debian", {"gem": ["older"]}, runner=gems.runner(place))
    image = place.build("debian", {"gem": ["greeting:1.1.0", "older"]}, runner=gems.runner(place))
    versions = [
        {each.version for each in read_layer(place.store, made.keys[-1]).packages if each.name == "greeting"}
        for made in (alone, image)
    ]
    assert versions == [{"1.0.0"}, {"1.0.0", "1.1.0"}]


def test_a_lock_of_gems_is_built_again_exactly(place: Place, gems: Source) -> None:
    again = gem.again(("greeting",), (Locked("greeting", "1.0.0"), Locked("native", "1.0.2")))
    image = place.build("debian", {"gem": list(again)}, runner=gems.runner(place))
    assert {name: version for name, (version, _) in recorded(place, image).items()} == {
        "greeting": "1.0.0",
        "native": "1.0.2",
    }


def test_without_a_network_gem_says_so(place: Place, gems: Source) -> None:
    told = str(fails(place, "gem", "greeting:<1.1", gems.runner(place, network=False)))
    assert "can't be reached" in told
