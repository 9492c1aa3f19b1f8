from __future__ import annotations

import os
from pathlib import Path

import pytest

from pkgcache import machine
from pkgcache.bases import list_bases
from pkgcache.build import build
from pkgcache.runner import Job
from pkgcache.store import Store, open_store
from tests.pkgcache.scripted import Scripted, installs_files, remove, standing


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path))


def looks(job: Job) -> int:
    """A machine with pip and nothing else."""
    if job.scratch is not None and not job.argv[4:]:
        os.makedirs(f"{job.scratch}/upper/srv/ground/usr/local/lib")
        return 0
    if job.scratch is None:
        job.output(
            b"@sandbox\tendpoint\tpip\thttps://index.test/simple\t/etc/pip.conf\n@sandbox\ttool\tpip\t23.0\n"
        )
        return 0
    return installs_files(job)


def test_the_machine_is_looked_at_once_without_a_network(store: Store) -> None:
    runner = Scripted(looks)
    image = build(store, "host", {}, runner=runner, remove=remove, need_endpoints=True)
    assert [endpoint.host for endpoint in image.endpoints] == ["index.test"]
    assert image.base is None and image.layers == ()
    assert not any(job.endpoints or job.allowed_hosts for job in runner.jobs)
    again = Scripted(lambda _: pytest.fail("ran"))
    assert build(store, "host", {}, runner=again, remove=remove, need_endpoints=True) == image


def test_the_machine_as_it_was_before_is_listed_as_past(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(store, "host", {}, runner=Scripted(looks), remove=remove, need_endpoints=True)
    assert [entry.current for entry in list_bases(store)] == [True]
    monkeypatch.setattr(machine, "identity", lambda: "host-other")
    assert [entry.current for entry in list_bases(store)] == [False]


def test_layers_on_the_machine_stand_on_directories_that_can_be_written(store: Store) -> None:
    image = build(store, "host", {"pip": ["six"]}, runner=Scripted(looks), remove=remove)
    ground = machine.ground(store, machine.identity())
    assert image.layers == (f"{store.layer(image.keys[0])}/upper", ground)
    assert os.path.isdir(f"{ground}/usr/local/lib")
    assert image.held == (store.base(machine.identity()), store.layer(image.keys[0]))
    assert standing(store)["work"] == []


def test_a_machine_that_can_not_be_looked_at_leaves_nothing(store: Store) -> None:
    with pytest.raises(Exception, match="could not be made"):
        build(store, "host", {"pip": ["six"]}, runner=Scripted(lambda _: 1), remove=remove)
    assert (standing(store)["bases"], standing(store)["work"]) == ([], [])
