"""``/v1/environments``, and what only this server knows of them below ``/sandbox/environments``."""

from fastapi import APIRouter
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from sandbox.emulator.answers import answer, page
from sandbox.emulator.queries import Paging
from sandbox.emulator.service import Served
from sandbox.managed import environments
from sandbox.managed.environment_bodies import EnvironmentCreate, EnvironmentUpdate

router = APIRouter(tags=["environments"])


@router.post("/v1/environments")
async def create(body: EnvironmentCreate, served: Served) -> Response:
    made = environments.create(served.database, body.wanted())
    await run_in_threadpool(served.builder.begin, made)
    return answer(made)


@router.get("/v1/environments")
async def list_all(served: Served, query: Paging, include_archived: bool = False) -> Response:
    return page(environments.list_page(served.database, query, include_archived=include_archived))


@router.get("/v1/environments/{environment_id}")
async def get(environment_id: str, served: Served) -> Response:
    return answer(environments.get(served.database, environment_id))


@router.post("/v1/environments/{environment_id}")
async def update(environment_id: str, body: EnvironmentUpdate, served: Served) -> Response:
    changed = environments.update(served.database, environment_id, body.changes())
    await run_in_threadpool(served.builder.begin, changed)
    return answer(changed)


@router.post("/v1/environments/{environment_id}/archive")
async def archive(environment_id: str, served: Served) -> Response:
    return answer(environments.archive(served.database, environment_id))


@router.delete("/v1/environments/{environment_id}")
async def delete(environment_id: str, served: Served) -> Response:
    deleted = environments.delete(served.database, environment_id)
    served.builder.cancel(environment_id)
    return answer(deleted)


@router.get("/sandbox/environments/{environment_id}/revisions")
async def revisions(environment_id: str, served: Served, query: Paging) -> Response:
    return page(environments.revisions(served.database, environment_id, query))


@router.get("/sandbox/environments/{environment_id}/build")
async def build(environment_id: str, served: Served) -> Response:
    found = environments.get(served.database, environment_id)
    return answer(await run_in_threadpool(served.builder.state, found))


@router.post("/sandbox/environments/{environment_id}/build")
async def begin_build(environment_id: str, served: Served) -> Response:
    found = environments.usable(environments.get(served.database, environment_id))
    await run_in_threadpool(served.builder.begin, found)
    return answer(await run_in_threadpool(served.builder.state, found))
