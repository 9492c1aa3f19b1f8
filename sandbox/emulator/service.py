"""How a route gets the service that it works on."""

from typing import Annotated

from fastapi import Depends, Request

from sandbox.managed.service import Service


async def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


Served = Annotated[Service, Depends(_service)]
