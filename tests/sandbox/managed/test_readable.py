"""Events as lines for people."""

from __future__ import annotations

from typing import Any

import pytest

from sandbox.managed.readable import lines

AT = "2026-01-31T12:34:56.000000Z"
TEXT = [{"type": "text", "text": "a\nb"}, {"type": "image"}]
CASES: tuple[tuple[dict[str, Any], list[str]], ...] = (
    ({"type": "user.message", "content": TEXT, "processed_at": None}, ["queued    user.message"]),
    ({"type": "user.message", "content": TEXT}, ["12:34:56  user.message", "a", "b", "[image]"]),
    ({"type": "span.model_request_start"}, []),
    ({"type": "session.usage"}, []),
    (
        {
            "type": "agent.tool_use",
            "name": "bash",
            "input": {"command": "ls"},
            "evaluated_permission": "allow",
        },
        ["12:34:56  agent.tool_use  bash", "ls"],
    ),
    (
        {
            "type": "agent.tool_use",
            "id": "e",
            "name": "bash",
            "input": {"command": "l"},
            "evaluated_permission": "ask",
        },
        ["12:34:56  agent.tool_use  bash  (ask: e)", "l"],
    ),
    (
        {"type": "agent.tool_result", "content": TEXT[:1], "is_error": True},
        ["12:34:56  agent.tool_result  failed", "a", "b"],
    ),
    (
        {"type": "session.status_idle", "stop_reason": {"type": "requires_action", "event_ids": ["x", "y"]}},
        ["12:34:56  session.status_idle  requires_action x y"],
    ),
    (
        {"type": "session.error", "error": {"type": "unknown_error", "message": "why\nlast line"}},
        ["12:34:56  session.error  unknown_error", "why", "last line"],
    ),
    (
        {"type": "user.tool_confirmation", "result": "deny", "tool_use_id": "x", "deny_message": "no"},
        ["12:34:56  user.tool_confirmation  deny x", "no"],
    ),
    ({"type": "session.updated", "title": "t"}, ["12:34:56  session.updated  title"]),
    ({"type": "session.status_running"}, ["12:34:56  session.status_running"]),
)


@pytest.mark.parametrize(("event", "expected"), CASES, ids=[event["type"] for event, _ in CASES])
def test_an_event_as_lines(event: dict[str, Any], expected: list[str]) -> None:
    found = list(lines({"processed_at": AT, **event}))
    assert [line.strip() for line in found] == expected
