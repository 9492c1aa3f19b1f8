"""The fixture in somebody else's project, which has no conftest of ours."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

THEIRS = """
import anthropic, os, pytest

SEEN = []

@pytest.mark.parametrize("turn", [1, 2])
def test_each_test_has_an_empty_emulator_of_its_own(emulator, turn):
    with anthropic.Anthropic() as client:
        assert list(client.beta.agents.list()) == []
        client.beta.agents.create(name="a", model="claude-opus-5-5")
        assert str(client.base_url).rstrip("/") == emulator.base_url
    SEEN.append(emulator.base_url)

def test_the_variables_are_gone_afterwards():
    assert len(SEEN) == 2
    assert "ANTHROPIC_BASE_URL" not in os.environ
"""


def test_a_project_gets_the_fixture_by_installing_the_package(tmp_path: Path, empty_data_dir: Path) -> None:
    (tmp_path / "test_theirs.py").write_text(THEIRS)
    variables = {name: value for name, value in os.environ.items() if not name.startswith("ANTHROPIC")}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_theirs.py"],
        cwd=tmp_path,
        env={**variables, "SANDBOXSH_DATA": str(empty_data_dir)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 passed" in done.stdout
    assert not list(empty_data_dir.glob("emulator-*"))
