"""The command under test, in each mode of ids that this machine allows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.capabilities import need
from tests.sessions.running import Sandbox


@pytest.fixture(scope="session")
def any_sandbox(data_dir: Path) -> Sandbox:
    """The command as it is by itself, for every test of the run."""
    need("user-namespaces", "overlay")
    return Sandbox(data_dir)


@pytest.fixture
def sandbox(any_sandbox: Sandbox) -> Iterator[Sandbox]:
    """The command as it is by itself. No session's directory is left by a test."""
    before = any_sandbox.left()
    yield any_sandbox
    assert set(any_sandbox.left()) <= set(before)


@pytest.fixture(params=["range", "single"])
def either_sandbox(request: pytest.FixtureRequest, sandbox: Sandbox) -> Sandbox:
    """The command in one mode of ids and then in the other."""
    if request.param == "range":
        need("subids")
    return Sandbox(sandbox.data, "--ids", request.param)
