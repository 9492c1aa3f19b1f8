"""``/v1/sessions/{session_id}/resources``."""

from fastapi import APIRouter
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from sandbox.emulator.answers import answer, page
from sandbox.emulator.queries import Paging
from sandbox.emulator.service import Served
from sandbox.managed import attaching, records, resources
from sandbox.managed.resource_bodies import ResourceCreate, TokenChange

router = APIRouter(prefix="/v1/sessions/{session_id}/resources", tags=["session resources"])


@router.post("")
async def add(session_id: str, body: ResourceCreate, served: Served) -> Response:
    return answer(await run_in_threadpool(attaching.add, served, session_id, body))


@router.get("")
async def list_all(session_id: str, served: Served, query: Paging) -> Response:
    records.read(served.database, session_id)
    return page(resources.list_page(served, session_id, query))


@router.get("/{resource_id}")
async def get(session_id: str, resource_id: str, served: Served) -> Response:
    records.read(served.database, session_id)
    return answer(resources.get(served, session_id, resource_id))


@router.post("/{resource_id}")
async def change(session_id: str, resource_id: str, body: TokenChange, served: Served) -> Response:
    return answer(await run_in_threadpool(attaching.change_token, served, session_id, resource_id, body))


@router.delete("/{resource_id}")
async def remove(session_id: str, resource_id: str, served: Served) -> Response:
    return answer(await run_in_threadpool(attaching.remove, served, session_id, resource_id))
