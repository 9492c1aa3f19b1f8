"""Records for a while: gone with their program, however it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import anthropic

from sandbox.emulator.embedded import Emulator
from sandbox.idmap import choose, read_host_ids
from sandbox.managed import passing

PROGRAM = """
import sys, anthropic, httpx
from sandbox.emulator.embedded import Emulator
with Emulator(sys.argv[1]) as emulator:
    client = anthropic.Anthropic(base_url=emulator.base_url, api_key=emulator.api_key)
    agent = client.beta.agents.create(name="a", model="claude-opus-5-5")
    environment = client.beta.environments.create(name="e")
    session = client.beta.sessions.create(agent=agent.id, environment_id=environment.id)
    done = httpx.post(f"{emulator.base_url}/sandbox/sessions/{session.id}/exec",
        json={"command": ["sh", "-c", "echo kept >/root/file; echo done"]}, headers={"x-api-key": "k"}, timeout=60)
    print(session.id, done.json()["stdout"].strip(), flush=True)
    sys.stdin.read()
"""


def left(data: Path) -> list[str]:
    found = [path.name for path in data.glob("emulator-*")]
    return found + [path.name for path in data.glob("containers/*/*")]


def test_what_a_program_left_is_gone_with_it_or_with_the_next(empty_data_dir: Path) -> None:
    ids = choose(read_host_ids(), None)
    for kill in (False, True):
        with subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(empty_data_dir)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as program:
            assert program.stdout is not None
            session, said = program.stdout.readline().split()
            assert said == "done"
            assert session in left(empty_data_dir)
            # It is alive: nobody takes it for dead.
            assert passing.sweep(str(empty_data_dir), ids) == 0
            if kill:
                os.kill(program.pid, signal.SIGKILL)
            else:
                program.communicate("")
            program.wait()
        assert bool(left(empty_data_dir)) == kill
    with (
        Emulator(str(empty_data_dir)) as next_one,
        anthropic.Anthropic(base_url=next_one.base_url, api_key="k") as client,
    ):
        assert session not in left(empty_data_dir)
        assert list(client.beta.sessions.list()) == []
    assert left(empty_data_dir) == []
