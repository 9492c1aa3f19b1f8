"""For pytest: a fixture ``emulator``, which needs nothing but this package to be installed.

The test's own code is led to it by ``ANTHROPIC_BASE_URL`` and ``ANTHROPIC_API_KEY``, as long as the test runs::

    def test_it(emulator):
        client = anthropic.Anthropic()

``emulator_options`` may be overridden with what ``Emulator`` takes, for a module or for all tests.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from sandbox.emulator.embedded import Emulator


@pytest.fixture
def emulator_options() -> dict[str, Any]:
    """Arguments for ``Emulator``: none, unless a test says otherwise."""
    return {}


@pytest.fixture
def emulator(emulator_options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> "Iterator[Emulator]":
    """A Managed Agents API of the test's own, empty at the start and gone at the end."""
    # Loaded only where it is used: every run of pytest on this machine loads the plugin.
    from sandbox.emulator.embedded import Emulator

    with Emulator(**emulator_options) as running:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", running.base_url)
        monkeypatch.setenv("ANTHROPIC_API_KEY", running.api_key)
        monkeypatch.delenv("ANTHROPIC_AUTH_TOKEN", raising=False)
        yield running
