"""Real bases and layers, from the real registries through the managers themselves, in sessions of our own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pkgcache.bases import list_bases, read_base, remove_base
from pkgcache.debian import build_base
from pkgcache.errors import BuildError, HostError
from pkgcache.image import Image, lease
from pkgcache.memo import recall
from pkgcache.resolve import read_layer
from pkgcache.runner import Job, Result
from pkgcache.store import sweep
from tests.capabilities import need
from tests.integration.layers import Place

pytestmark = pytest.mark.timeout(600)

DEMO = {"apt": ["jq"], "npm": ["tsx"], "pip": ["pytest==8.3.4"]}
MODES = ("range", "single")


def place_of(mode: str, data_dir: Path) -> Place:
    need("user-namespaces", "overlay", "registries", "mmdebstrap")
    if mode == "range":
        need("subids")
    return Place(str(data_dir), mode)


@pytest.fixture
def place(data_dir: Path) -> Place:
    return place_of("range", data_dir)


@pytest.fixture(params=MODES)
def either(request: pytest.FixtureRequest, data_dir: Path) -> Place:
    return place_of(request.param, data_dir)


@pytest.fixture
def demo(place: Place) -> Image:
    return place.build("debian", DEMO)


def work_left(place: Place) -> list[str]:
    return os.listdir(f"{place.store.path}/work")


def never(job: Job) -> Result:
    pytest.fail(f"ran {job.argv}")


def another_builder(place: Place, base: str, packages: dict[str, list[str]]) -> subprocess.Popen[str]:
    arguments = (place.data, place.mode, base, json.dumps(packages))
    return subprocess.Popen(
        [sys.executable, "-m", "tests.integration.layers", *arguments],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def lines(process: subprocess.Popen[str]) -> Iterator[str]:
    assert process.stdout is not None
    for line in process.stdout:
        yield line.rstrip()


def test_programs_and_libraries_of_each_manager_are_found(place: Place, demo: Image) -> None:
    script = """set -e
    echo '{"a": 1}' | jq -c .a
    tsx -e 'console.log(2 as number)'
    node -e 'console.log(require("tsx/package.json").name)'
    pytest --version
    python3 -c 'import pytest; print(pytest.__version__)'
    """
    code, said = place.run(demo, script)
    assert (code, said.split("\n")[:3]) == (0, ["1", "2", "tsx"]), said
    assert said.count("8.3.4") == 2


def test_the_second_time_nothing_runs(place: Place, demo: Image) -> None:
    assert place.build("debian", DEMO, runner=never) == demo
    assert recall(place.store, "debian", DEMO) == demo


def test_one_session_fetches_and_installs_once_its_downloads_are_closed(place: Place) -> None:
    packages = {"apt": ["hello"], "npm": ["esbuild"]}
    jobs: list[Job] = []
    place.forget(place.build("debian", packages))
    image = place.build("debian", packages, runner=lambda job: (jobs.append(job), place.run_job(job))[1])
    assert [len(job.mounts) for job in jobs] == [2, 1]
    assert all(mount.writable for job in jobs for mount in job.mounts)
    # Its installation script puts a program in the place of another.
    code, said = place.run(
        image, "hello && head -c 4 $(readlink -f $(command -v esbuild)); esbuild --version"
    )
    assert code == 0 and "ELF" in said, said
    for key in image.keys:
        assert all(package.hash for package in read_layer(place.store, key).packages)


def test_the_lock_says_what_is_really_there(place: Place, demo: Image) -> None:
    apt, npm, pip = (read_layer(place.store, key).packages for key in demo.keys)
    assert {"jq"} <= {package.name.partition(":")[0] for package in apt}
    assert all(package.hash.startswith("sha256:") for package in apt)
    assert {"tsx", "esbuild"} <= {package.name for package in npm}
    assert ("pytest", "8.3.4") in {(package.name, package.version) for package in pip}
    assert all(package.hash.startswith("sha256:") for package in pip)


def test_a_session_can_not_change_a_layer(place: Place, demo: Image) -> None:
    program = Path(demo.layers[0], "usr/local/bin/pytest")
    before = program.read_bytes()
    code, said = place.run(
        demo, "echo changed > /usr/local/bin/pytest; rm /usr/bin/jq; cat /usr/local/bin/pytest"
    )
    assert (code, said) == (0, "changed\n")
    assert program.read_bytes() == before
    assert place.run(demo, "jq --version")[0] == 0


def test_every_server_that_the_managers_contact_was_found(place: Place, demo: Image) -> None:
    """The endpoints read from the managers are the whole network of these sessions, and suffice."""
    managers = {endpoint.manager for endpoint in demo.endpoints}
    assert managers == {"apt", "cargo", "gem", "go", "npm", "pip"}
    script = """set -e
    cd /tmp
    pip download --quiet --no-deps six
    npm pack --silent is-number
    apt-get -qq update && apt-get -qq download hello
    cargo init -q --name x /tmp/crate 2>/dev/null && cd crate && cargo add -q cfg-if && cargo fetch -q
    ls /tmp/*.whl /tmp/*.tgz /tmp/*.deb | wc -l
    """
    code, said = place.run(demo, script, demo.endpoints)
    assert (code, said.split()[-1]) == (0, "3"), said
    code, said = place.run(demo, script, tuple(e for e in demo.endpoints if e.manager != "pip"))
    assert code != 0


@pytest.mark.parametrize(
    "manager, spec, why",
    [
        ("apt", "no-such-package-of-ours", "no such package"),
        ("apt", "jq=99", "don't have that version"),
        ("apt", "jq.", "no such package"),
        ("npm", "@no-such-scope-of-ours/package", "no such"),
        ("npm", "tsx@99.0.0", "no such version"),
        ("pip", "no-such-package-of-ours-1", "no such package"),
        ("pip", "pytest==99", "no matching version"),
    ],
)
def test_what_does_not_exist_is_named_and_leaves_nothing(
    place: Place, manager: str, spec: str, why: str
) -> None:
    before = sorted(os.listdir(f"{place.store.path}/layers")) if os.path.isdir(place.store.path) else []
    with pytest.raises(BuildError) as failed:
        place.build("debian", {manager: [spec]})
    assert (failed.value.manager, failed.value.package) == (manager, spec)
    assert why in str(failed.value)
    assert failed.value.log is not None and os.path.getsize(failed.value.log) > 0
    assert sorted(os.listdir(f"{place.store.path}/layers")) == before
    assert work_left(place) == []


def test_what_was_built_before_a_failure_stays(place: Place) -> None:
    with pytest.raises(BuildError, match="pip could not install"):
        place.build("debian", {"npm": ["is-number"], "pip": ["no-such-package-of-ours-1"]})
    assert place.build("debian", {"npm": ["is-number"]}, runner=never).keys


def test_a_minimal_base_without_the_manager_says_what_to_do(either: Place) -> None:
    with pytest.raises(HostError, match="there is no npm in this base") as failed:
        either.build("debian-minimal", {"npm": ["tsx"]})
    assert "use the base debian" in failed.value.hint


def test_the_machines_own_managers_make_layers_in_either_id_mode(either: Place) -> None:
    need("pip3", "npm")
    image = either.build("host", {"npm": ["is-number"], "pip": ["pyfiglet"]}, need_endpoints=True)
    assert image.base is None
    code, said = either.run(
        image, "python3 -c 'import pyfiglet; print(pyfiglet.__file__)' && node -p 'require(\"is-number\")(1)'"
    )
    assert code == 0 and said.startswith("/usr/local/") and said.endswith("true\n"), said
    assert {endpoint.manager for endpoint in image.endpoints} >= {"npm", "pip"}


def test_builders_that_start_together_make_a_layer_once(place: Place, demo: Image) -> None:
    packages = {"pip": ["iniconfig", "idna"]}
    place.forget(place.build("debian", packages))
    builders = [another_builder(place, "debian", packages) for _ in range(3)]
    ends = [builder.communicate(timeout=300) for builder in builders]
    assert [builder.returncode for builder in builders] == [0, 0, 0], ends
    ran = sorted(out.split()[-1] for out, _ in ends)
    assert ran == ["0", "0", "1"]
    assert place.build("debian", packages, runner=never).keys
    assert work_left(place) == []


@pytest.mark.parametrize(
    "moment", ["apt download", "apt install", "npm install", "npm scripts", "pip install"]
)
def test_a_build_killed_at_any_moment_leaves_nothing_and_can_be_run_again(place: Place, moment: str) -> None:
    packages = {"apt": ["hello"], "npm": ["esbuild"], "pip": ["tomli"]}
    place.forget(place.build("debian", packages))
    builder = another_builder(place, "debian", packages)
    assert any(line == moment for line in lines(builder))
    builder.send_signal(signal.SIGKILL)
    builder.communicate()
    image = place.build("debian", packages)
    assert len(image.keys) == 3
    assert work_left(place) == []
    code, said = place.run(image, "hello && esbuild --version && python3 -c 'import tomli'")
    assert code == 0, said


def test_a_first_base_is_made_once_and_a_killed_one_never_used(empty_data_dir: Path) -> None:
    place = place_of("range", empty_data_dir)
    killed = another_builder(place, "debian-minimal", {})
    assert any(line == "base bootstrap" for line in lines(killed))
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert read_base(place.store, "debian-minimal") is None and list_bases(place.store) == ()
    builders = [another_builder(place, "debian-minimal", {}) for _ in range(2)]
    ends = [builder.communicate(timeout=300) for builder in builders]
    assert [builder.returncode for builder in builders] == [0, 0], ends
    assert "0" in [out.split()[-1] for out, _ in ends]
    (entry,) = list_bases(place.store)
    assert entry.current and not entry.in_use
    sweep(place.store, place.remove)
    assert work_left(place) == []
    image = place.build("debian-minimal", {}, runner=never)
    with lease(image):
        code, said = place.run(
            image, "cat /etc/debian_version; ls -A /var/lib/apt/lists /var/cache/apt | wc -l"
        )
    assert code == 0 and said.strip(), said
    remove_base(place.store, "debian-minimal", remove=place.remove)
    assert list_bases(place.store) == () and os.listdir(f"{place.store.path}/bases") == []


def test_a_base_of_another_release_from_a_mirror_of_ones_own(place: Place) -> None:
    place.build("debian-minimal", {})
    known = read_base(place.store, "debian-minimal")
    assert known is not None
    mirror = next(word for line in known.sources for word in line.split() if "://" in word)
    options = {"suite": "bookworm", "profile": "minimal", "mirror": mirror}
    record = build_base(place.store, "older", runner=place.run_job, remove=place.remove, **options)
    try:
        assert (record.suite, record.tools["debian"].partition(".")[0]) == ("bookworm", "12")
        assert all(mirror in line for line in record.sources)
        image = place.build("older", {"apt": ["hello"]})
        assert place.run(image, "hello && . /etc/os-release && test $VERSION_CODENAME = bookworm")[0] == 0
        with pytest.raises(BuildError):
            options["suite"] = "no-such-release"
            build_base(place.store, "none", runner=place.run_job, remove=place.remove, **options)
        assert read_base(place.store, "none") is None and work_left(place) == []
    finally:
        remove_base(place.store, "older", remove=place.remove)
