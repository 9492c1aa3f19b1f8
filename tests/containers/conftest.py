"""Containers in each mode of ids that this machine allows, and what they may leave behind."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from netpolicy.policy import compile_policy
from sandbox import idmap, paths
from sandbox.containers.containers import Containers
from sandbox.containers.spec import ContainerSpec
from sandbox.containers.starting import Starter
from sandbox.idmap import IdMap
from sandbox.spec import RootFs, session_environment
from tests.capabilities import need
from tests.sessions.running import children, eventually, mounts

SPEC = ContainerSpec(RootFs(None), compile_policy("limited"), tuple(session_environment({}).items()))
"""On the machine's own files, with a network that refuses everything."""


@pytest.fixture(scope="module")
def starter() -> Iterator[Starter]:
    """One starter for a file of tests, as a server has one."""
    need("user-namespaces", "overlay")
    with Starter() as starter:
        yield starter


@pytest.fixture(params=["range", "single"])
def ids(request: pytest.FixtureRequest) -> IdMap:
    """One mode of ids and then the other."""
    if request.param == "range":
        need("subids")
    return idmap.choose(idmap.read_host_ids(), request.param)


@pytest.fixture
def containers(starter: Starter, ids: IdMap, data_dir: Path) -> Iterator[Containers]:
    """Containers whose processes end with the starter. A test leaves no directory, process or descriptor."""
    paths.prepare(str(data_dir), ids)
    containers = Containers(str(data_dir), ids, starter)
    containers.sweep(())
    before = len(os.listdir("/proc/self/fd")), mounts()
    yield containers
    containers.sweep(())
    assert left(containers) == []
    assert (len(os.listdir("/proc/self/fd")), mounts()) == before
    eventually(lambda: len(kept(starter)) == 0, "the end of what the starter started")


@pytest.fixture
def container(containers: Containers) -> str:
    """The id of a container that does not run yet."""
    containers.create("one", SPEC)
    return "one"


def kept(starter: Starter) -> list[int]:
    """The children of the starter, but for the first, from which process 1 of all containers is cloned."""
    return children(starter.pid)[1:]


def left(containers: Containers) -> list[str]:
    """What is in the directory of containers."""
    return os.listdir(f"{containers.data}/containers/{containers.ids.name}")
