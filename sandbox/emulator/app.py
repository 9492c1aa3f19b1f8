"""The application: routes, errors, and the document that describes them."""

from anyio import CapacityLimiter
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Match

from sandbox.emulator.answers import ErrorAnswer, answer, refusal
from sandbox.emulator.gate import Door, Gate, wrong_route
from sandbox.emulator.routes import (
    agents,
    commands,
    environments,
    events,
    files,
    resources,
    sessions,
    state,
    vaults,
)
from sandbox.managed.failures import Refused, invalid
from sandbox.managed.service import Service
from sandbox.managed.values import refusal as mistakes

ROUTERS = (
    agents.router,
    environments.router,
    files.router,
    resources.router,
    sessions.router,
    events.router,
    commands.router,
    vaults.router,
    state.router,
)


def create_app(service: Service, door: Door | None = None) -> Gate:
    """The application over ``service``; ``door`` says who gets in."""
    app = FastAPI(
        title="sandboxsh",
        description="A local Managed Agents API.",
        redoc_url=None,
        responses={"4XX": {"model": ErrorAnswer, "description": "Refused; nothing was changed."}},
    )
    app.state.service = service
    app.state.commands = CapacityLimiter(commands.MOST)
    for router in ROUTERS:
        app.include_router(router)
    app.add_api_route("/health", _health, methods=["GET"], tags=["server"])
    app.add_exception_handler(Refused, _refused)
    app.add_exception_handler(RequestValidationError, _mistaken)
    app.add_exception_handler(HTTPException, _unrouted)
    return Gate(app, door or Door())


async def _health() -> Response:
    return answer({"status": "ok"})


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)
    return refusal(error, request.state.request_id)


async def _mistaken(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    if isinstance(error.body, bytes):
        kind = request.headers.get("content-type", "missing")
        wrong = invalid(
            f"The body was not read: send JSON with the header content-type: application/json; it is {kind}."
        )
        return refusal(wrong, request.state.request_id)
    # Its first word says where the request has the field: its body, its query.
    errors = [{**each, "loc": each["loc"][1:]} for each in error.errors()]
    return refusal(mistakes(errors, error.body), request.state.request_id)


async def _unrouted(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    # The framework tells a body that ended with a refusal as one that it could not parse.
    if isinstance(error.__cause__, Refused):
        return refusal(error.__cause__, request.state.request_id)
    refused = wrong_route(error, request.url.path, request.method, _methods(request))
    return refusal(refused, request.state.request_id)


def _methods(request: Request) -> set[str]:
    """What the path takes. The framework itself names the methods of one route alone."""
    path = {**request.scope, "type": "http"}
    found: set[str] = set()
    for router in (request.app.router, *ROUTERS):
        for route in router.routes:
            if route.matches(path)[0] is Match.PARTIAL:
                found.update(getattr(route, "methods", None) or ())
    return found
