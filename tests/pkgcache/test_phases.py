from __future__ import annotations

import os
import re
import time
from pathlib import Path

import pytest

from pkgcache import report
from pkgcache.phases import World, module, now, open_log, probe, run_phase
from pkgcache.recipe import Cache, Phase
from pkgcache.runner import Job, Root
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
        run_phase(world(store, runner), phase, Root(None), log, scratch=f"{store.path}/work")
    (job,) = runner.jobs
    assert job.argv == ("/bin/sh", "-c", "true", "sh", "a b", "$(id)")
    assert [(mount.source, mount.target, mount.writable) for mount in job.mounts] == [
        (store.downloads("npm"), "/var/cache/npm", False)
    ]
    assert os.path.isdir(store.downloads("npm"))


def test_a_phase_that_is_not_kept_gets_nowhere_to_keep_things(store: Store) -> None:
    runner = Scripted()
    with open_log(store, "x", lambda _: None) as log:
        run_phase(
            world(store, runner), Phase("x", "true", (), kept=False), Root(None), log, scratch="/somewhere"
        )
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
        run_phase(late, Phase("x", "true", (), kept=False), Root(None), log)
    assert runner.jobs[0].timeout_s == 1.0
