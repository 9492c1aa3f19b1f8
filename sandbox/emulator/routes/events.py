"""``/v1/sessions/{id}/events``, for the session and for its one thread."""

from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from sandbox.emulator import streams
from sandbox.emulator.answers import answer, page
from sandbox.emulator.queries import Created, Paging, repeated
from sandbox.emulator.service import Served
from sandbox.managed import events, inbox, records
from sandbox.managed.client_events import SendEvents
from sandbox.managed.failures import invalid, not_found

router = APIRouter(prefix="/v1/sessions/{session_id}", tags=["events"])

_Types = Annotated[list[str] | None, Query(alias="types[]", description="Any of these.")]
_Deltas = Annotated[list[str] | None, Query(alias="event_deltas[]", description="Which to preview.")]


@router.get("/events")
async def list_all(
    request: Request, session_id: str, served: Served, query: Paging, created: Created, types: _Types = None
) -> Response:
    records.read(served.database, session_id)
    wanted = tuple(types or repeated(request, "types"))
    for kind in wanted:
        if kind not in events.TYPES:
            raise invalid(f"types: {kind!r} is no type of an event")
    return page(events.list_page(served.database, session_id, query, types=wanted, created=created))


@router.post("/events")
async def send(session_id: str, body: SendEvents, served: Served) -> Response:
    return answer({"data": inbox.send(served, session_id, body)})


@router.get("/events/stream")
async def stream(request: Request, session_id: str, served: Served, event_deltas: _Deltas = None) -> Response:
    return streams.stream(served, session_id, event_deltas or repeated(request, "event_deltas"))


@router.get("/threads/{thread_id}/events")
async def list_thread(session_id: str, thread_id: str, served: Served, query: Paging) -> Response:
    _check(session_id, thread_id, served)
    return page(events.list_page(served.database, session_id, query))


@router.get("/threads/{thread_id}/stream")
async def stream_thread(
    request: Request, session_id: str, thread_id: str, served: Served, event_deltas: _Deltas = None
) -> Response:
    _check(session_id, thread_id, served)
    return streams.stream(served, session_id, event_deltas or repeated(request, "event_deltas"))


def _check(session_id: str, thread_id: str, served: Served) -> None:
    if records.thread_id(records.read(served.database, session_id).id) != thread_id:
        raise not_found("thread", thread_id)
