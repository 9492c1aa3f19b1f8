"""The emulator with an empty data directory, and the official client that talks to it."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import httpx
import pytest

from sandbox.emulator.embedded import Emulator


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server on a busy machine answers late; httpx gives up after five seconds where nothing else is said."""
    default = inspect.signature(httpx.Client).parameters["timeout"].default
    for phase in ("connect", "read", "write", "pool"):
        monkeypatch.setattr(default, phase, 60.0)


@pytest.fixture
def emulator_options(empty_data_dir: Path) -> dict[str, Any]:
    return {"data": str(empty_data_dir), "keep": True}


@pytest.fixture
def client(emulator: Emulator) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=emulator.base_url, api_key=emulator.api_key, max_retries=0) as made:
        yield made
