"""What tests of sessions say to them, and wait for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import anthropic

MODEL = "claude-opus-5-5"
TOOLS: list[Any] = [{"type": "agent_toolset_20260401"}]
Event = Any


def an_agent(client: anthropic.Anthropic, **fields: Any) -> str:
    """The id of a new agent that has the agent toolset."""
    fields = {"name": "a", "model": MODEL, "tools": TOOLS, **fields}
    return client.beta.agents.create(**fields).id


def an_environment(client: anthropic.Anthropic, name: str = "e", **config: Any) -> str:
    """The id of a new environment whose network refuses everything, unless ``config`` says otherwise."""
    config = config or {"type": "cloud", "networking": {"type": "limited"}}
    return client.beta.environments.create(name=name, config=cast(Any, config)).id


def a_session(client: anthropic.Anthropic, **fields: Any) -> str:
    """The id of a session of a new agent in a new environment."""
    fields.setdefault("agent", None)
    fields["agent"] = fields["agent"] or an_agent(client)
    if "environment_id" not in fields:
        fields["environment_id"] = an_environment(client)
    return client.beta.sessions.create(**fields).id


def message(*commands: str, text: str = "") -> dict[str, Any]:
    """A user.message with ``commands`` as blocks."""
    blocks = "\n".join(f"````bash\n{command}\n````" for command in commands)
    return {"type": "user.message", "content": [{"type": "text", "text": f"{text}\n{blocks}"}]}


def send(client: anthropic.Anthropic, session_id: str, *events: dict[str, Any]) -> list[Event]:
    return list(client.beta.sessions.events.send(session_id, events=cast(Any, events)).data or [])


def is_idle(event: Event) -> bool:
    return bool(event.type == "session.status_idle")


def until(events: Iterator[Event], wanted: Callable[[Event], bool]) -> list[Event]:
    """Events up to the first that is ``wanted``."""
    found = []
    for event in events:
        found.append(event)
        if wanted(event):
            return found
    raise AssertionError(f"the stream ended: {[event.type for event in found]}")


def said(client: anthropic.Anthropic, session_id: str, *events: dict[str, Any]) -> list[Event]:
    """What happens after ``events`` are sent, until the session is idle."""
    with client.beta.sessions.events.stream(session_id) as stream:
        send(client, session_id, *events)
        return until(stream, is_idle)


def types(events: list[Event]) -> list[str]:
    return [event.type for event in events]


def results(events: list[Event]) -> list[tuple[str, bool]]:
    """Text and failure of each result."""
    return [
        ("".join(block.text for block in event.content), event.is_error)
        for event in events
        if event.type == "agent.tool_result"
    ]


def run(client: anthropic.Anthropic, session_id: str, command: Any, **fields: Any) -> dict[str, Any]:
    """A command by the route beside the API."""
    answer = client.post(
        f"/sandbox/sessions/{session_id}/exec", body={"command": command, **fields}, cast_to=object
    )
    return cast(dict[str, Any], answer)


@contextmanager
def idle(client: anthropic.Anthropic, session_id: str) -> Iterator[None]:
    """After the block, wait until the session is idle."""
    with client.beta.sessions.events.stream(session_id) as stream:
        yield
        until(stream, is_idle)
