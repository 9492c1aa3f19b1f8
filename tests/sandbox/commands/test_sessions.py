"""``sandboxctl session``, the real command, with and without a server beside it."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anthropic
import pytest

from sandbox.emulator.embedded import Emulator
from tests.capabilities import need
from tests.emulator.talking import is_idle, message, results, said, send, until
from tests.emulator.test_serving import serving
from tests.sessions.running import SANDBOXCTL, Ran, control, eventually

ENVIRONMENT = "name: e\nconfig: {type: cloud, networking: {type: limited}}\n"


@pytest.fixture(autouse=True)
def _containers() -> None:
    need("user-namespaces", "overlay")


@pytest.fixture
def made(empty_data_dir: Path, tmp_path: Path) -> Iterator[str]:
    """A session of an agent with the agent toolset."""
    (tmp_path / "e.yaml").write_text(ENVIRONMENT)
    assert control(empty_data_dir, "env", "create", str(tmp_path / "e.yaml")).code == 0
    (tmp_path / "a.yaml").write_text("name: a\nmodel: m\ntools: [{type: agent_toolset_20260401}]\n")
    agent = control(empty_data_dir, "agent", "create", str(tmp_path / "a.yaml")).out.split()[1]
    done = session(empty_data_dir, "create", "--agent", agent, "--env", "e", "--title", "t")
    assert done.code == 0, done
    identifier = done.out.strip()
    yield identifier
    assert session(empty_data_dir, "delete", identifier).code == 0


def session(data: Path, *arguments: str) -> Ran:
    return control(data, "session", *arguments)


def test_a_session_is_made_listed_shown_and_deleted(empty_data_dir: Path, made: str) -> None:
    assert session(empty_data_dir, "list").out.split() == [made, "idle", "a", "t"]
    (listed,) = json.loads(session(empty_data_dir, "list", "--json").out)
    assert (listed["id"], listed["status"]) == (made, "idle")
    assert session(empty_data_dir, "list", "--status", "terminated").out == ""
    assert json.loads(session(empty_data_dir, "show", made[-8:], "--json").out)["title"] == "t"
    assert "title: t" in session(empty_data_dir, "show", made).out
    assert json.loads(session(empty_data_dir, "show", made[:8], "--json").out)["id"] == made
    for arguments, word in (
        (("show", "sesn_none"), "sesn_none"),
        (("delete", ""), "no session"),
        (("delete", "sesn_"), "no session sesn_"),
        (("stop", made[-3:]), "no session"),
        (("create", "--agent", "agent_none", "--env", "e"), "agent_none"),
        (("create", "--env", "e"), "agent"),
        (("send", made), "nothing to send"),
        (("list", "--status", "asleep"), "asleep"),
        (("outputs", made, "nosuch"), "nosuch"),
    ):
        done = session(empty_data_dir, *arguments)
        assert (done.code, word in done.err) == (2, True), done


def test_a_message_is_sent_and_what_happens_is_told(empty_data_dir: Path, made: str) -> None:
    done = session(empty_data_dir, "send", made, "--run", "cd /tmp; echo hi", "--run", "pwd; false")
    assert done.code == 0, done
    lines = [line.strip() for line in done.out.splitlines()]
    assert lines.index("hi") < lines.index("/tmp")
    assert lines[-1].endswith("session.status_idle  end_turn")
    logs = session(empty_data_dir, "logs", made)
    assert [line.strip() for line in logs.out.splitlines()][-1] == lines[-1]
    kinds = [
        json.loads(line)["type"] for line in session(empty_data_dir, "logs", made, "--json").out.splitlines()
    ]
    assert kinds[0] == "session.status_running"
    assert kinds[-1] == "session.status_idle"


def test_a_command_runs_with_the_caller_s_streams(empty_data_dir: Path, made: str) -> None:
    command = [SANDBOXCTL, "--data", str(empty_data_dir), "session", "exec"]

    def run(*arguments: str, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [*command, *arguments], input=given, capture_output=True, timeout=60, check=False
        )

    data = os.urandom(1 << 20)
    assert run(made, "cat", given=data).stdout == data
    done = run("-w", "/tmp", "-e", "A=b", made, "--", "sh", "-c", "pwd; echo $A; echo err >&2; exit 3")
    assert (done.returncode, done.stdout, done.stderr) == (3, b"/tmp\nb\n", b"err\n")
    missing = run(made, "nosuch")
    assert (missing.returncode, b"not found" in missing.stderr) == (127, True)
    assert run("-e", "A", made, "true").returncode == 2


def test_a_shell_has_a_terminal(empty_data_dir: Path, made: str) -> None:
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(SANDBOXCTL, [SANDBOXCTL, "--data", str(empty_data_dir), "session", "shell", made])
    said = bytearray()

    def listen() -> None:
        try:
            while piece := os.read(terminal, 4096):
                said.extend(piece)
        except OSError:
            return

    thread = threading.Thread(target=listen)
    thread.start()
    eventually(lambda: said, "a prompt")
    os.write(terminal, b"tty; echo $((6 * 7)); exit 5\r")
    _, status = os.waitpid(pid, 0)
    thread.join()
    os.close(terminal)
    assert os.waitstatus_to_exitcode(status) == 5, bytes(said)
    assert b"/dev/pts/" in said
    assert b"42" in said


def test_what_a_session_does_can_be_looked_at(empty_data_dir: Path, made: str) -> None:
    assert session(empty_data_dir, "ps", made).out.split() == [
        "PID",
        "PARENT",
        "CPU",
        "s",
        "MEMORY",
        "COMMAND",
    ]
    script = "echo a > /root/new; echo out > /mnt/session/outputs/f; sleep 600 >/dev/null 2>&1 &"
    assert session(empty_data_dir, "exec", made, "sh", "-c", script).code == 0
    assert "sleep 600" in session(empty_data_dir, "ps", made).out
    stats = json.loads(session(empty_data_dir, "stats", made, "--json").out)
    assert (stats["running"], stats["processes"] >= 2) == (True, True)
    assert "A /root/new" in session(empty_data_dir, "diff", made).out.splitlines()
    assert session(empty_data_dir, "outputs", made).out.split() == ["4", "f"]
    assert session(empty_data_dir, "outputs", made, "f").out == "out\n"
    assert session(empty_data_dir, "egress", made).out == ""
    assert session(empty_data_dir, "stop", made).out.strip() == made
    assert json.loads(session(empty_data_dir, "stats", made, "--json").out)["running"] is False
    assert session(empty_data_dir, "exec", made, "cat", "/root/new").out == "a\n"


def test_a_time_limit_ends_a_command_as_that_of_sandboxsh_does(empty_data_dir: Path, made: str) -> None:
    done = session(empty_data_dir, "exec", "--timeout", "2.5", made, "sh", "-c", "echo begun; sleep 600")
    assert (done.code, done.out) == (124, "begun\n")
    assert "time limit ended the command after 2.5 s" in done.err
    assert session(empty_data_dir, "exec", "--timeout", "60", made, "sh", "-c", "exit 7").code == 7


def test_server_and_commands_share_a_session(empty_data_dir: Path, made: str) -> None:
    with (
        Emulator(str(empty_data_dir), keep=True) as emulator,
        anthropic.Anthropic(base_url=emulator.base_url, api_key="k", max_retries=0) as client,
    ):
        with client.beta.sessions.events.stream(made) as stream:
            done = session(empty_data_dir, "send", made, "--run", "echo here > /root/f", "--json")
            assert done.code == 0, done
            kinds = [json.loads(line)["type"] for line in done.out.splitlines()]
            seen: list[Any] = []
            for event in stream:
                seen.append(event.type)
                if event.type == "session.status_idle":
                    break
            assert seen == kinds
        answer: Any = client.post(
            f"/sandbox/sessions/{made}/exec", body={"command": "cat /root/f"}, cast_to=object
        )
        assert answer["stdout"] == "here\n"
        assert session(empty_data_dir, "exec", made, "cat", "/root/f").out == "here\n"


def test_a_command_that_is_killed_leaves_a_turn_that_the_next_one_ends(
    empty_data_dir: Path, made: str
) -> None:
    process = subprocess.Popen(
        [SANDBOXCTL, "--data", str(empty_data_dir), "session", "send", made, "--run", "sleep 600"],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    with process:
        assert process.stdout is not None
        for line in process.stdout:
            if "agent.tool_use" in line:
                break
        process.send_signal(signal.SIGKILL)
    done = session(empty_data_dir, "send", made, "--run", "echo on")
    lines = [line.strip() for line in done.out.splitlines()]
    assert "ran this turn died" in done.out
    assert done.code == 1
    assert lines[-1].endswith("session.status_idle  retries_exhausted")
    assert "on" in [
        line.strip() for line in session(empty_data_dir, "send", made, "--run", "echo on").out.splitlines()
    ]


def test_a_server_ends_the_turn_of_a_command_that_is_killed_beside_it(
    empty_data_dir: Path, made: str
) -> None:
    with sending(empty_data_dir, made, "sleep 600") as process:
        until_it_runs(process)
        with (
            Emulator(str(empty_data_dir), keep=True) as emulator,
            anthropic.Anthropic(base_url=emulator.base_url, api_key="k", max_retries=0) as client,
            client.beta.sessions.events.stream(made) as stream,
        ):
            process.kill()
            for event in stream:
                if event.type == "session.status_idle":
                    assert event.stop_reason.type == "retries_exhausted"
                    break


@contextmanager
def sending(data: Path, made: str, command: str) -> Iterator[subprocess.Popen[str]]:
    """A command that sends something, and waits."""
    line = [SANDBOXCTL, "--data", str(data), "session", "send", made, "--run", command]
    env = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True, env=env) as process:
        try:
            yield process
        finally:
            process.kill()


def until_it_runs(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    assert any("agent.tool_use" in line for line in process.stdout)


def shown(data: Path, made: str, command: str) -> str:
    done = session(data, "send", made, "--run", command)
    assert done.code == 0, done
    return done.out


def test_server_and_commands_share_one_shell(empty_data_dir: Path, made: str) -> None:
    with (
        Emulator(str(empty_data_dir), keep=True) as emulator,
        anthropic.Anthropic(base_url=emulator.base_url, api_key="k", max_retries=0) as client,
    ):
        shown(empty_data_dir, made, "cd /usr/share; own=kept")
        assert "/usr/share kept" in shown(empty_data_dir, made, 'echo "$PWD" "$own"')
        (answer,) = results(said(client, made, message('echo "$PWD" "$own"')))
        assert answer == ("/usr/share kept", False)
        # Who sent it may go; the turn is the server's.
        with client.beta.sessions.events.stream(made) as stream:
            with sending(empty_data_dir, made, "sleep 600") as process:
                until(stream, lambda event: bool(event.type == "agent.tool_use"))
                process.kill()
            send(client, made, {"type": "user.interrupt"})
            found = until(stream, is_idle)
        assert found[-1].stop_reason.type == "end_turn"
    # Nobody serves: the command has one of its own.
    assert "/workspace" in shown(empty_data_dir, made, 'echo "$PWD" "$own"')


def test_a_command_takes_over_from_a_server_that_is_killed(empty_data_dir: Path, made: str) -> None:
    with serving(empty_data_dir) as (server, _), sending(empty_data_dir, made, "sleep 600") as process:
        until_it_runs(process)
        server.kill()
        assert process.stdout is not None
        told = process.stdout.read()
        assert "ran this turn died" in told
        assert process.wait(60) == 1
    assert "on" in [line.strip() for line in shown(empty_data_dir, made, "echo on").splitlines()]


def test_the_command_is_the_one_of_this_tree() -> None:
    assert Path(SANDBOXCTL).parent == Path(sys.executable).parent
