"""``/v1/sessions`` and their threads."""

from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from sandbox.emulator.answers import answer, page
from sandbox.emulator.queries import Created, Paging, repeated
from sandbox.emulator.service import Served
from sandbox.managed import sessions
from sandbox.managed.database import Document, dump
from sandbox.managed.failures import invalid, not_found
from sandbox.managed.paging import Page
from sandbox.managed.session_bodies import SessionCreate, SessionUpdate

router = APIRouter(prefix="/v1/sessions", tags=["sessions"])

_Statuses = Annotated[list[str] | None, Query(alias="statuses[]", description="Any of these.")]
_Version = Annotated[int | None, Query(ge=1, lt=1 << 31, description="Counts with agent_id alone.")]


# What may wait for a lock or for files is done on a thread.
@router.post("")
def create(body: SessionCreate, served: Served) -> Response:
    return answer(sessions.create(served, body))


@router.get("")
async def list_all(
    request: Request,
    served: Served,
    query: Paging,
    created: Created,
    include_archived: bool = False,
    agent_id: str | None = None,
    agent_version: _Version = None,
    environment_id: str | None = None,
    statuses: _Statuses = None,
) -> Response:
    for name in ("deployment_id", "memory_store_id"):
        if name in request.query_params:
            raise invalid(f"{name}: is not supported: there are no such objects here")
    return page(
        sessions.list_page(
            served.database,
            query,
            include_archived=include_archived,
            agent_id=agent_id,
            agent_version=agent_version,
            environment_id=environment_id,
            statuses=statuses or repeated(request, "statuses"),
            created=created,
        )
    )


@router.get("/{session_id}")
async def get(session_id: str, served: Served) -> Response:
    return answer(sessions.get(served.database, session_id))


@router.post("/{session_id}")
async def update(session_id: str, body: SessionUpdate, served: Served) -> Response:
    return answer(sessions.update(served, session_id, body))


@router.post("/{session_id}/archive")
def archive(session_id: str, served: Served) -> Response:
    return answer(sessions.archive(served, session_id))


@router.delete("/{session_id}")
def delete(session_id: str, served: Served) -> Response:
    return answer(sessions.delete(served, session_id))


@router.get("/{session_id}/threads")
async def threads(session_id: str, served: Served) -> Response:
    found = sessions.threads(served.database, session_id)
    rows = tuple(map(dump, found))
    return page(Page(rows, found[0]["id"], found[-1]["id"], False, None, None))


@router.get("/{session_id}/threads/{thread_id}")
async def thread(session_id: str, thread_id: str, served: Served) -> Response:
    return answer(_thread(served, session_id, thread_id))


def _thread(served: Served, session_id: str, thread_id: str) -> Document:
    for found in sessions.threads(served.database, session_id):
        if found["id"] == thread_id:
            return found
    raise not_found("thread", thread_id)
