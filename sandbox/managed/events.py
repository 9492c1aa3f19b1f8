"""The events of sessions: numbered as they happen, and again when one that waited is processed.

What is queued has no ``processed_at``. When its turn comes it gets one and a new number, so that lists have the order
of processing. Followers see it twice, with the same id.
"""

from sandbox.managed import identifiers, paging
from sandbox.managed.database import Database, Document, dump, load
from sandbox.managed.paging import Condition, Limits, Page, Query

LIMITS = Limits(1000, 1000)
TYPES = frozenset(
    (
        "user.message",
        "user.interrupt",
        "user.tool_confirmation",
        "user.custom_tool_result",
        "user.tool_result",
        "user.define_outcome",
        "system.message",
        "agent.message",
        "agent.thinking",
        "agent.tool_use",
        "agent.tool_result",
        "agent.mcp_tool_use",
        "agent.mcp_tool_result",
        "agent.custom_tool_use",
        "agent.thread_message_received",
        "agent.thread_message_sent",
        "agent.thread_context_compacted",
        "session.error",
        "session.updated",
        "session.usage",
        "session.status_rescheduled",
        "session.status_running",
        "session.status_idle",
        "session.status_terminated",
        "session.thread_created",
        "session.thread_status_running",
        "session.thread_status_idle",
        "session.thread_status_rescheduled",
        "session.thread_status_terminated",
        "span.model_request_start",
        "span.model_request_end",
        "span.outcome_evaluation_start",
        "span.outcome_evaluation_ongoing",
        "span.outcome_evaluation_end",
        "workflow_run.created",
        "workflow_run.status_running",
        "workflow_run.status_idle",
        "workflow_run.status_ended",
        "workflow_run.error",
        "workflow_run.phase_started",
        "workflow_run.phase_ended",
    )
)
"""The types that may be asked for; not all of them happen here."""

DELETED = "session.deleted"
LAST = (DELETED, "session.status_terminated")
"""Nothing follows one of these."""


def happened(database: Database, session_id: str, kind: str, **fields: object) -> Document:
    """Add an event that is processed as it happens."""
    event: Document = {
        "id": identifiers.new("sevt"),
        "type": kind,
        **fields,
        "processed_at": identifiers.now(),
    }
    _insert(database, session_id, event)
    return event


def queued(database: Database, session_id: str, event: Document) -> Document:
    """Add an event of a client's, which waits to be processed."""
    waiting = {"id": identifiers.new("sevt"), **event, "processed_at": None}
    _insert(database, session_id, waiting)
    return waiting


def process(database: Database, session_id: str, event: Document) -> Document:
    """A queued event's turn has come."""
    done = {**event, "processed_at": identifiers.now()}
    with database.write() as connection:
        # Followers that are behind still see it as it was queued.
        connection.execute(
            "UPDATE events SET id = id || ':queued', processed_at = ?, superseded = 1 WHERE id = ?",
            (done["processed_at"], event["id"]),
        )
        _insert(database, session_id, done)
    return done


def _insert(database: Database, session_id: str, event: Document) -> None:
    moment = event["processed_at"]
    with database.write() as connection:
        connection.execute(
            "INSERT INTO events (id, created_at, session_id, type, processed_at, doc) VALUES (?, ?, ?, ?, ?, ?)",
            (event["id"], moment or identifiers.now(), session_id, event["type"], moment, dump(event)),
        )


def waiting(database: Database, session_id: str) -> list[Document]:
    """What is queued, in order."""
    with database.read() as connection:
        rows = connection.execute(
            "SELECT doc FROM events WHERE session_id = ? AND processed_at IS NULL ORDER BY seq", (session_id,)
        ).fetchall()
    return [load(row[0]) for row in rows]


def is_interrupted(database: Database, session_id: str) -> bool:
    """Whether an interrupt is queued."""
    with database.read() as connection:
        row = connection.execute(
            "SELECT 1 FROM events WHERE session_id = ? AND processed_at IS NULL AND type = 'user.interrupt'",
            (session_id,),
        ).fetchone()
    return row is not None


def list_page(
    database: Database,
    session_id: str,
    query: Query,
    *,
    types: tuple[str, ...] = (),
    created: tuple[Condition, ...] = (),
) -> Page:
    """A session's events, oldest first when nobody says otherwise."""
    conditions = [Condition("session_id = ? AND NOT superseded", (session_id,)), *created]
    if types:
        conditions.append(Condition(f"type IN ({', '.join('?' * len(types))})", types))
    return paging.fetch(database, "events", query, LIMITS, conditions, order="asc")


def after(database: Database, session_id: str, number: int, most: int) -> list[tuple[int, str, str]]:
    """(number, type, document as text) of the events behind ``number``."""
    with database.read() as connection:
        return connection.execute(
            "SELECT seq, type, doc FROM events WHERE session_id = ? AND seq > ? ORDER BY seq LIMIT ?",
            (session_id, number, most),
        ).fetchall()
