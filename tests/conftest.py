"""What every test may use: a data directory of its own, and nothing of the caller's in the way."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def data_dir() -> Iterator[Path]:
    """A private data directory for this run, shared by its tests so that bases and layers are made once.

    SANDBOX_TEST_DATA names one that is kept between runs instead. Ids of a session must be able to pass
    through to what lies below, so neither the directory nor its parents are closed to others.
    """
    kept = os.environ.get("SANDBOX_TEST_DATA")
    if kept:
        place = Path(kept) / f"uid-{os.geteuid()}"
        place.mkdir(parents=True, exist_ok=True)
        place.chmod(0o711)
        yield place
        return
    place = Path(tempfile.mkdtemp(prefix="sandboxsh-tests-", dir="/var/tmp"))
    place.chmod(0o711)
    try:
        yield place
    finally:
        _remove(place)


@pytest.fixture
def empty_data_dir() -> Iterator[Path]:
    """A data directory for one test, empty."""
    place = Path(tempfile.mkdtemp(prefix="sandboxsh-test-", dir="/var/tmp"))
    place.chmod(0o711)
    try:
        yield place
    finally:
        _remove(place)


def _remove(place: Path) -> None:
    """Remove a tree, also what belongs to subordinate ids or was closed by the kernel."""
    shutil.rmtree(place, ignore_errors=True)
    for ids in (["--map-root-user", "--map-auto"], ["--map-root-user"]):
        if place.exists():
            subprocess.run(["unshare", "--user", *ids, "rm", "-rf", str(place)], check=False, timeout=60)
    if place.exists():
        raise RuntimeError(f"{place} can't be removed")
