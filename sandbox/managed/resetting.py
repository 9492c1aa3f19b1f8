"""Everything gone: sessions with what runs in them, records, files. For tests, and before a state is taken in."""

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from sandbox.managed import files, inbox, sessions
from sandbox.managed.client_events import SendEvents, UserInterrupt
from sandbox.managed.database import TABLES
from sandbox.managed.failures import Refused
from sandbox.managed.service import Service

_PATIENCE_S = 60.0
_PAUSE_S = 0.02
_AT_ONCE = 8


def reset(service: Service) -> None:
    """Remove everything. Refused when a session can't be ended in a minute; what was removed by then is gone."""
    with service.database.read() as connection:
        environments = connection.execute("SELECT id FROM environments").fetchall()
        there = connection.execute("SELECT id, status FROM sessions").fetchall()
    for (identifier,) in environments:
        service.builder.cancel(identifier)
    interrupt = SendEvents(events=[UserInterrupt(type="user.interrupt")])
    for identifier, status in there:
        if status == "running":
            with suppress(Refused):
                inbox.send(service, identifier, interrupt)
    deadline = time.monotonic() + _PATIENCE_S
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        list(pool.map(lambda row: _delete(service, row[0], deadline), there))
    with service.database.write() as connection:
        for table in TABLES:
            connection.execute(f"DELETE FROM {table}")  # noqa: S608
    files.sweep(service)


def _delete(service: Service, identifier: str, deadline: float) -> None:
    """Delete the session, once it is idle."""
    while True:
        try:
            sessions.delete(service, identifier)
            return
        except Refused as refused:
            if refused.status == 404:
                return
            if time.monotonic() > deadline:
                raise
        time.sleep(_PAUSE_S)
