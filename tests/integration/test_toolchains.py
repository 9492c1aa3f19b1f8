"""Layers of the managers that compile: what comes from the network comes first, and is only read afterwards."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from pkgcache.errors import BuildError, HostError
from pkgcache.image import Image
from pkgcache.resolve import read_layer
from pkgcache.runner import Job, Result
from tests.integration.layers import Place
from tests.integration.test_layers import MODES, place_of, work_left

pytestmark = pytest.mark.timeout(600)

GO_PROGRAM = "golang.org/x/example/hello"
GO_LIBRARY = "github.com/google/uuid"
# A program that needs a few crates, one of them (libc) with a build script.
CRATE = "guessing_game"


@pytest.fixture
def place(data_dir: Path) -> Place:
    return place_of("range", data_dir)


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


def built_offline(place: Place, packages: dict[str, list[str]]) -> Image:
    """The image, built without a network from what a build downloaded that got no further."""
    place.forget_layers("debian", packages)
    jobs: list[Job] = []

    def only_the_first(job: Job) -> Result:
        jobs.append(job)
        return place.run_job(job) if len(jobs) == 1 else Result(1)

    with pytest.raises(BuildError):
        place.build("debian", packages, runner=only_the_first)
    image = place.build("debian", packages, runner=offline(place))
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


def test_the_machines_own_go_is_used_or_missed(either: Place) -> None:
    packages = {"go": [f"{GO_LIBRARY}@v1.6.0"]}
    if not any(
        os.access(f"{path}/go", os.X_OK) for path in ("/usr/local/go/bin", "/usr/local/bin", "/usr/bin")
    ):
        with pytest.raises(HostError, match="there is no go in this base"):
            either.build("host", packages)
        return
    image = either.build("host", packages)
    code, said = either.run(
        image, f"mkdir /tmp/x && cd /tmp/x && go mod init x.test/x && go get {GO_LIBRARY}@v1.6.0"
    )
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
