"""The order of a build and what it leaves, with a runner that runs nothing; real builds are in tests/integration."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from pkgcache.build import build
from pkgcache.errors import BuildError, HostError, InputError, StoreError
from pkgcache.image import Image
from pkgcache.memo import recall
from pkgcache.phases import Event
from pkgcache.recipe import MISSING
from pkgcache.records import Locked
from pkgcache.resolve import read_layer, resolve
from pkgcache.runner import Job
from pkgcache.store import Store, in_use, open_store
from tests.pkgcache.scripted import ENDPOINTS, Scripted, add_base, installs_files, remove, standing

PACKAGES = {"pip": ["six"], "apt": ["jq"], "npm": ["tsx"]}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = open_store(str(tmp_path / "data"))
    add_base(made)
    return made


def run(
    store: Store, runner: Scripted, packages: dict[str, list[str]] | None = None, **more: object
) -> Image:
    wanted = PACKAGES if packages is None else packages
    return build(store, "debian", wanted, runner=runner, remove=remove, **more)  # type: ignore[arg-type]


def test_each_manager_gets_a_layer_on_those_before_in_the_fixed_order(store: Store) -> None:
    runner = Scripted(installs_files)
    image = run(store, runner)
    assert [specs for specs in runner.installs if specs] == [("jq",), ("tsx",), ("six",)]
    apt, npm, pip = (store.layer(key) + "/upper" for key in image.keys)
    assert image.layers == (pip, npm, apt)
    assert image.base == f"{store.base('debian-1')}/root"
    roots = {job.argv[4:]: job.root for job in runner.jobs if job.scratch and job.argv[4:]}
    assert roots[("jq",)].layers == ()
    assert roots[("tsx",)].layers == (apt,)
    assert roots[("six",)].layers == (npm, apt)
    assert {root.base for root in roots.values()} == {image.base}
    assert os.listdir(pip) == ["six"]


def test_what_is_there_is_used_without_running_anything(store: Store) -> None:
    first = run(store, Scripted(installs_files))
    again = Scripted(lambda _: pytest.fail("ran"))
    assert run(store, again) == first
    assert run(store, again, {"npm": ["tsx"], "pip": ["six"], "apt": ["jq", "jq"]}) == first
    assert recall(store, "debian", PACKAGES) == first
    assert resolve(store, "debian", PACKAGES).ready


def test_a_changed_manager_builds_its_layer_and_those_above(store: Store) -> None:
    run(store, Scripted(installs_files))
    runner = Scripted(installs_files)
    run(store, runner, {**PACKAGES, "npm": ["tsx@4"]})
    assert [specs for specs in runner.installs if specs] == [("tsx@4",), ("six",)]


def test_a_layers_record_says_what_is_in_it(store: Store) -> None:
    image = run(store, Scripted(installs_files))
    record = read_layer(store, image.keys[2])
    assert (record.manager, record.specs, record.base) == ("pip", ("six",), "debian-1")
    assert record.parent == image.keys[1]
    assert record.packages == (Locked("six", "1.0", "sha256:0"),)
    assert "working" in Path(store.layer(record.key), "log").read_text()


def test_jobs_may_reach_the_managers_servers_and_the_allowed_hosts(store: Store) -> None:
    runner = Scripted(installs_files)
    run(store, runner, {"pip": ["six"]}, allowed_hosts=["extra.test"])
    assert {job.endpoints for job in runner.jobs} == {ENDPOINTS}
    assert {job.allowed_hosts for job in runner.jobs} == {("extra.test",)}
    assert all(job.environment["DEBIAN_FRONTEND"] == "noninteractive" for job in runner.jobs)


def fails_at(name: str, output: bytes = b"", code: int = 1) -> Scripted:
    def act(job: Job) -> int:
        if name in job.argv[4:]:
            job.output(output)
            return code
        return installs_files(job)

    return Scripted(act)


def test_a_failure_publishes_nothing_keeps_its_log_and_leaves_earlier_layers(store: Store) -> None:
    told = b"Collecting six\nERROR: No matching distribution found for six\n"
    with pytest.raises(BuildError) as failed:
        run(store, fails_at("six", told))
    error = failed.value
    assert (error.manager, error.package, error.exit_code) == ("pip", "six", 125)
    assert "pip could not install 'six'" in str(error) and error.log is not None and error.log in error.hint
    assert error.tail[-1] == "ERROR: No matching distribution found for six"
    assert "No matching distribution" in Path(error.log).read_text()
    left = standing(store)
    assert len(left["layers"]) == 2 and left["work"] == [] and len(left["logs"]) == 1
    again = Scripted(installs_files)
    run(store, again)
    assert [specs for specs in again.installs if specs] == [("six",)]


def test_a_failure_that_tells_no_package_names_them_all(store: Store) -> None:
    with pytest.raises(
        BuildError, match="pip could not install 'a, b': its install phase ended with exit code 7"
    ):
        run(store, fails_at("a", b"something\n", 7), {"pip": ["a", "b"]})


def test_the_time_limit_is_told_as_such(store: Store) -> None:
    with pytest.raises(BuildError, match="the time limit was reached"):
        run(store, fails_at("six", code=124), timeout_s=60)


def test_a_limit_reaches_every_job(store: Store) -> None:
    runner = Scripted(installs_files)
    run(store, runner, {"pip": ["six"]}, timeout_s=60)
    assert all(job.timeout_s is not None and 0 < job.timeout_s <= 60 for job in runner.jobs)


def test_a_refused_host_is_named_with_what_would_allow_it(store: Store) -> None:
    runner = fails_at("six")
    runner.denied = ("files.test:443",)
    with pytest.raises(BuildError, match=r"the network policy refused files\.test:443") as failed:
        run(store, runner, {"pip": ["six"]})
    assert "allowed_hosts" in failed.value.hint


def test_a_base_without_the_manager_is_told_with_the_way_out(store: Store) -> None:
    with pytest.raises(HostError, match="there is no pip in this base") as failed:
        run(store, fails_at("six", b"@sandbox\tmissing\tpip\n", MISSING), {"pip": ["six"]})
    assert "python3-pip" in failed.value.hint
    assert standing(store)["layers"] == []


def test_a_full_disk_in_the_middle_of_an_install_is_told_as_that(store: Store) -> None:
    with pytest.raises(StoreError, match="is full"):
        run(store, fails_at("six", b"OSError: [Errno 28] No space left on device\n"))
    assert standing(store)["work"] == []


@pytest.mark.parametrize("kind", [KeyboardInterrupt, RuntimeError])
def test_whatever_the_runner_raises_nothing_half_made_stays(store: Store, kind: type[BaseException]) -> None:
    def act(job: Job) -> int:
        if "tsx" in job.argv:
            raise kind
        return installs_files(job)

    with pytest.raises(kind):
        run(store, Scripted(act))
    left = standing(store)
    assert left["work"] == [] and len(left["layers"]) == 1
    assert not in_use(store, store.base("debian-1"))


def test_managers_that_an_apt_layer_brings_are_asked_for_their_servers(store: Store, tmp_path: Path) -> None:
    def act(job: Job) -> int:
        if not job.endpoints:
            job.output(b"@sandbox\tendpoint\tgem\thttps://gems.test/\tbuilt-in default\n")
        return installs_files(job)

    image = run(store, Scripted(act), {"apt": ["ruby"]})
    assert [endpoint.host for endpoint in image.endpoints if endpoint.manager == "gem"] == ["gems.test"]
    assert read_layer(store, image.keys[0]).endpoints == image.endpoints[-1:]


def test_two_builders_of_one_layer_make_it_once(store: Store) -> None:
    inside, go_on, waiting = threading.Event(), threading.Event(), threading.Event()

    def slow(job: Job) -> int:
        inside.set()
        assert go_on.wait(60)
        return installs_files(job)

    def second() -> None:
        images.append(run(store, late, {"pip": ["six"]}, progress=follow))

    def follow(event: Event) -> None:
        if event.phase == "waiting":
            waiting.set()

    images: list[Image] = []
    early, late = Scripted(slow), Scripted(installs_files)
    first = threading.Thread(target=lambda: images.append(run(store, early, {"pip": ["six"]})))
    other = threading.Thread(target=second)
    first.start()
    assert inside.wait(60)
    other.start()
    assert waiting.wait(60)
    go_on.set()
    first.join(20)
    other.join(20)
    assert images[0] == images[1]
    assert early.jobs and not late.jobs


KILLED = """
import sys
from pkgcache.build import build
from pkgcache.runner import Result
from pkgcache.store import open_store
from tests.pkgcache.scripted import Scripted, installs_files, remove

def act(job):
    code = installs_files(job)
    if sys.argv[2] in job.argv:
        print("ready", flush=True)
        sys.stdin.read()
    return code

build(open_store(sys.argv[1]), "debian", {"apt": ["jq"], "pip": ["six"]}, runner=Scripted(act), remove=remove)
"""


@pytest.mark.parametrize("moment", ["jq", "six"])
def test_a_killed_build_leaves_nothing_that_is_ever_used(store: Store, moment: str) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, os.path.dirname(store.path), moment],
        stdout=subprocess.PIPE,
        stdin=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert standing(store)["work"] != []
    assert len(standing(store)["layers"]) == (0 if moment == "jq" else 1)
    runner = Scripted(installs_files)
    run(store, runner, {"apt": ["jq"], "pip": ["six"]})
    assert standing(store)["work"] == []
    assert [specs for specs in runner.installs if specs][-1] == ("six",)


def test_progress_tells_manager_phase_and_lines(store: Store) -> None:
    events: list[Event] = []
    run(store, Scripted(installs_files), {"go": ["a.test/b"]}, progress=events.append)
    assert [event.phase for event in events if event.text == "working"] == ["download", "install"]
    assert events[-1].phase == "done" and events[-1].manager == "go"
    assert all(event.elapsed_s >= 0 for event in events)


@pytest.mark.parametrize("scripts", [True, False])
def test_a_phase_for_some_packages_only_runs_when_it_is_asked_for(store: Store, scripts: bool) -> None:
    def act(job: Job) -> int:
        if scripts:
            job.output(b"@sandbox\tphase\tscripts\n")
        return installs_files(job)

    events: list[Event] = []
    run(store, Scripted(act), {"npm": ["tsx"]}, progress=events.append)
    phases = [event.phase for event in events if event.text == "working"]
    assert phases == (["install", "scripts"] if scripts else ["install"])


def test_nothing_runs_for_a_bad_spec(store: Store) -> None:
    runner = Scripted()
    with pytest.raises(InputError):
        run(store, runner, {"apt": ["jq"], "pip": ["-r x"]})
    assert runner.jobs == []
