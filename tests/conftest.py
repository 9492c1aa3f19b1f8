"""What every test may use: a data directory of its own, and nothing of the caller's in the way."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

# Properties keep nothing between runs: a checkout may be read-only to who tests it. How long an example takes tells
# how busy the machine is, and nothing of the code. Where all must work, a run tries the same examples as the one
# before: new ones are for those who can look into what they find.
hypothesis.settings.register_profile(
    "suite",
    database=None,
    deadline=None,
    derandomize=os.environ.get("SANDBOX_MUST_WORK") == "1",
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("suite")


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
