"""The demonstration, as a new user runs it: the whole main job through the commands themselves."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.capabilities import need

ROOT = Path(__file__).parents[2]


@pytest.mark.timeout(900)
def test_everything_that_the_demonstration_shows_is_so(data_dir: Path) -> None:
    need("user-namespaces", "overlay", "registries", "mmdebstrap")
    done = subprocess.run(
        ["scripts/demo"],
        cwd=ROOT,
        env={**os.environ, "SANDBOXSH_DATA": str(data_dir)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=800,
        check=False,
    )
    table = [line.split(maxsplit=1) for line in done.stdout.splitlines() if line]
    assert (done.returncode, {verdict for verdict, _ in table}) == (0, {"yes"}), done
    assert len(table) == 12
