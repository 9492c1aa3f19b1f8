from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pkgcache import report
from pkgcache.buildlog import BuildLog
from pkgcache.phases import World, module, now, open_log, probe, run_phases
from pkgcache.recipe import SEALABLE, Cache, Phase
from pkgcache.runner import Job, Result, Root
from pkgcache.specs import MANAGERS
from pkgcache.store import Store, create, open_store
from tests.pkgcache.scripted import ENDPOINTS, Scripted


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = open_store(str(tmp_path))
    create(made)
    return made


def world(store: Store, runner: Scripted) -> World:
    return World(store, runner, ENDPOINTS, ("extra.test",), None)


def run(
    world: World,
    phases: tuple[Phase, ...],
    log: BuildLog,
    apart: Root | None = None,
    scratch: str | None = None,
) -> tuple[Result, list[str]]:
    """What came of the phases, and the names of those that were entered."""
    entered: list[str] = []
    result = run_phases(world, phases, Root(None), log, entered.append, apart=apart, scratch=scratch)
    return result, entered


def test_every_manager_has_its_module_with_the_same_functions() -> None:
    for manager in MANAGERS:
        known = module(manager)
        assert callable(known.parse) and known.PROBE and isinstance(known.FOLLOW, str)


def test_a_phase_sees_its_caches_as_it_asked_and_its_arguments_apart_from_the_script(store: Store) -> None:
    runner = Scripted()
    phase = Phase(
        "x", "true", ("a b", "$(id)"), kept=True, caches=(Cache("npm", "/var/cache/npm", writable=False),)
    )
    with open_log(store, "x", lambda _: None) as log:
        run(world(store, runner), (phase,), log, scratch=f"{store.path}/work")
    (job,) = runner.jobs
    assert job.argv == ("/bin/sh", "-c", "true", "sh", "a b", "$(id)")
    assert [(mount.source, mount.target, mount.writable) for mount in job.mounts] == [
        (store.downloads("npm"), "/var/cache/npm", False)
    ]
    assert os.path.isdir(store.downloads("npm"))


def test_a_phase_that_is_not_kept_gets_nowhere_to_keep_things(store: Store) -> None:
    runner = Scripted()
    with open_log(store, "x", lambda _: None) as log:
        run(world(store, runner), (Phase("x", "true", (), kept=False),), log, scratch="/somewhere")
    assert runner.jobs[0].scratch is None and not runner.jobs[0].in_place


def test_managers_are_asked_without_a_network_and_then_with_their_own_servers_alone(store: Store) -> None:
    def answers(job: Job) -> int:
        if not job.endpoints:
            job.output(
                b"@sandbox\tendpoint\tpip\thttps://index.test/\tx\n@sandbox\tendpoint\tgo\thttps://go.test/\tx\n"
            )
            job.output(b"@sandbox\tfollow\tpip\tindex\n")
        else:
            job.output(b"@sandbox\tendpoint\tpip\thttps://files.test/\tthe index\n")
        return 0

    runner = Scripted(answers)
    with open_log(store, "x", lambda _: None) as log:
        marks = probe(world(store, runner), Root(None), ("pip", "go"), log)
    asked, followed = runner.jobs
    assert (asked.endpoints, asked.allowed_hosts) == ((), ())
    assert [server.host for server in followed.endpoints] == ["index.test"] and followed.allowed_hosts == ()
    assert [server.host for server in report.endpoints(marks)] == ["go.test", "files.test", "index.test"]


def test_the_time_is_rfc_3339() -> None:
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", now())


def test_a_deadline_that_has_passed_still_leaves_a_moment(store: Store) -> None:
    runner = Scripted()
    late = world(store, runner)._replace(deadline=time.monotonic() - 100)
    with open_log(store, "x", lambda _: None) as log:
        run(late, (Phase("x", "true", (), kept=False),), log)
    assert runner.jobs[0].timeout_s == 1.0


CACHES = (Cache("npm", "/var/cache/npm", writable=True),)
TWO = (
    Phase("download", "fetch", ("a",), kept=True, caches=CACHES, apart=True, seals=True),
    Phase("install", "install", ("a",), kept=True),
)


class Sealing(Scripted):
    """Asks to have its downloads closed, where it may; ``close`` does that."""

    def __init__(self, close: Callable[[], None], marks: bytes = b"@sandbox\tseal\n") -> None:
        super().__init__(self.ask)
        self.close = close
        self.marks = marks

    def ask(self, job: Job) -> int:
        if job.sealing is not None:
            job.sealing(self.close)
        job.output(self.marks)
        return 0


def test_what_had_its_downloads_closed_does_the_next_phases_work_as_well(store: Store) -> None:
    closed: list[bool] = []
    runner = Sealing(lambda: closed.append(True), b"@sandbox\tseal\n@sandbox\tseal\n")
    with open_log(store, "x", lambda _: None) as log:
        assert run(world(store, runner), TWO, log) == (Result(0), ["download", "install"])
    assert closed == [True]
    assert [job.argv[2] for job in runner.jobs] == ["fetch"]
    assert runner.jobs[0].environment[SEALABLE] == "1"


def test_the_next_phase_comes_when_the_downloads_could_not_be_closed(store: Store) -> None:
    def refuse() -> None:
        raise OSError("somebody writes")

    runner, said = Sealing(refuse), list[str]()
    with open_log(store, "x", said.append) as log:
        assert run(world(store, runner), TWO, log) == (Result(0), ["download", "install"])
    assert [job.argv[2] for job in runner.jobs] == ["fetch", "install"]
    assert "the downloads can't be closed: somebody writes" in said
    # Only the first was offered it.
    assert [SEALABLE in job.environment for job in runner.jobs] == [True, False]


def test_the_next_phase_comes_when_nobody_asked(store: Store) -> None:
    runner = Sealing(lambda: None, marks=b"fetched\n")
    with open_log(store, "x", lambda _: None) as log:
        assert run(world(store, runner), TWO, log)[1] == ["download", "install"]
    assert [job.argv[2] for job in runner.jobs] == ["fetch", "install"]


def test_nothing_is_closed_where_the_packages_code_is_to_see_more_than_the_manager(store: Store) -> None:
    closed: list[bool] = []
    runner = Sealing(lambda: closed.append(True))
    with open_log(store, "x", lambda _: None) as log:
        run(world(store, runner), TWO, log, apart=Root("/base"))
    assert [(job.root, job.argv[2], job.sealing) for job in runner.jobs] == [
        (Root("/base"), "fetch", None),
        (Root(None), "install", None),
    ]
    assert not any(SEALABLE in job.environment for job in runner.jobs)
    assert closed == []
