"""A state that takes the place of what is there: whenever the process is killed, one of the two is whole."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import anthropic
import pytest

from sandbox import idmap
from sandbox.emulator.embedded import Emulator
from sandbox.managed import agents, credentials, environments, machines, resetting, sessions, state
from sandbox.managed.environments import NewEnvironment
from sandbox.managed.failures import Refused
from sandbox.managed.service import Service, open_service
from tests.capabilities import need
from tests.emulator.talking import a_session, message, said, send, until
from tests.emulator.test_state import SECRET, content, exported, fill, make
from tests.sessions.running import control, mark, marked

__all__ = ["make"]

IMPORT = """
import os, signal, sys
from sandbox import idmap
from sandbox.managed import resetting, state
from sandbox.managed.service import open_service

data, file, moment = sys.argv[1:]
def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)
if moment == "before the change":
    state._take_in = die
elif moment == "within it":
    os.rename = die
elif moment == "after it":
    resetting.machines.discard = die
service = open_service(data, idmap.choose(idmap.read_host_ids()))
with open(file, "rb") as source:
    state.load(service, source, replace=True)
service.close()
"""


@pytest.fixture(autouse=True)
def _containers() -> None:
    need("user-namespaces", "overlay")


def run(service: Service, session: str, *command: str) -> bytes:
    return machines.run(service, session, command).output


def containers(service: Service) -> set[str]:
    return set(service.live.containers.ids_of_all())


@pytest.mark.parametrize("moment", ["before the change", "within it", "after it", "never"])
def test_a_killed_import_leaves_what_was_there_or_what_it_brought(
    make: Callable[[str], Service], tmp_path: Path, moment: str
) -> None:
    here, there = make("here"), make("there")
    new, old = fill(here), fill(there)
    run(there, old["session"], "sh", "-c", "echo kept >/root/file")
    (tmp_path / "state").write_bytes(exported(here, with_secrets=True))
    done = subprocess.run(
        [sys.executable, "-c", IMPORT, there.data, tmp_path / "state", moment], timeout=120, check=False
    )
    assert done.returncode == (0 if moment == "never" else -signal.SIGKILL)
    present, gone = (old, new) if moment in ("before the change", "within it") else (new, old)
    service = open_service(there.data, idmap.choose(idmap.read_host_ids()))
    try:
        machines.sweep(service)
        assert agents.get(service.database, present["agent"])["name"] == "a"
        assert environments.get(service.database, present["environment"])["name"] == "e"
        assert credentials.reveal(service.database, service.secrets, present["credential"]) == {
            "secret_value": SECRET
        }
        assert content(service, present["file"]) == b"content"
        for table, identifier in gone.items():
            if table != "file":
                assert service.database.get(f"{table}s", identifier) is None
        with pytest.raises(Refused):
            sessions.get(service.database, gone["session"])
        if present is old:
            assert run(service, old["session"], "cat", "/root/file") == b"kept\n"
            assert containers(service) == {old["session"]}
        else:
            assert sessions.get(service.database, new["session"])["status"] == "terminated"
            assert containers(service) == set()
    finally:
        service.close()


def test_a_backup_takes_the_place_of_what_came_of_it(make: Callable[[str], Service], tmp_path: Path) -> None:
    """The same ids on both sides."""
    here = make("here")
    ids = fill(here)
    (tmp_path / "state").write_bytes(exported(here, with_secrets=True))
    run(here, ids["session"], "sh", "-c", "echo later >/root/file")
    other = environments.create(here.database, NewEnvironment("f"))
    environments.delete(here.database, other["id"])
    with open(tmp_path / "state", "rb") as source:
        state.load(here, source, replace=True)
    assert sessions.get(here.database, ids["session"])["status"] == "terminated"
    assert content(here, ids["file"]) == b"content"
    assert containers(here) == set()


def test_what_a_server_runs_is_ended_and_those_who_follow_are_told(
    empty_data_dir: Path, tmp_path: Path
) -> None:
    file, data, marker = tmp_path / "state", empty_data_dir / "data", mark()
    with Emulator(str(data), keep=True) as emulator:
        assert control(data, "state", "export", str(file)).code == 0
        with anthropic.Anthropic(base_url=emulator.base_url, api_key="k") as client:
            session = a_session(client)
            with client.beta.sessions.events.stream(session) as stream:
                send(client, session, message(f"sleep {marker}", "sleep 600"))
                until(stream, lambda event: bool(event.type == "agent.tool_use"))
                done = control(data, "state", "import", str(file), "--replace")
                assert (done.code, done.err) == (0, "imported nothing\n")
                assert [event.type for event in stream][-1] == "session.deleted"
            assert list(client.beta.sessions.list()) == list(client.beta.agents.list()) == []
            assert not marked(marker)
            assert emulator.service.live.containers.ids_of_all() == ()
            # It goes on with what there is now.
            assert said(client, a_session(client), message("true"))
        assert control(data, "state", "import", str(file)).code == 2


def test_a_session_that_can_t_be_ended_is_left_with_all_the_rest(
    make: Callable[[str], Service], monkeypatch: pytest.MonkeyPatch
) -> None:
    here = make("here")
    ids = fill(here)
    monkeypatch.setattr(resetting, "_PATIENCE_S", 0.0)
    monkeypatch.setattr(resetting, "_AGAIN_S", 0.01)
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with here.live.locks.holding(ids["session"]):
            held.set()
            done.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    try:
        assert held.wait(60)
        with pytest.raises(Refused, match="is running"):
            resetting.reset(here)
        assert agents.get(here.database, ids["agent"])
        assert sessions.get(here.database, ids["session"])["status"] == "idle"
    finally:
        done.set()
        thread.join()
    resetting.reset(here)
    assert here.database.get("agents", ids["agent"]) is None
    assert containers(here) == set()
