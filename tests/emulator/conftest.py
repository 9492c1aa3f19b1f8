"""A served emulator with an empty data directory, and the official client that talks to it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import anthropic
import pytest

from sandbox.emulator.embedded import Emulator


@pytest.fixture
def emulator(empty_data_dir: Path) -> Iterator[Emulator]:
    with Emulator(str(empty_data_dir), keep=True) as running:
        yield running


@pytest.fixture
def client(emulator: Emulator) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=emulator.base_url, api_key=emulator.api_key, max_retries=0) as made:
        yield made
