"""Everything gone: sessions with what runs in them, records, files. For tests, and before a state is taken in."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress

from sandbox.managed import events, files, inbox, machines
from sandbox.managed.database import TABLES
from sandbox.managed.failures import Refused
from sandbox.managed.records import running_refused
from sandbox.managed.service import Service

_PATIENCE_S = 60.0
_AGAIN_S = 2.0
_AT_ONCE = 8


def reset(service: Service) -> None:
    """Remove everything. Refused when a session can't be ended in a minute; then nothing is removed."""
    with emptied(service):
        pass


@contextmanager
def emptied(service: Service) -> Iterator[None]:
    """A transaction in which everything is gone, for the block to put something in its place. When the block raises, or
    the process is killed, everything is as it was, but that turns were ended.

    Files and what runs go afterwards: what a killed process leaves of them is swept. Refused when a session can't be
    ended in a minute.
    """
    with service.database.read() as connection:
        environments = connection.execute("SELECT id FROM environments").fetchall()
    for (identifier,) in environments:
        service.builder.cancel(identifier)
    ours: set[str] = set()
    deadline = time.monotonic() + _PATIENCE_S
    with ExitStack() as held:
        while True:
            for identifier in sorted(_there(service) - ours):
                _quiet(service, identifier, held, deadline)
                ours.add(identifier)
            with service.database.write() as connection:
                gone = _there(service)
                if not gone <= ours:
                    # Some were made in the meantime.
                    continue
                connection.execute("INSERT OR IGNORE INTO unfinished SELECT id FROM sessions")
                for table in TABLES:
                    connection.execute(f"DELETE FROM {table}")  # noqa: S608
                yield
                for identifier in gone - _there(service):
                    events.happened(service.database, identifier, events.DELETED)
                break
        for identifier in gone:
            service.live.feed.tell(identifier)
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            list(pool.map(lambda identifier: machines.discard(service, identifier), gone))
    files.sweep(service)


def _there(service: Service) -> set[str]:
    with service.database.read() as connection:
        return {row[0] for row in connection.execute("SELECT id FROM sessions")}


def _quiet(service: Service, identifier: str, held: ExitStack, deadline: float) -> None:
    """Have nobody do the session's turns, until ``held`` ends: whoever does one holds this lock."""
    from sandbox.managed.client_events import SendEvents, UserInterrupt

    interrupt = SendEvents(events=[UserInterrupt(type="user.interrupt")])
    wait_s = 0.0
    while not held.enter_context(service.live.locks.holding(identifier, wait_s=wait_s)):
        if time.monotonic() > deadline:
            raise running_refused(identifier, "removed")
        with suppress(Refused):
            inbox.send(service, identifier, interrupt)
        wait_s = _AGAIN_S
