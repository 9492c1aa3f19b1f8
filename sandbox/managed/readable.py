"""A session's events as lines for people. Pure."""

from collections.abc import Iterator
from typing import Any

Document = dict[str, Any]

_QUIET = ("span.", "session.usage")


def lines(event: Document) -> Iterator[str]:
    """The lines of one event; none of what tells people nothing. They may hold anything that a session said."""
    kind: str = event["type"]
    if kind.startswith(_QUIET):
        return
    moment = event.get("processed_at")
    when = "queued  " if moment is None else moment[11:19]
    head, body = _told(event)
    yield f"{when}  {kind}{f'  {head}' if head else ''}"
    # What it says is told when its turn has come.
    for line in body.splitlines() if moment is not None else ():
        yield f"          {line}"


def _told(event: Document) -> tuple[str, str]:
    kind = event["type"]
    if kind in ("user.message", "agent.message", "system.message"):
        return "", _text(event["content"])
    if kind == "agent.tool_use":
        permission = event.get("evaluated_permission", "allow")
        asked = "" if permission == "allow" else f"  ({permission}: {event['id']})"
        return f"{event['name']}{asked}", str(event["input"].get("command", event["input"]))
    if kind == "agent.tool_result":
        return "failed" if event.get("is_error") else "", _text(event.get("content") or [])
    if kind == "user.tool_confirmation":
        return f"{event['result']} {event['tool_use_id']}", event.get("deny_message") or ""
    if kind == "session.error":
        return event["error"]["type"], event["error"]["message"]
    if kind == "session.status_idle":
        reason = event["stop_reason"]
        return " ".join((reason["type"], *reason.get("event_ids", ()))), ""
    if kind == "session.updated":
        told = sorted(name for name in event if name not in ("id", "type", "processed_at"))
        return ", ".join(told), ""
    return "", ""


def _text(content: list[Document]) -> str:
    return "\n".join(block["text"] if block["type"] == "text" else f"[{block['type']}]" for block in content)
