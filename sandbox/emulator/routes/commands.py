"""``/sandbox/sessions/{id}/exec``: a command in a session, beside its turns. No part of the hosted API."""

from functools import partial
from typing import Annotated

from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter, Request
from pydantic import Field
from starlette.responses import Response

from sandbox.emulator.answers import answer
from sandbox.emulator.service import Served
from sandbox.managed import machines
from sandbox.managed.values import Strict

router = APIRouter(prefix="/sandbox/sessions", tags=["sandbox"])

MOST = 256
"""So many commands run at a time; more wait."""

_Argument = Annotated[str, Field(max_length=1 << 17)]


class Given(Strict):
    """``command``: a program and its arguments, or text for a shell. ``stdin``: what it reads."""

    command: Annotated[str, Field(min_length=1)] | Annotated[list[_Argument], Field(min_length=1)]
    workdir: Annotated[str, Field(min_length=1, max_length=4096)] | None = None
    env: dict[str, str] | None = None
    stdin: str = ""
    timeout_s: Annotated[float, Field(gt=0, le=86_400, strict=False)] | None = None


@router.post("/{session_id}/exec")
async def run(session_id: str, body: Given, request: Request, served: Served) -> Response:
    limiter: CapacityLimiter = request.app.state.commands
    words = ["/bin/sh", "-c", body.command] if isinstance(body.command, str) else body.command
    work = partial(
        machines.run,
        served,
        session_id,
        words,
        environment=body.env or {},
        workdir=body.workdir,
        stdin=body.stdin.encode(),
        timeout_s=body.timeout_s,
    )
    # When the server ends, nobody waits for what runs: it ends with the session's processes.
    done = await to_thread.run_sync(work, limiter=limiter, abandon_on_cancel=True)
    return answer(
        {
            "exit_code": done.ended.code,
            "stdout": done.output.decode(errors="replace"),
            "stderr": done.errors.decode(errors="replace"),
            "timed_out": done.timed_out,
            "omitted": done.omitted,
            "message": done.ended.message,
        }
    )
