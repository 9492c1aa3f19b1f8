"""Random and deliberately wrong requests, made from the document that the server publishes about itself."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from sandbox.emulator.embedded import Emulator
from sandbox.emulator.gate import BETA

CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"


@pytest.mark.timeout(900)
def test_no_request_brings_out_a_server_error(emulator: Emulator, tmp_path: Path) -> None:
    described = httpx.get(f"{emulator.base_url}/openapi.json").json()
    assert "/v1/agents/{agent_id}" in described["paths"]
    done = subprocess.run(
        [
            str(Path(sys.executable).with_name("schemathesis")),
            "run",
            f"{emulator.base_url}/openapi.json",
            f"--checks={CHECKS}",
            "--phases=examples,coverage,fuzzing",
            "--max-examples=15",
            "--no-shrink",
            "--warnings=off",
            "--suppress-health-check=all",
            f"--header=anthropic-beta: {BETA}",
            "--header=x-api-key: any",
            "--request-timeout=60",
            # Where all must work, the requests are the same ones in each run.
            *(["--generation-deterministic"] if os.environ.get("SANDBOX_MUST_WORK") == "1" else []),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=840,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    # The checks were made: a run that finds nothing to do would end well, too.
    found = re.search(r"(\d+) generated, (\d+) passed", done.stdout)
    assert found, done.stdout[-2000:]
    assert int(found[1]) == int(found[2]) > 100
