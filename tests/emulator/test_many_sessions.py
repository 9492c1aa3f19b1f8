"""Two hundred sessions at once, with processes: none fails, nothing stays; and the server is killed meanwhile."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import anthropic
import pytest

from sandbox.emulator.embedded import Emulator
from tests.capabilities import need
from tests.emulator.talking import an_agent, an_environment, message, run
from tests.sessions.running import children, eventually, mark, marked, mounts

MANY = 200


@pytest.fixture(autouse=True)
def _containers() -> None:
    need("user-namespaces", "overlay")


async def live_through(
    client: anthropic.AsyncAnthropic, agent: str, environment: str, marker: str, *, turn: bool
) -> None:
    """One session from its beginning to its end, with a process of its own."""
    first: list[Any] = [message("echo first > /root/file")] if turn else []
    session = await client.beta.sessions.create(agent=agent, environment_id=environment, initial_events=first)
    done: Any = await client.post(
        f"/sandbox/sessions/{session.id}/exec",
        body={"command": ["sh", "-c", f"sleep {marker} >/dev/null 2>&1 & echo $$"]},
        cast_to=object,
    )
    assert done["exit_code"] == 0, done
    if turn:
        await client.beta.sessions.events.send(session.id, events=[{"type": "user.interrupt"}])
    while (await client.beta.sessions.retrieve(session.id)).status == "running":
        await asyncio.sleep(0.05)
    await client.beta.sessions.delete(session.id)


async def all_at_once(
    base_url: str, agent: str, environment: str, marker: str, many: int
) -> list[BaseException]:
    async with anthropic.AsyncAnthropic(base_url=base_url, api_key="k", max_retries=0, timeout=240) as client:
        lives = (
            live_through(client, agent, environment, marker, turn=number % 4 == 0) for number in range(many)
        )
        found = await asyncio.gather(*lives, return_exceptions=True)
    return [each for each in found if each is not None]


def test_none_fails_and_nothing_stays(empty_data_dir: Path) -> None:
    # What other tests left for the collector must not end within this one.
    gc.collect()
    before, marker = (len(os.listdir("/proc/self/fd")), mounts()), mark()
    with Emulator(str(empty_data_dir), keep=True) as emulator:
        with anthropic.Anthropic(base_url=emulator.base_url, api_key="k") as client:
            agent, environment = an_agent(client), an_environment(client)
        assert asyncio.run(all_at_once(emulator.base_url, agent, environment, marker, MANY)) == []
        containers = emulator.service.live.containers
        assert containers.ids_of_all() == ()
        assert os.listdir(f"{containers.data}/containers/{containers.ids.name}") == []
        starter = emulator.service.live.starter_pid
        eventually(lambda: not children(starter)[1:] and not marked(marker), "the end of their processes")
        with emulator.service.database.read() as connection:
            for table in ("sessions", "unfinished"):
                assert connection.execute(f"SELECT COUNT(*) FROM {table}").fetchone() == (0,)
            left = connection.execute("SELECT DISTINCT type FROM events").fetchall()
            assert left in ([], [("session.deleted",)])
    eventually(lambda: (len(os.listdir("/proc/self/fd")), mounts()) == before, "what was open before")


def serve(data: Path) -> tuple[subprocess.Popen[str], str]:
    """A real server, and where it is."""
    command = [str(Path(sys.executable).with_name("sandboxctl")), "serve", "--data", str(data), "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout is not None
    found = re.search(r"ANTHROPIC_BASE_URL=(\S+)", process.stdout.readline())
    assert found is not None
    return process, found[1]


@pytest.mark.parametrize("delay", [random.Random(number).uniform(0.05, 2.5) for number in range(3)])
def test_a_killed_server_leaves_whole_records_and_nothing_else(empty_data_dir: Path, delay: float) -> None:
    before, marker = mounts(), mark()
    process, url = serve(empty_data_dir)
    with process, anthropic.Anthropic(base_url=url, api_key="k") as client:
        agent, environment = an_agent(client), an_environment(client)

        async def go() -> None:
            work = asyncio.create_task(all_at_once(url, agent, environment, marker, 60))
            await asyncio.sleep(delay)
            helpers = children(process.pid)
            process.send_signal(signal.SIGKILL)
            await work
            for helper in helpers:
                eventually(lambda helper=helper: not Path(f"/proc/{helper}").exists(), "the starter's end")

        asyncio.run(go())
        eventually(lambda: not marked(marker), "the end of what ran in sessions")
    with (
        Emulator(str(empty_data_dir), keep=True) as emulator,
        anthropic.Anthropic(base_url=emulator.base_url, api_key="k", max_retries=0) as client,
    ):
        emulator.service.live.await_turns()
        sessions = [session.id for session in client.beta.sessions.list(limit=100)]
        containers = emulator.service.live.containers
        assert set(containers.ids_of_all()) == set(sessions)
        parent = f"{containers.data}/containers/{containers.ids.name}"
        if os.path.isdir(parent):
            assert {name for name in os.listdir(parent) if not name.startswith(".")} == set(sessions)
        for session in sessions:
            assert client.beta.sessions.retrieve(session).status == "idle"
            list(client.beta.sessions.events.list(session))
            if session in sessions[:5]:
                assert run(client, session, "true")["exit_code"] == 0
            client.beta.sessions.delete(session)
        assert containers.ids_of_all() == ()
    assert mounts() == before
