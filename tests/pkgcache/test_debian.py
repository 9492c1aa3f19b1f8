"""The steps of making a base, with a runner that runs nothing; a real one is made in tests/integration."""

from __future__ import annotations

import json
import os
from base64 import b64decode
from pathlib import Path

import pytest

from pkgcache.bases import read_base
from pkgcache.debian import PROFILES, build_base
from pkgcache.errors import BuildError, HostError, InputError
from pkgcache.phases import Event
from pkgcache.recipe import MISSING
from pkgcache.runner import Job
from pkgcache.store import Store, open_store
from tests.pkgcache.scripted import Scripted, remove, standing

ASKED = b"@sandbox\tsource\tdeb http://archive.test/debian trixie main\n@sandbox\tsystem\tubuntu\tnoble\n"
FOUND = (
    b"@sandbox\tpackage\tdpkg:amd64\t1.22\t\n@sandbox\ttool\tdebian\t13.1\n"
    b"@sandbox\tendpoint\tapt\thttp://archive.test/debian\t/etc/apt/sources.list:1\n"
)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path))


def works(job: Job) -> int:
    if job.root.base is None and job.scratch is None:
        job.output(ASKED)
        return 1
    if job.scratch is not None:
        os.makedirs(f"{job.scratch}/upper/srv/base/etc")
    elif not job.in_place and not job.argv[4:]:
        job.output(FOUND)
    return 0


def test_a_base_is_made_from_the_archive_that_the_tools_name_and_from_no_other(store: Store) -> None:
    runner = Scripted(works)
    record = build_base(store, "debian-minimal", runner=runner, remove=remove)
    assert record.sources == ("deb http://archive.test/debian trixie main",)
    assert (record.suite, record.profile, record.tools) == ("trixie", "minimal", {"debian": "13.1"})
    assert os.path.isdir(f"{store.base(record.id)}/root/etc")
    assert json.loads(Path(store.base(record.id), "packages.json").read_text())[0]["name"] == "dpkg:amd64"
    reached = {
        (endpoint.scheme, endpoint.host, endpoint.port) for job in runner.jobs for endpoint in job.endpoints
    }
    assert reached == {("http", "archive.test", 80)}
    assert runner.jobs[1].argv[4:] == ("trixie", "deb http://archive.test/debian trixie main")
    assert standing(store)["work"] == [] and standing(store)["logs"] == []


def test_the_network_is_closed_while_the_tools_are_asked_and_the_base_is_configured(store: Store) -> None:
    runner = Scripted(works)
    build_base(store, "debian-minimal", runner=runner, remove=remove)
    closed = [job for job in runner.jobs if not job.endpoints]
    assert runner.jobs[0] in closed
    assert any(job.in_place for job in closed)


def test_a_base_that_is_there_is_made_again_only_when_asked(store: Store) -> None:
    first = build_base(store, "debian-minimal", runner=Scripted(works), remove=remove)
    assert (
        build_base(store, "debian-minimal", runner=Scripted(lambda _: pytest.fail("ran")), remove=remove)
        == first
    )
    second = build_base(store, "debian-minimal", runner=Scripted(works), remove=remove, rebuild=True)
    assert second.id != first.id
    assert read_base(store, "debian-minimal") == second
    assert read_base(store, first.id) == first


def test_the_toolchains_are_installed_in_place_after_they_were_fetched(store: Store) -> None:
    runner = Scripted(works)
    build_base(store, "debian", runner=runner, remove=remove)
    fetched, installed = (job for job in runner.jobs if job.argv[4:] == PROFILES["runtimes"])
    assert fetched.in_place and all(mount.writable for mount in fetched.mounts)
    assert installed.in_place and not any(mount.writable for mount in installed.mounts)
    assert {"python3-pip", "npm", "golang-go", "cargo", "ruby"} <= set(PROFILES["runtimes"])


def test_a_mirror_of_the_users_is_the_only_server(store: Store) -> None:
    runner = Scripted(works)
    record = build_base(
        store, "mine", profile="minimal", mirror="http://mine.test/debian", runner=runner, remove=remove
    )
    assert record.sources == ("deb http://mine.test/debian trixie main",)
    assert {endpoint.host for endpoint in runner.jobs[1].endpoints} == {"mine.test"}


def test_a_failure_publishes_nothing_and_keeps_its_log(store: Store) -> None:
    def act(job: Job) -> int:
        if job.scratch is not None:
            job.output(b"E: Release signed by unknown key\n")
            return 25
        return works(job)

    with pytest.raises(BuildError, match="the base could not be made") as failed:
        build_base(store, "debian", runner=Scripted(act), remove=remove)
    assert failed.value.tail[-1] == "E: Release signed by unknown key"
    left = standing(store)
    assert (left["bases"], left["work"]) == ([], []) and len(left["logs"]) == 1
    assert read_base(store, "debian") is None


def test_a_machine_without_the_bootstrap_tool_is_told_what_to_install(store: Store) -> None:
    def act(job: Job) -> int:
        job.output(b"@sandbox\tmissing\tmmdebstrap\n")
        return MISSING

    with pytest.raises(HostError, match="mmdebstrap") as failed:
        build_base(store, "debian", runner=Scripted(act), remove=remove)
    assert "apt-get install mmdebstrap" in failed.value.hint


def test_an_archive_that_nobody_names_is_told(store: Store) -> None:
    with pytest.raises(HostError, match="does not say where"):
        build_base(store, "debian", runner=Scripted(lambda _: 1), remove=remove)


@pytest.mark.parametrize(
    "name, more",
    [
        ("host", {}),
        ("../x", {}),
        ("a", {"profile": "everything"}),
        ("a", {"suite": "x y"}),
        ("a", {"mirror": "ftp://x"}),
    ],
)
def test_a_bad_request_runs_nothing(store: Store, name: str, more: dict[str, str]) -> None:
    runner = Scripted(works)
    with pytest.raises(InputError):
        build_base(store, name, runner=runner, remove=remove, **more)  # type: ignore[arg-type]
    assert runner.jobs == [] and os.listdir(os.path.dirname(store.path)) == []


def test_progress_names_the_phases_in_order(store: Store) -> None:
    events: list[Event] = []
    build_base(store, "debian", runner=Scripted(works), remove=remove, progress=events.append)
    phases = list(dict.fromkeys(event.phase for event in events))
    assert phases == ["download", "install", "probe", "publish", "done"]


def test_files_of_the_users_are_there_before_the_package_managers_are_asked(store: Store) -> None:
    runner = Scripted(works)
    files = {"/etc/gemrc": b":sources: []\n", "/root/.config/x": b"\0\xff"}
    build_base(store, "mine", profile="minimal", files=files, runner=runner, remove=remove)
    (placing,) = (job for job in runner.jobs if job.argv[4:] == tuple(files))
    assert placing.in_place and not placing.endpoints
    assert [b64decode(placing.environment[f"FILE_{number}"]) for number in (1, 2)] == list(files.values())
    assert runner.jobs.index(placing) < len(runner.jobs) - 1


def test_files_do_not_silently_miss_a_base_that_is_there(store: Store) -> None:
    build_base(store, "mine", profile="minimal", runner=Scripted(works), remove=remove)
    with pytest.raises(InputError, match="is there already") as refused:
        build_base(store, "mine", files={"/etc/gemrc": b""}, runner=Scripted(works), remove=remove)
    assert "--rebuild" in refused.value.hint


@pytest.mark.parametrize(
    "files", [{"etc/gemrc": b""}, {"/etc/../x": b""}, {"/etc/": b""}, {"/etc/gemrc": b"x" * 65537}]
)
def test_files_that_have_no_place_in_a_base_are_refused(store: Store, files: dict[str, bytes]) -> None:
    with pytest.raises(InputError):
        build_base(store, "mine", files=files, runner=Scripted(lambda _: pytest.fail("ran")), remove=remove)
