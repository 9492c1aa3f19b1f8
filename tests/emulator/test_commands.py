"""Commands in sessions by the route beside the API."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anthropic
import pytest

from sandbox.emulator.embedded import Emulator
from tests.capabilities import need
from tests.emulator.talking import a_session, an_environment, run
from tests.sessions.running import eventually, mark, marked


@pytest.fixture(autouse=True)
def _containers() -> None:
    need("user-namespaces", "overlay")


def test_a_command_and_what_came_of_it(client: anthropic.Anthropic) -> None:
    session = a_session(client)
    done = run(client, session, ["sh", "-c", "cat; echo err >&2; exit 3"], stdin="in")
    assert done == {
        "exit_code": 3,
        "stdout": "in",
        "stderr": "err\n",
        "timed_out": False,
        "omitted": 0,
        "message": "",
    }
    given = run(client, session, "pwd; echo $A", workdir="/tmp", env={"A": "b"})
    assert given["stdout"] == "/tmp\nb\n"
    late = run(client, session, ["sleep", "600"], timeout_s=0.2)
    assert (late["timed_out"], late["exit_code"]) == (True, 137)
    missing = run(client, session, ["nosuch"])
    assert (missing["exit_code"], "not found" in missing["message"]) == (127, True)


CASES: tuple[dict[str, Any], ...] = (
    {},
    {"command": []},
    {"command": ""},
    {"command": [""]},
    {"command": ["a\0b"]},
    {"command": "true", "timeout_s": 0},
    {"command": "true", "env": {"A=B": "c"}},
    {"command": "true", "colour": "red"},
)


@pytest.mark.parametrize("body", CASES, ids=str)
def test_what_is_no_command_is_refused(client: anthropic.Anthropic, body: dict[str, Any]) -> None:
    session = a_session(client)
    with pytest.raises(anthropic.BadRequestError):
        client.post(f"/sandbox/sessions/{session}/exec", body=body, cast_to=object)


def test_a_session_of_somebody_else_s_machines_runs_nothing_here(client: anthropic.Anthropic) -> None:
    session = a_session(client, environment_id=an_environment(client, type="self_hosted"))
    with pytest.raises(anthropic.BadRequestError, match="self_hosted"):
        run(client, session, "true")


def test_processes_stop_when_idle_and_files_stay(emulator: Emulator, client: anthropic.Anthropic) -> None:
    session = a_session(client)
    live = emulator.service.live
    live.idle_s = 0.2
    marker = mark()
    started = f"echo kept > /root/file; sleep {marker} >/dev/null 2>&1 & cat /proc/$!/cmdline"
    assert run(client, session, started)["exit_code"] == 0
    eventually(lambda: not live.containers.running() and not marked(marker), "the end of its processes")
    assert run(client, session, "cat /root/file")["stdout"] == "kept\n"
    begun = time.monotonic()
    assert run(client, session, "sleep 0.5; echo busy")["stdout"] == "busy\n"
    assert time.monotonic() - begun >= 0.5


def test_the_end_of_the_server_ends_what_runs(emulator: Emulator, client: anthropic.Anthropic) -> None:
    session = a_session(client)
    marker = mark()
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(run, client, session, ["sleep", marker])
        eventually(lambda: marked(marker), "the command")
        emulator.stop()
        assert isinstance(running.exception(), anthropic.APIError)
    assert not marked(marker)
