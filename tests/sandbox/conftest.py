"""The ids of sessions on this machine."""

from __future__ import annotations

import pytest

from sandbox import idmap
from sandbox.idmap import IdMap
from tests.capabilities import need


@pytest.fixture(params=["range", "single"])
def ids(request: pytest.FixtureRequest) -> IdMap:
    """A map of each mode that this machine allows."""
    need("user-namespaces")
    if request.param == "range":
        need("subids")
    return idmap.choose(idmap.read_host_ids(), request.param)
