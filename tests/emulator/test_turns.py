"""Turns of the deterministic agent: its shell, its permissions, its interruptions."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import anthropic
import pytest

from sandbox.emulator.embedded import Emulator
from sandbox.managed import records, turns
from sandbox.managed.records import Turn
from tests.capabilities import need
from tests.emulator.talking import (
    a_session,
    an_agent,
    an_environment,
    is_idle,
    message,
    results,
    run,
    said,
    send,
    types,
    until,
)
from tests.sessions.running import eventually

ASK: list[Any] = [
    {
        "type": "agent_toolset_20260401",
        "configs": [{"name": "bash", "permission_policy": {"type": "always_ask"}}],
    }
]
INTERRUPT = {"type": "user.interrupt"}


@pytest.fixture(autouse=True)
def _containers() -> None:
    need("user-namespaces", "overlay")


def confirm(call: str, result: str = "allow", **more: str) -> dict[str, Any]:
    return {"type": "user.tool_confirmation", "tool_use_id": call, "result": result, **more}


CASES = {
    "output": ("echo out; echo err >&2", "out\nerr", False),
    "nothing": ("true", "(no output)", False),
    "failure": ("echo why; exit_with() { return 3; }; exit_with", "why", True),
    "failure without a word": ("false", "(no output)", True),
    "no such program": ("nosuch", "command not found", True),
    "a mistake in the syntax": ("if then", "syntax error", True),
    "an open quote": ("echo 'a", "unexpected EOF", True),
    "colours": ("printf '\\033[1;31mred\\033[0m \\033]0;title\\007plain'", "red plain", False),
    "here documents": ("cat <<'END'\na 'b' $c\nEND", "a 'b' $c", False),
    "no input": ("cat", "(no output)", False),
    "other alphabets": ("echo äß√", "äß√", False),
    "bytes that are no text": ("printf 'a\\377b'", "a\ufffdb", False),
}


@pytest.mark.parametrize("case", CASES)
def test_what_a_command_says(client: anthropic.Anthropic, case: str) -> None:
    command, text, is_error = CASES[case]
    ((got, failed),) = results(said(client, a_session(client), message(command)))
    assert (text in got if is_error else text == got, failed) == (True, is_error), got


def test_the_shell_lasts_from_command_to_command_and_turn_to_turn(client: anthropic.Anthropic) -> None:
    session = a_session(client)
    first = said(client, session, message("cd /tmp; A=1; export B=2; f() { echo f$1; }", "pwd; echo $A; f 3"))
    assert results(first) == [("(no output)", False), ("/tmp\n1\nf3", False)]
    assert results(said(client, session, message("pwd; echo $A$B")))[0][0] == "/tmp\n12"


def test_a_shell_that_ended_is_started_again(client: anthropic.Anthropic) -> None:
    session = a_session(client)
    events = said(
        client, session, message("A=1", "echo bye; exit 3", "echo again $A", "kill -9 $$", "echo on")
    )
    assert results(events) == [
        ("(no output)", False),
        ("bye", True),
        ("again", False),
        ("bash: bash session terminated; restart required", True),
        ("on", False),
    ]


def test_long_output_keeps_its_end(client: anthropic.Anthropic) -> None:
    ((text, failed),) = results(said(client, a_session(client), message("seq 1 200000")))
    assert not failed
    assert text.startswith("[output truncated]\n")
    assert text.endswith("\n199999\n200000")
    assert 100 << 10 >= len(text) - len("[output truncated]\n") >= (100 << 10) - 10


def test_a_command_that_takes_too_long_is_ended(
    client: anthropic.Anthropic, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sandbox.managed.shell.TIMEOUT_S", 2.5)
    session = a_session(client)
    events = said(client, session, message("sleep 600 & sleep 600", "echo on"))
    assert results(events) == [("bash: bash command timed out after 2.5s", True), ("on", False)]
    look = "cat /proc/[0-9]*/cmdline"
    eventually(lambda: "sleep" not in run(client, session, look)["stdout"], "the end of what it started")


def test_what_is_left_in_the_background_goes_on(client: anthropic.Anthropic) -> None:
    session = a_session(client)
    said(client, session, message("(sleep 0.2; echo late > /root/late) &"))
    eventually(lambda: run(client, session, "cat /root/late")["stdout"] == "late\n", "what was left to do")


def test_an_interrupt_ends_the_turn(client: anthropic.Anthropic) -> None:
    session = a_session(client)
    with client.beta.sessions.events.stream(session) as stream:
        send(client, session, message("echo $$ > /root/pid; sleep 600", "echo never"))
        until(stream, lambda event: event.type == "agent.tool_use")
        eventually(lambda: run(client, session, "cat /root/pid")["exit_code"] == 0, "the command")
        (interrupt,) = send(client, session, INTERRUPT)
        assert interrupt.processed_at is None
        events = until(stream, is_idle)
    assert results(events) == [("bash: the command was interrupted", True)]
    assert events[-1].stop_reason.type == "end_turn"
    assert "agent.message" not in types(events)
    assert [event.processed_at is None for event in events if event.id == interrupt.id] == [True, False]
    assert run(client, session, "kill -0 $(cat /root/pid)")["exit_code"] != 0
    assert results(said(client, session, message("echo on"))) == [("on", False)]


def test_an_interrupt_of_nothing_is_taken(client: anthropic.Anthropic) -> None:
    session = a_session(client)
    (interrupt,) = send(client, session, INTERRUPT)
    assert interrupt.processed_at is not None
    assert types(list(client.beta.sessions.events.list(session))) == ["user.interrupt"]


def test_messages_wait_for_their_turn(client: anthropic.Anthropic) -> None:
    session = a_session(client)
    with client.beta.sessions.events.stream(session) as stream:
        send(client, session, message("until [ -e /root/go ]; do sleep 0.01; done; echo one"))
        until(stream, lambda event: event.type == "agent.tool_use")
        (second,) = send(client, session, message("echo two"))
        (third,) = send(client, session, message("echo three"))
        waiting = {event.id: event for event in client.beta.sessions.events.list(session)}
        assert [waiting[event.id].processed_at for event in (second, third)] == [None, None]
        run(client, session, "touch /root/go")
        events = until(stream, is_idle)
    assert results(events) == [("one", False), ("two", False), ("three", False)]
    processed = [event.id for event in events if event.type == "user.message" and event.processed_at]
    assert processed == [second.id, third.id]


def test_an_interrupt_and_another_message(client: anthropic.Anthropic) -> None:
    session = a_session(client)
    with client.beta.sessions.events.stream(session) as stream:
        send(client, session, message("sleep 600"))
        until(stream, lambda event: event.type == "agent.tool_use")
        send(client, session, INTERRUPT, message("echo instead"))
        first, second = until(stream, is_idle), until(stream, is_idle)
    assert results(first) == [("bash: the command was interrupted", True)]
    assert results(second) == [("instead", False)]


def test_sessions_work_side_by_side(client: anthropic.Anthropic) -> None:
    environment, agent = an_environment(client), an_agent(client)
    one, other = (a_session(client, agent=agent, environment_id=environment) for _ in range(2))
    with client.beta.sessions.events.stream(one) as stream:
        send(client, one, message("until [ -e /root/go ]; do sleep 0.01; done; echo done"))
        assert results(said(client, other, message("echo quick"))) == [("quick", False)]
        run(client, one, "touch /root/go")
        assert results(until(stream, is_idle)) == [("done", False)]


def test_a_tool_that_has_to_be_asked_for(client: anthropic.Anthropic) -> None:
    session = a_session(client, agent=an_agent(client, tools=ASK))
    asked = said(client, session, message("echo one", "echo two", "echo three"))
    calls = [event for event in asked if event.type == "agent.tool_use"]
    assert [call.evaluated_permission for call in calls] == ["ask"] * 3
    one, two, three = (call.id for call in calls)
    assert asked[-1].stop_reason.type == "requires_action"
    assert asked[-1].stop_reason.event_ids == [one, two, three]
    assert client.beta.sessions.retrieve(session).status == "idle"

    part = said(client, session, confirm(two, "deny", deny_message="not that"))
    assert types(part) == ["user.tool_confirmation", "user.tool_confirmation", "session.status_idle"]
    assert part[-1].stop_reason.event_ids == [one, three]
    with pytest.raises(anthropic.NotFoundError):
        send(client, session, confirm(two))

    rest = said(client, session, confirm(three), confirm(one))
    assert results(rest) == [("one", False), ("not that", True), ("three", False)]
    assert rest[-1].stop_reason.type == "end_turn"
    assert "agent.message" in types(rest)


def test_what_was_asked_can_be_interrupted(client: anthropic.Anthropic) -> None:
    session = a_session(client, agent=an_agent(client, tools=ASK))
    asked = said(client, session, message("echo one"))
    (later,) = send(client, session, message("echo two"))
    given_up = said(client, session, INTERRUPT)
    assert given_up[-1].stop_reason.type == "end_turn"
    assert results(given_up)[0][1]
    eventually(
        lambda: [
            event
            for event in client.beta.sessions.events.list(session, types=["session.status_idle"])
            if event.type == "session.status_idle" and event.stop_reason.type == "requires_action"
        ][1:],
        "the question of the second message",
    )
    with pytest.raises(anthropic.NotFoundError):
        send(client, session, confirm(asked[-1].stop_reason.event_ids[0]))
    assert later.type == "user.message"


def test_a_question_survives_the_server(empty_data_dir: Path) -> None:
    with Emulator(str(empty_data_dir), keep=True) as first, a_client(first) as client:
        session = a_session(client, agent=an_agent(client, tools=ASK))
        run(client, session, "echo kept > /root/file")
        (call,) = said(client, session, message("cat /root/file"))[-1].stop_reason.event_ids
    with Emulator(str(empty_data_dir), keep=True) as second, a_client(second) as client:
        assert results(said(client, session, confirm(call))) == [("kept", False)]


def a_client(emulator: Emulator) -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=emulator.base_url, api_key="k", max_retries=0)


@pytest.mark.parametrize(
    "tools", [[], [{"type": "agent_toolset_20260401", "configs": [{"name": "bash", "enabled": False}]}]]
)
def test_a_tool_that_is_off_is_not_run(client: anthropic.Anthropic, tools: list[Any]) -> None:
    session = a_session(client, agent=an_agent(client, tools=tools))
    events = said(client, session, message("touch /root/was-here"))
    (call,) = (event for event in events if event.type == "agent.tool_use")
    assert (call.evaluated_permission, call.evaluation) == ("deny", None)
    assert results(events) == [("bash is not enabled for this agent.", True)]
    assert run(client, session, "test -e /root/was-here")["exit_code"] == 1


def test_a_session_that_can_not_be_started_says_why(
    client: anthropic.Anthropic, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sandbox.errors import HostError
    from sandbox.managed import machines

    def fail(*_: object) -> None:
        raise HostError("no room", hint="free some space")

    session = a_session(client)
    monkeypatch.setattr(machines, "Shell", fail)
    events = said(client, session, message("echo one"))
    assert types(events)[-5:] == [
        "agent.tool_result",
        "span.model_request_end",
        "session.error",
        "session.usage",
        "session.status_idle",
    ]
    (error,) = (event.error for event in events if event.type == "session.error")
    assert (error.message, error.retry_status.type) == ("no room; free some space", "exhausted")
    assert events[-1].stop_reason.type == "retries_exhausted"
    monkeypatch.undo()
    assert results(said(client, session, message("echo on"))) == [("on", False)]


def test_a_build_that_fails_is_told_with_the_end_of_its_log(
    client: anthropic.Anthropic, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sandbox.managed import builds, machines

    def fail(_: object, environment: dict[str, Any], **__: object) -> None:
        problem = {"message": "pip: no such package", "lines": ["ERROR: one", "ERROR: two"]}
        raise builds.failure(environment, problem)

    session = a_session(client)
    monkeypatch.setattr(machines, "Shell", missing_container)
    monkeypatch.setattr(machines, "await_image", fail)
    events = said(client, session, message("echo one", "echo two"))
    (error,) = (event.error for event in events if event.type == "session.error")
    assert error.message.splitlines()[1:] == ["ERROR: one", "ERROR: two"]
    assert "pip: no such package" in error.message
    assert events[-1].stop_reason.type == "retries_exhausted"
    assert len(results(events)) == 1


def missing_container(*_: object) -> None:
    from sandbox.containers.directory import NoContainerError

    raise NoContainerError("there is none yet")


def test_a_turn_that_waits_for_a_build_can_be_interrupted(
    client: anthropic.Anthropic, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sandbox.managed import machines
    from sandbox.managed.failures import Refused

    def wait(*_: object, **__: object) -> None:
        raise Refused("timeout_error", "not yet")

    session = a_session(client)
    monkeypatch.setattr(machines, "Shell", missing_container)
    monkeypatch.setattr(machines, "await_image", wait)
    with client.beta.sessions.events.stream(session) as stream:
        send(client, session, message("echo never"))
        until(stream, lambda event: event.type == "agent.tool_use")
        send(client, session, INTERRUPT)
        events = until(stream, is_idle)
    assert results(events) == [("bash: the command was interrupted", True)]
    assert events[-1].stop_reason.type == "end_turn"


def test_a_turn_that_was_begun_by_a_dead_process_ends_with_an_error(
    emulator: Emulator, client: anthropic.Anthropic
) -> None:
    session = a_session(client)
    service = emulator.service
    with service.database.write():
        record = records.run(service.database, records.read(service.database, session), turns.queued())
        begun = Turn("begun", "2026-01-01T00:00:00.000000Z")
        records.save(service.database, record._replace(turn=begun))
    turns.resume(service)
    eventually(lambda: client.beta.sessions.retrieve(session).status == "idle", "the end of the turn")
    events: list[Any] = list(client.beta.sessions.events.list(session))
    assert types(events)[-3:] == ["session.error", "session.usage", "session.status_idle"]
    assert events[-1].stop_reason.type == "retries_exhausted"
    assert results(said(client, session, message("echo on"))) == [("on", False)]


def test_a_turn_ends_with_the_server_and_what_was_queued_goes_with_it(empty_data_dir: Path) -> None:
    with Emulator(str(empty_data_dir), keep=True) as first, a_client(first) as client:
        session = a_session(client)
        with client.beta.sessions.events.stream(session) as stream:
            send(client, session, message("echo begun > /root/file; sleep 600"))
            until(stream, lambda event: event.type == "agent.tool_use")
            eventually(lambda: run(client, session, "cat /root/file")["exit_code"] == 0, "the command")
            send(client, session, message("echo later >> /root/file"))
    with Emulator(str(empty_data_dir), keep=True) as second, a_client(second) as client:
        assert client.beta.sessions.retrieve(session).status == "idle"
        events: list[Any] = list(client.beta.sessions.events.list(session))
        assert types(events)[-4:] == ["session.error", "user.message", "session.usage", "session.status_idle"]
        assert run(client, session, "cat /root/file")["stdout"] == "begun\n"


def test_one_session_s_turns_are_done_once_however_often_it_is_woken(
    emulator: Emulator, client: anthropic.Anthropic
) -> None:
    session = a_session(client)
    threads = [
        threading.Thread(target=send, args=(client, session, message(f"echo {number} >> /root/file")))
        for number in range(12)
    ]
    for thread in threads:
        thread.start()
        turns.wake(emulator.service, session)
    for thread in threads:
        thread.join()
    eventually(lambda: client.beta.sessions.retrieve(session).status == "idle", "the end of the turns")
    lines = run(client, session, "cat /root/file")["stdout"].split()
    assert sorted(map(int, lines)) == list(range(12))
