"""What can be seen of a session from outside: its processes, what it uses, what it changed, what it left."""

import os
from collections.abc import Callable
from typing import TypeVar

from netpolicy.credentials import Credential
from netpolicy.policy import Policy
from sandbox.containers.directory import NoContainerError
from sandbox.containers.spec import Change, Output, Process, Stats
from sandbox.managed import records
from sandbox.managed.failures import invalid, not_found
from sandbox.managed.service import Service

NOTHING = Stats(False, 0.0, 0, 0, 0, 0, 0)
_BEGIN = "sesn_"
_Seen = TypeVar("_Seen")


def find(service: Service, given: str) -> str:
    """The id of the session with that id, or of the only one whose id begins or ends like that. What all ids begin with
    is no part of one: an empty variable in a script must not name the only session that there is."""
    with service.database.read() as connection:
        rows = connection.execute(
            "SELECT id FROM sessions WHERE id = ?1 OR (length(?1) > ?2 AND substr(id, 1, length(?1)) = ?1) OR "
            "(length(?1) > 3 AND substr(id, -length(?1)) = ?1) LIMIT 2",
            (given, len(_BEGIN)),
        ).fetchall()
    if not rows:
        raise not_found("session", given)
    if len(rows) > 1 and given not in (row[0] for row in rows):
        raise invalid(f"{given}: several sessions' ids begin or end like that; give more of it.")
    return given if len(rows) > 1 else str(rows[0][0])


def processes(service: Service, identifier: str) -> tuple[Process, ...]:
    return _seen(service, identifier, service.live.containers.ps, ())


def stats(service: Service, identifier: str) -> Stats:
    return _seen(service, identifier, service.live.containers.stats, NOTHING)


def changes(service: Service, identifier: str) -> tuple[Change, ...]:
    return _seen(service, identifier, service.live.containers.diff, ())


def outputs(service: Service, identifier: str) -> tuple[Output, ...]:
    return _seen(service, identifier, service.live.containers.outputs, ())


def open_output(service: Service, identifier: str, path: str) -> int:
    """A descriptor of an output for reading, the caller's to close. Refused when there is none such."""
    records.read(service.database, identifier)
    try:
        return service.live.containers.open_output(identifier, path)
    except (FileNotFoundError, NoContainerError):
        raise not_found(f"output of {identifier} at", path) from None


def egress(service: Service, identifier: str) -> str | None:
    """The path of the log of its network decisions; None while there is none."""
    records.read(service.database, identifier)
    path = service.live.containers.egress(identifier)
    return path if os.path.exists(path) else None


def policy(service: Service, identifier: str) -> tuple[Policy, tuple[Credential, ...]]:
    """What a session lets out, and what is attached to hosts there. The container is made when it is not there yet, as
    for a first command: what it stands on decides where its package managers' servers are."""
    from sandbox.managed import machines, placing

    record = records.read(service.database, identifier)
    found = placing.credentials(service, identifier)
    containers = service.live.containers
    try:
        return containers.policy(identifier), found
    except NoContainerError:
        machines.ensure(service, machines.usable(service, record.id))
    return containers.policy(identifier), found


def _seen(service: Service, identifier: str, look: Callable[[str], _Seen], nothing: _Seen) -> _Seen:
    """What is seen; ``nothing`` for a session whose container is not made yet."""
    records.read(service.database, identifier)
    try:
        return look(identifier)
    except NoContainerError:
        return nothing
