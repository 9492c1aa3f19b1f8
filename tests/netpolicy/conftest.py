"""What tests of the wall share."""

from __future__ import annotations

import pytest

from netpolicy import reactor
from tests.netpolicy.looping import Clock


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of every reactor that runs in the test."""
    made = Clock()
    monkeypatch.setattr(reactor, "monotonic", made)
    return made
