"""Sessions: made from an agent and an environment as they are at that moment, changed, archived, deleted."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sandbox.environment import Environment
from sandbox.managed import (
    environments,
    events,
    files,
    identifiers,
    inbox,
    machines,
    outputs,
    paging,
    records,
    resources,
    session_agents,
    turns,
    vaults,
)
from sandbox.managed.database import Database, Document, dump, load
from sandbox.managed.failures import invalid
from sandbox.managed.metadata import merge
from sandbox.managed.paging import Condition, Limits, Page, Query
from sandbox.managed.records import IDLE, RUNNING, TERMINATED, Record
from sandbox.managed.service import Service

if TYPE_CHECKING:
    from sandbox.managed.session_bodies import SessionCreate, SessionUpdate

LIMITS = Limits(20, 100)
STATUSES = ("idle", "running", "rescheduling", "terminated")
# How long a session that has just become idle may take to let go of its turn.
_LETTING_GO_S = 30.0


def create(service: Service, body: "SessionCreate") -> Document:
    """A new session, idle or, with initial events, running. All that is asked for is there, or nothing."""
    database = service.database
    with database.read():
        agent = session_agents.snapshot(database, body.agent)
        environment = environments.usable(environments.get(database, body.environment_id))
        config = environments.values(environment)
        vaults.attach(database, body.vault_ids)
        for event in body.initial_events:
            inbox.check_files(database, event)
    session_agents.check_servers(agent, config)
    _check_place(body, config)
    record = Record(
        _document(body, agent, identifiers.new("sesn")), machines.describe(database, environment), None
    )
    planned = resources.plan(service, record.id, body.resources)
    record.document["resources"] = planned.documents
    with (
        service.live.locks.holding(record.id, wait_s=_LETTING_GO_S),
        machines.made(service, record, planned) as problems,
        database.write(),
    ):
        environments.usable(environments.get(database, body.environment_id))
        records.insert(database, record)
        resources.record(service, planned)
        for problem in problems:
            events.happened(database, record.id, "session.error", error=problem)
        machines.finished(database, record.id)
        if body.initial_events:
            record = inbox.accept(service, record, body.initial_events)[0]
    if record.status == RUNNING:
        turns.wake(service, record.id)
    return shown(record)


def _check_place(body: "SessionCreate", config: Environment) -> None:
    if config.type != "self_hosted":
        return
    if body.resources:
        raise invalid("resources: files and repositories can't be brought into a self_hosted environment.")
    if body.initial_events:
        raise inbox.self_hosted()


def _document(body: "SessionCreate", agent: Document, identifier: str) -> Document:
    now = identifiers.now()
    return {
        "id": identifier,
        "type": "session",
        "status": IDLE,
        "created_at": now,
        "stats": {"active_seconds": 0.0, "duration_seconds": None},
        "updated_at": now,
        "archived_at": None,
        "title": body.title,
        "metadata": body.metadata,
        "agent": agent,
        "environment_id": body.environment_id,
        "vault_ids": body.vault_ids,
        "resources": [],
        "budget": None if body.budget is None else body.budget.model_dump(),
        "usage": {
            "active_seconds": 0.0,
            "input_tokens": 0,
            "output_tokens": 0,
            "cache_read_input_tokens": 0,
            "cache_creation": {"ephemeral_1h_input_tokens": 0, "ephemeral_5m_input_tokens": 0},
            "server_tool_use": {"web_fetch_requests": 0, "web_search_requests": 0},
            "list_cost": {"amount": "0", "currency": "USD"},
        },
        "outcome_evaluations": [],
        "deployment_id": None,
    }


def shown(record: Record) -> Document:
    """The session as it is answered: with how long it has been there."""
    return load(records.aged(dump(record.document)))


def get(database: Database, identifier: str) -> Document:
    return shown(records.read(database, identifier))


def list_page(
    database: Database,
    query: Query,
    *,
    include_archived: bool = False,
    agent_id: str | None = None,
    agent_version: int | None = None,
    environment_id: str | None = None,
    statuses: Sequence[str] = (),
    created: tuple[Condition, ...] = (),
) -> Page:
    """Sessions, newest first. ``agent_version`` counts with ``agent_id`` alone."""
    conditions = list(created)
    if not include_archived:
        conditions.append(Condition("archived_at IS NULL"))
    if agent_id is not None:
        conditions.append(Condition("agent_id = ?", (agent_id,)))
        if agent_version is not None:
            conditions.append(Condition("agent_version = ?", (agent_version,)))
    if environment_id is not None:
        conditions.append(Condition("environment_id = ?", (environment_id,)))
    for status in statuses:
        if status not in STATUSES:
            raise invalid(f"statuses: {status!r} is none of {', '.join(STATUSES)}")
    if statuses:
        conditions.append(Condition(f"status IN ({', '.join('?' * len(statuses))})", tuple(statuses)))
    found = paging.fetch(database, "sessions", query, LIMITS, conditions)
    return found._replace(rows=tuple(map(records.aged, found.rows)))


def update(service: Service, identifier: str, body: "SessionUpdate") -> Document:
    """The session with what ``body`` changes, which counts from its next turn on."""
    if "vault_ids" in body.model_fields_set:
        raise invalid("vault_ids: can't be changed once the session is there.")
    database = service.database
    with database.write():
        record = records.read(database, identifier)
        if record.archived:
            raise records.archived_refused(identifier)
        changed = _changes(record, body)
        if body.agent is not None and "agent" in changed:
            if record.status == RUNNING:
                raise records.running_refused(identifier, "given other tools")
            session_agents.check_servers(changed["agent"], machines.environment(record))
        if not changed:
            return shown(record)
        document = {**record.document, **changed, "updated_at": identifiers.now()}
        record = record._replace(document=document)
        records.save(database, record)
        told = {name: value for name, value in changed.items() if name != "metadata" or value}
        events.happened(database, identifier, "session.updated", **told)
    service.live.feed.tell(identifier)
    return shown(record)


def _changes(record: Record, body: "SessionUpdate") -> Document:
    old, given = record.document, body.model_fields_set
    new: Document = {}
    if "title" in given:
        new["title"] = body.title
    if body.metadata is not None:
        new["metadata"] = merge(old["metadata"], body.metadata)
    if "budget" in given:
        new["budget"] = None if body.budget is None else body.budget.model_dump()
        if old["budget"] is None and new["budget"] is not None:
            raise invalid(
                "budget: can't be added to a session that has none; make one with it.",
                code="budget_create_only",
            )
    if body.agent is not None:
        new["agent"] = session_agents.change(old["agent"], body.agent)
    return {name: value for name, value in new.items() if value != old[name]}


def archive(service: Service, identifier: str) -> Document:
    """End it: it takes no more events, its processes are gone, its files stay. Archiving again changes nothing."""
    database = service.database
    if records.read(database, identifier).status == RUNNING:
        raise records.running_refused(identifier, "archived")
    with service.live.locks.holding(identifier, wait_s=_LETTING_GO_S) as ours:
        with database.write():
            record = records.read(database, identifier)
            if record.archived:
                return shown(record)
            if record.status == RUNNING or not ours:
                raise records.running_refused(identifier, "archived")
            now = identifiers.now()
            document = load(records.aged(dump(record.document)))
            document |= {"status": TERMINATED, "updated_at": now, "archived_at": now}
            record = record._replace(document=document, turn=None)
            records.save(database, record)
            events.happened(database, identifier, "session.status_terminated")
        service.live.feed.tell(identifier)
        machines.stop(service, identifier)
        # From now on nothing of it changes.
        outputs.follow(service, identifier)
    return shown(record)


def delete(service: Service, identifier: str) -> Document:
    """Forget it, with its events, its files and what it produced. Followers of its events are told."""
    database = service.database
    if records.read(database, identifier).status == RUNNING:
        raise records.running_refused(identifier, "deleted")
    with service.live.locks.holding(identifier, wait_s=_LETTING_GO_S) as ours:
        with database.write() as connection:
            if records.read(database, identifier).status == RUNNING or not ours:
                raise records.running_refused(identifier, "deleted")
            machines.unfinished(database, identifier)
            database.delete("sessions", identifier)
            connection.execute("DELETE FROM events WHERE session_id = ?", (identifier,))
            copies = resources.forget(service, identifier)
            _forget_deleted(database)
            events.happened(database, identifier, events.DELETED)
        service.live.feed.tell(identifier)
        machines.discard(service, identifier)
        files.discard(service, copies)
    return {"id": identifier, "type": "session_deleted"}


def _forget_deleted(database: Database) -> None:
    """The event that told a deletion is kept for followers to see, for a minute at least."""
    from datetime import UTC, datetime, timedelta

    before = (datetime.now(UTC) - timedelta(minutes=1)).isoformat(timespec="microseconds")
    with database.write() as connection:
        connection.execute(
            "DELETE FROM events WHERE type = 'session.deleted' AND created_at < ?",
            (before.replace("+00:00", "Z"),),
        )


def threads(database: Database, identifier: str) -> list[Document]:
    """The session's threads: the primary one."""
    record = records.read(database, identifier)
    document = shown(record)
    ran = document["usage"]["active_seconds"] > 0 or record.status == RUNNING
    agent = {name: value for name, value in document["agent"].items() if name != "multiagent"}
    return [
        {
            "id": records.thread_id(identifier),
            "type": "session_thread",
            "session_id": identifier,
            "parent_thread_id": None,
            "agent": agent,
            "status": document["status"],
            "stats": {**document["stats"], "startup_seconds": 0.0} if ran else None,
            "usage": document["usage"] if ran else None,
            "created_at": document["created_at"],
            "updated_at": document["updated_at"],
            "archived_at": document["archived_at"],
            "workflow_run_id": None,
        }
    ]
