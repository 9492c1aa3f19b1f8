"""What every route works on: the records, and those who act on them."""

import os
from typing import Annotated, NamedTuple

from fastapi import Depends, Request

from sandbox.idmap import IdMap
from sandbox.managed.database import Database


class Service(NamedTuple):
    """One data directory being served."""

    data: str
    ids: IdMap
    database: Database


def open_service(data: str, ids: IdMap) -> Service:
    """The records of ``data``, made when they are missing. HostError when they can't be used."""
    folder = os.path.join(data, "managed")
    os.makedirs(folder, mode=0o700, exist_ok=True)
    return Service(data, ids, Database(os.path.join(folder, "state.db")))


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


Served = Annotated[Service, Depends(_service)]
