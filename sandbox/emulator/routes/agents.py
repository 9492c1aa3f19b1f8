"""``/v1/agents``."""

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import Response

from sandbox.emulator.answers import answer, page
from sandbox.emulator.queries import Created, Paging
from sandbox.emulator.service import Served
from sandbox.managed import agents
from sandbox.managed.agent_bodies import AgentCreate, AgentUpdate

router = APIRouter(prefix="/v1/agents", tags=["agents"])


@router.post("")
async def create(body: AgentCreate, served: Served) -> Response:
    return answer(agents.create(served.database, body))


@router.get("")
async def list_all(
    served: Served, query: Paging, created: Created, include_archived: bool = False
) -> Response:
    return page(agents.list_page(served.database, query, include_archived=include_archived, created=created))


@router.get("/{agent_id}")
async def get(
    agent_id: str, served: Served, version: Annotated[int | None, Query(ge=1, lt=1 << 31)] = None
) -> Response:
    return answer(agents.get(served.database, agent_id, version))


@router.post("/{agent_id}")
async def update(agent_id: str, body: AgentUpdate, served: Served) -> Response:
    return answer(agents.update(served.database, agent_id, body))


@router.post("/{agent_id}/archive")
async def archive(agent_id: str, served: Served) -> Response:
    return answer(agents.archive(served.database, agent_id))


@router.get("/{agent_id}/versions")
async def versions(agent_id: str, served: Served, query: Paging) -> Response:
    return page(agents.versions(served.database, agent_id, query))
