"""``/sandbox/reset``: everything gone, for tests."""

from fastapi import APIRouter
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from sandbox.emulator.answers import answer
from sandbox.emulator.service import Served
from sandbox.managed.failures import Refused
from sandbox.managed.resetting import reset as remove_everything

router = APIRouter(tags=["server"])


@router.post("/sandbox/reset")
async def reset(served: Served) -> Response:
    """Remove all records, files and sessions. Only where the server was started for it."""
    if not served.resettable:
        raise Refused(
            "permission_error",
            "This server keeps what it has: it takes serve --allow-reset, or an Emulator that keeps nothing.",
        )
    await run_in_threadpool(remove_everything, served)
    return answer({"type": "reset"})
