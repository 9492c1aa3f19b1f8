"""A session's record: the document that is answered with, what is private to it, and how its status changes.

A status and the event that tells it change in one transaction, so that a killed process leaves both or neither.
"""

import re
from datetime import datetime
from typing import NamedTuple

from sandbox.managed import events, identifiers
from sandbox.managed.database import Database, Document, dump, load
from sandbox.managed.failures import Refused, invalid, not_found

IDLE, RUNNING, TERMINATED = "idle", "running", "terminated"
END_TURN: Document = {"type": "end_turn"}
EXHAUSTED: Document = {"type": "retries_exhausted"}

# The document begins like this, so that its age can be told without reading all of it.
_HEAD = re.compile(
    r'\A\{"id":"\w+","type":"session","status":"(?P<status>\w+)","created_at":"(?P<created>[^"]+)",'
    r'"stats":\{"active_seconds":[\d.e+-]+,"duration_seconds":(?P<duration>null|[\d.e+-]+)'
)


class Turn(NamedTuple):
    """What a session is at. ``state``: ``queued`` (accepted), ``begun`` (being done), ``asking`` (its ``calls`` wait
    for confirmation), ``answered`` (they have it). ``since``: when it became running. ``calls``: (id of the
    agent.tool_use, command, "allow", "deny" or "" while unanswered, the message that came with a denial)."""

    state: str
    since: str
    calls: tuple[tuple[str, str, str, str], ...] = ()


class Record(NamedTuple):
    """``container``: what only this machine knows (see sandbox.managed.machines)."""

    document: Document
    container: Document
    turn: Turn | None

    @property
    def id(self) -> str:
        identifier: str = self.document["id"]
        return identifier

    @property
    def status(self) -> str:
        status: str = self.document["status"]
        return status

    @property
    def archived(self) -> bool:
        return self.document["archived_at"] is not None


def read(database: Database, identifier: str) -> Record:
    """The session's record. Refused when there is none."""
    with database.read() as connection:
        row = connection.execute(
            "SELECT doc, container, turn FROM sessions WHERE id = ?", (identifier,)
        ).fetchone()
    if row is None:
        raise not_found("session", identifier)
    return Record(load(row[0]), load(row[1]), None if row[2] is None else _turn(load(row[2])))


def _turn(kept: Document) -> Turn:
    return Turn(kept["state"], kept["since"], tuple(tuple(call) for call in kept["calls"]))


def insert(database: Database, record: Record) -> None:
    document = record.document
    database.insert(
        "sessions",
        document,
        status=record.status,
        agent_id=document["agent"]["id"],
        agent_version=document["agent"]["version"],
        environment_id=document["environment_id"],
        container=dump(record.container),
        turn=_kept(record.turn),
    )


def save(database: Database, record: Record) -> None:
    """Keep what has changed of it."""
    database.replace(
        "sessions",
        record.document,
        status=record.status,
        archived_at=record.document["archived_at"],
        container=dump(record.container),
        turn=_kept(record.turn),
    )


def _kept(turn: Turn | None) -> str | None:
    return None if turn is None else dump(turn._asdict())


def run(database: Database, record: Record, turn: Turn) -> Record:
    """The session begins to run, and says so."""
    running = _changed(record, RUNNING, 0.0)._replace(turn=turn)
    save(database, running)
    events.happened(database, record.id, "session.status_running")
    return running


def rest(database: Database, record: Record, stop_reason: Document, turn: Turn | None = None) -> Record:
    """The session becomes idle, and says why. ``turn``: what it goes on with when it is asked to."""
    since = record.turn.since if record.turn is not None and record.status == RUNNING else None
    active = 0.0 if since is None else seconds(since, identifiers.now())
    resting = _changed(record, IDLE, active)._replace(turn=turn)
    save(database, resting)
    if since is not None:
        usage(database, resting)
    events.happened(database, record.id, "session.status_idle", stop_reason=stop_reason, stop_details=None)
    return resting


def usage(database: Database, record: Record) -> None:
    """Tell what the session has used so far."""
    document = record.document
    events.happened(database, record.id, "session.usage", usage=document["usage"], budget=document["budget"])


def asking(turn: Turn) -> Document:
    """The reason to stop while calls wait for confirmation."""
    return {"type": "requires_action", "event_ids": [call[0] for call in turn.calls if not call[2]]}


def fail(database: Database, record: Record, message: str, *, flush: bool = True) -> Record:
    """The turn is dead: an error says why, what was queued goes with it, the session rests."""
    error = {"type": "unknown_error", "message": message, "retry_status": {"type": "exhausted"}}
    with database.write():
        events.happened(database, record.id, "session.error", error=error)
        if flush:
            for event in events.waiting(database, record.id):
                events.process(database, record.id, event)
        return rest(database, record, EXHAUSTED)


def _changed(record: Record, status: str, active: float) -> Record:
    document = dict(record.document)
    document["status"] = status
    document["updated_at"] = identifiers.now()
    total = round(document["stats"]["active_seconds"] + active, 3)
    document["stats"] = {**document["stats"], "active_seconds": total}
    document["usage"] = {**document["usage"], "active_seconds": total}
    return record._replace(document=document)


def thread_id(identifier: str) -> str:
    """The id of a session's primary thread."""
    return f"sthr_{identifier.partition('_')[2]}"


def seconds(earlier: str, later: str) -> float:
    """From one time to another, as identifiers.now writes them; never less than 0."""
    return max(0.0, (datetime.fromisoformat(later) - datetime.fromisoformat(earlier)).total_seconds())


def aged(text: str) -> str:
    """A session's document as text, with how long it has been there; a terminated one's stays what it was."""
    head = _HEAD.match(text)
    if head is None or head["status"] == TERMINATED:
        return text
    age = round(seconds(head["created"], identifiers.now()), 3)
    return f"{text[: head.start('duration')]}{age}{text[head.end('duration') :]}"


def running_refused(identifier: str, what: str) -> Refused:
    return invalid(
        f"The session {identifier} is running and can't be {what}; send user.interrupt and wait until it is idle."
    )


def archived_refused(identifier: str) -> Refused:
    return invalid(f"The session {identifier} is archived and can't be changed.", code="session_archived")
