"""Agents: stored and validated, with a version for each change."""

from typing import TYPE_CHECKING

from sandbox.managed import identifiers, paging
from sandbox.managed.database import Database, Document, load
from sandbox.managed.failures import conflict, invalid, not_found
from sandbox.managed.mcp import check_together
from sandbox.managed.metadata import merge
from sandbox.managed.paging import Condition, Limits, Page, Query

if TYPE_CHECKING:
    from sandbox.managed.agent_bodies import AgentCreate, AgentUpdate

LIMITS = Limits(20, 100)


def create(database: Database, body: "AgentCreate") -> Document:
    """A new agent, version 1."""
    now = identifiers.now()
    agent: Document = {
        "id": identifiers.new("agent"),
        "type": "agent",
        "name": body.name,
        "description": body.description or None,
        "model": body.full_model(),
        "system": body.system or None,
        **body.lists(),
        "metadata": body.metadata,
        "multiagent": None,
        "execution_identity": {"type": "service_account"},
        "version": 1,
        "created_at": now,
        "updated_at": now,
        "archived_at": None,
    }
    _check(agent)
    with database.write():
        database.insert("agents", agent)
        _keep_version(database, agent)
    return agent


def get(database: Database, identifier: str, version: int | None = None) -> Document:
    """The agent as it is, or as it was in ``version``."""
    found = database.get("agents", identifier)
    if found is None:
        raise not_found("agent", identifier)
    if version is None or version == found["version"]:
        return found
    with database.read() as connection:
        row = connection.execute(
            "SELECT doc FROM agent_versions WHERE id = ? AND version = ?", (identifier, version)
        ).fetchone()
    if row is None:
        raise not_found(f"version {version} of the agent", identifier)
    return load(row[0])


def list_page(
    database: Database, query: Query, *, include_archived: bool = False, created: tuple[Condition, ...] = ()
) -> Page:
    """Agents, newest first."""
    conditions = created if include_archived else (*created, Condition("archived_at IS NULL"))
    return paging.fetch(database, "agents", query, LIMITS, conditions)


def versions(database: Database, identifier: str, query: Query) -> Page:
    """All versions of one agent, newest first."""
    get(database, identifier)
    return paging.fetch(database, "agent_versions", query, LIMITS, (Condition("id = ?", (identifier,)),))


def update(database: Database, identifier: str, body: "AgentUpdate") -> Document:
    """The agent with what ``body`` changes; a new version when that is anything."""
    with database.write():
        old = get(database, identifier)
        if old["archived_at"] is not None:
            raise invalid(f"The agent {identifier} is archived and can't be changed.", code="agent_archived")
        if body.version is not None and body.version != old["version"]:
            raise conflict(
                f"version: the agent {identifier} has version {old['version']}, not {body.version}. Read it again."
            )
        new = _changed(old, body)
        _check(new)
        if new == old:
            return old
        new["version"] += 1
        new["updated_at"] = identifiers.now()
        database.replace("agents", new)
        _keep_version(database, new)
    return new


def archive(database: Database, identifier: str) -> Document:
    """Take no new sessions for it. Sessions that there are go on. Archiving again changes nothing."""
    with database.write():
        agent = get(database, identifier)
        if agent["archived_at"] is None:
            agent["archived_at"] = agent["updated_at"] = identifiers.now()
            database.replace("agents", agent, archived_at=agent["archived_at"])
    return agent


def _keep_version(database: Database, agent: Document) -> None:
    database.insert("agent_versions", agent, version=agent["version"])


def _changed(old: Document, body: "AgentUpdate") -> Document:
    given = body.model_fields_set
    new = dict(old)
    for name in ("name", "model"):
        if name in given and getattr(body, name) is None:
            raise invalid(f"{name}: can't be cleared; leave it out to keep it")
    if body.name is not None:
        new["name"] = body.name
    if body.model is not None:
        new["model"] = body.full_model()
    for name in ("description", "system"):
        if name in given:
            new[name] = getattr(body, name) or None
    new |= {name: value for name, value in body.lists().items() if name in given}
    if body.metadata is not None:
        new["metadata"] = merge(old["metadata"], body.metadata)
    return new


def _check(agent: Document) -> None:
    problem = check_together(agent["tools"], agent["mcp_servers"])
    if problem is not None:
        raise invalid(problem)
