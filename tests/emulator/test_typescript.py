"""The official TypeScript SDK, installed by npm, on Node."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

from sandbox.emulator.embedded import Emulator
from tests.capabilities import need

PACKAGE = "@anthropic-ai/sdk@1"
PROGRAM = Path(__file__).parent / "typescript" / "journey.mjs"


def test_a_program_written_for_the_hosted_service_runs_to_its_end(emulator: Emulator, tmp_path: Path) -> None:
    """`emulator` has set the base URL and the key in the environment, which is all that the program gets."""
    need("node", "npm")
    (tmp_path / "package.json").write_text('{"name": "journey", "private": true, "type": "module"}')
    shutil.copy(PROGRAM, tmp_path / "journey.mjs")
    install = ["npm", "install", "--no-audit", "--no-fund", "--no-package-lock", PACKAGE]
    subprocess.run(install, cwd=tmp_path, capture_output=True, text=True, timeout=200, check=True)
    done = subprocess.run(
        ["node", "journey.mjs"], cwd=tmp_path, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert seen["networking"] == "limited"
    assert seen["agentVersion"] == 1
    assert seen["agents"] == ["a3", "a2", "a1", "a0", "typescript"]
    assert seen["missing"] == [True, 404, True]
    assert seen["taken"] == [True, 409]
    assert seen["uploaded"] == ["given.txt", 16, False]
    assert seen["status"] == "idle"
    assert seen["result"] == "from typescript"
    assert seen["stopReason"] == "end_turn"
    order = ["session.status_running", "agent.tool_use", "agent.tool_result", "session.status_idle"]
    assert [kind for kind in seen["streamed"] if kind in order] == order
    assert set(order) <= set(seen["listed"])
    assert seen["outputs"] == [["answer.txt", True, "from typescript\n"]]
    assert seen["deleted"] == "session_deleted"
    assert seen["environmentDeleted"] == "environment_deleted"
