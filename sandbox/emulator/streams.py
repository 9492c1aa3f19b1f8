"""A session's events as they happen, as server-sent events."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from typing import Any

from starlette.responses import StreamingResponse

from sandbox.managed import events, records
from sandbox.managed.database import load
from sandbox.managed.failures import Refused, invalid
from sandbox.managed.feed import last_event
from sandbox.managed.service import Service

DELTAS = ("agent.message", "agent.thinking")
_PING_S = 15.0
# A reader that is slow is read for no further than this; the rest stays in the records.
_MOST = 100


def stream(service: Service, session_id: str, deltas: Sequence[str]) -> StreamingResponse:
    """What happens to the session from now on, until it ends or the server does. Refused when there is none such."""
    for kind in deltas:
        if kind not in DELTAS:
            raise invalid(f"event_deltas: {kind!r} is none of {', '.join(DELTAS)}")
    record = records.read(service.database, session_id)
    after = last_event(service.database)
    told = _told(service, session_id, after, "agent.message" in deltas, ended=record.archived)
    return StreamingResponse(told, media_type="text/event-stream", headers={"cache-control": "no-cache"})


async def _told(
    service: Service, session_id: str, number: int, deltas: bool, *, ended: bool
) -> AsyncIterator[bytes]:
    loop = asyncio.get_running_loop()
    changed = asyncio.Event()

    def wake() -> None:
        # The loop may be gone by the time that the last ones are told.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(changed.set)

    with service.live.feed.follow(session_id, wake):
        yield b": what happens from now on\n\n"
        while not ended and not service.live.feed.closed:
            changed.clear()
            rows = events.after(service.database, session_id, number, _MOST)
            for position, kind, text in rows:
                number = position
                if deltas and kind == "agent.message":
                    for piece in _preview(load(text)):
                        yield piece
                yield block(kind, text)
                ended = ended or kind in events.LAST
            if rows:
                continue
            try:
                await asyncio.wait_for(changed.wait(), _PING_S)
            except TimeoutError:
                yield block("ping", '{"type":"ping"}')
                ended = _over(service, session_id)


def block(kind: str, text: str) -> bytes:
    """One event. Clients tell kinds apart by its ``event:`` line."""
    return f"event: {kind}\ndata: {text}\n\n".encode()


def _preview(event: dict[str, Any]) -> list[bytes]:
    """The event in the form that is told while one is being written; here it is whole at once."""
    from sandbox.managed.database import dump

    start = {"type": "event_start", "event": {"type": event["type"], "id": event["id"]}}
    pieces = [
        {
            "type": "event_delta",
            "event_id": event["id"],
            "delta": {"type": "content_delta", "index": index, "content": content},
        }
        for index, content in enumerate(event["content"])
    ]
    return [block(str(each["type"]), dump(each)) for each in (start, *pieces)]


def _over(service: Service, session_id: str) -> bool:
    """Whether nothing follows. A state that was taken in has its sessions archived without a word."""
    try:
        return records.read(service.database, session_id).archived
    except Refused:
        return True
