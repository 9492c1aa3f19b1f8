"""``/v1/files``."""

from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from sandbox.emulator.answers import answer, page
from sandbox.emulator.contents import content
from sandbox.emulator.multipart import receive
from sandbox.emulator.queries import Paging, repeated
from sandbox.emulator.service import Served
from sandbox.managed import files, outputs
from sandbox.managed.failures import invalid

router = APIRouter(prefix="/v1/files", tags=["files"])

_FORM = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {
                        "file": {"type": "string", "format": "binary"},
                        "expires_in_seconds": {
                            "type": "integer",
                            "minimum": files.SHORTEST_S,
                            "maximum": files.LONGEST_S,
                        },
                    },
                }
            }
        },
    }
}


@router.post("", openapi_extra=_FORM)
async def upload(request: Request, served: Served) -> Response:
    try:
        return answer(await receive(served, request.headers.get("content-type", ""), request.stream()))
    except ClientDisconnect:
        # Nobody reads this.
        return Response(status_code=400)


@router.get("")
async def list_all(
    request: Request,
    served: Served,
    query: Paging,
    scope_id: Annotated[str | None, Query(description="The session whose files are listed.")] = None,
    session_id: Annotated[str | None, Query(description="Older name of scope_id.")] = None,
    ids: Annotated[list[str] | None, Query(alias="ids[]", description="These, and no paging.")] = None,
) -> Response:
    if scope_id is not None and session_id is not None and scope_id != session_id:
        raise invalid("scope_id and session_id name different sessions: give one of them")
    scope = scope_id if scope_id is not None else session_id
    named = ids or repeated(request, "ids")
    if not named:
        return page(await run_in_threadpool(outputs.listed, served, query, scope_id=scope))
    if query != query._replace(limit=None, page=None, after_id=None, before_id=None):
        raise invalid("ids: excludes limit, page, after_id and before_id")
    return page(files.list_named(served, named, scope_id=scope))


@router.get("/{file_id}")
async def get(file_id: str, served: Served) -> Response:
    return answer(files.get(served, file_id))


@router.get("/{file_id}/content", responses={200: {"content": {"application/octet-stream": {}}}})
async def download(file_id: str, request: Request, served: Served) -> Response:
    found = await run_in_threadpool(files.download, served, file_id)
    return content(found, request.headers.get("range"))


@router.delete("/{file_id}")
async def delete(file_id: str, served: Served) -> Response:
    return answer(files.delete(served, file_id))
