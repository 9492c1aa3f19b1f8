"""Environments: stored and validated, with a revision for each change. Files and bodies are read by one parser.

The bodies of requests are in `sandbox.managed.environment_bodies`: no command that reads a file needs those.
"""

import functools
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, TypedDict

from sandbox import environment as bodies
from sandbox.document import Document as Given
from sandbox.document import Problem, show_path
from sandbox.environment import MANAGERS, OLD_LIMITED, Environment
from sandbox.managed import identifiers, paging
from sandbox.managed.database import Database, Document
from sandbox.managed.failures import Refused, conflict, invalid, not_found
from sandbox.managed.metadata import METADATA_PAIRS
from sandbox.managed.paging import Condition, Limits, Page, Query

LIMITS = Limits(20, 100)
RESERVED = ("anthropic", "sandboxsh")
"""No key of ``metadata`` begins with one of these, in whatever case."""

_DEFAULT = {"type": "cloud"}


class NewEnvironment(NamedTuple):
    """What an environment is to be. ``config`` None: a cloud one, unrestricted, without packages."""

    name: str
    config: Mapping[str, Any] | None = None
    description: str | None = None
    metadata: Mapping[str, str] = MappingProxyType({})


class Changes(TypedDict, total=False):
    """What is to change of one: what is left out stays as it is, in ``config`` too. A description of None clears it."""

    name: str
    config: Mapping[str, Any]
    description: str | None
    metadata: Mapping[str, str | None]


def create(database: Database, wanted: NewEnvironment) -> Document:
    """A new environment, revision 1. Refused when another that is not archived has its name."""
    _check_metadata(wanted.metadata)
    now = identifiers.now()
    environment: Document = {
        "id": identifiers.new("env"),
        "type": "environment",
        "name": wanted.name,
        "description": wanted.description,
        "config": _config(_DEFAULT if wanted.config is None else wanted.config, None),
        "metadata": dict(wanted.metadata),
        "scope": "organization",
        "created_at": now,
        "updated_at": now,
        "archived_at": None,
    }
    with database.write():
        _check_name(database, environment)
        database.insert("environments", environment, name=wanted.name)
        _keep_revision(database, environment, 1)
    return environment


def from_file(environment: Environment) -> NewEnvironment:
    """What a file says."""
    if environment.name is None:
        raise invalid("name: is missing; an environment that lasts is known by its name")
    return NewEnvironment(
        environment.name, _spelled_out(environment), environment.description, environment.metadata
    )


def get(database: Database, identifier: str) -> Document:
    found = database.get("environments", identifier)
    if found is None:
        raise not_found("environment", identifier)
    return found


def find(database: Database, given: str) -> Document:
    """The environment with that id, or the one that is not archived and has that name."""
    found = database.get("environments", given)
    if found is not None:
        return found
    identifier = _named(database, given)
    if identifier is None:
        raise not_found("environment", repr(given))
    return get(database, identifier)


def list_page(database: Database, query: Query, *, include_archived: bool = False) -> Page:
    """Environments, newest first."""
    conditions = () if include_archived else (Condition("archived_at IS NULL"),)
    return paging.fetch(database, "environments", query, LIMITS, conditions)


def update(database: Database, identifier: str, changes: Changes) -> Document:
    """The environment with ``changes``; a new revision when that is anything."""
    with database.write():
        old = get(database, identifier)
        new = dict(old)
        if "name" in changes:
            new["name"] = changes["name"]
        if "description" in changes:
            new["description"] = changes["description"]
        if "config" in changes:
            new["config"] = _config(changes["config"], old["config"])
        if "metadata" in changes:
            merged = {**old["metadata"], **changes["metadata"]}
            new["metadata"] = {key: value for key, value in merged.items() if value}
            _check_metadata(new["metadata"])
        return _change(database, old, new)


def put(database: Database, wanted: NewEnvironment) -> Document:
    """The environment of that name, made when it is missing and otherwise exactly as ``wanted`` says."""
    with database.write():
        identifier = _named(database, wanted.name)
        if identifier is None:
            return create(database, wanted)
        _check_metadata(wanted.metadata)
        old = get(database, identifier)
        config = _config(_DEFAULT if wanted.config is None else wanted.config, None)
        if config["type"] != old["config"]["type"]:
            raise _type_change(old["config"]["type"], config["type"])
        new = old | {"description": wanted.description, "config": config, "metadata": dict(wanted.metadata)}
        return _change(database, old, new)


def archive(database: Database, identifier: str) -> Document:
    """Take no new sessions for it. Sessions that there are go on. Archiving again changes nothing."""
    with database.write():
        environment = get(database, identifier)
        if environment["archived_at"] is None:
            environment["archived_at"] = environment["updated_at"] = identifiers.now()
            database.replace("environments", environment, archived_at=environment["archived_at"])
    return environment


def delete(database: Database, identifier: str) -> Document:
    """Forget it, with its history. Refused while a session, archived or not, was made from it."""
    with database.write() as connection:
        get(database, identifier)
        (used,) = connection.execute(
            "SELECT count(*) FROM sessions WHERE environment_id = ?", (identifier,)
        ).fetchone()
        if used:
            raise conflict(
                f"The environment {identifier} is used by {used} session{'s' if used > 1 else ''}: "
                "delete those first, or archive it."
            )
        for table in ("environments", "environment_revisions", "environment_builds"):
            database.delete(table, identifier)
    return {"id": identifier, "type": "environment_deleted"}


def revisions(database: Database, identifier: str, query: Query) -> Page:
    """What the environment has been, newest first: its documents with ``revision`` added."""
    get(database, identifier)
    return paging.fetch(
        database, "environment_revisions", query, LIMITS, (Condition("id = ?", (identifier,)),)
    )


def revision(database: Database, identifier: str) -> int:
    """The number of the present revision."""
    with database.read() as connection:
        (found,) = connection.execute(
            "SELECT max(revision) FROM environment_revisions WHERE id = ?", (identifier,)
        ).fetchone()
    return found or 0


def changes(old: Document, new: Document, path: str = "") -> list[str]:
    """The fields that differ between two revisions, as ``config.networking.allowed_hosts``."""
    found = []
    for name in dict.fromkeys((*old, *new)):
        before, after = old.get(name), new.get(name)
        if isinstance(before, dict) and isinstance(after, dict):
            found += changes(before, after, f"{path}{name}.")
        elif before != after and path + name not in ("revision", "updated_at"):
            found.append(path + name)
    return found


def usable(environment: Document) -> Document:
    """``environment`` when new sessions may be made of it; Refused when it is archived."""
    if environment["archived_at"] is not None:
        raise _archived(environment["id"], "takes no new sessions")
    return environment


def values(environment: Document) -> Environment:
    """The document's networking and packages, as those read them who build and run."""
    return _judged(environment["config"])


def _archived(identifier: str, what: str) -> Refused:
    return invalid(f"The environment {identifier} is archived and {what}.", code="environment_archived")


def _named(database: Database, name: str) -> str | None:
    with database.read() as connection:
        row = connection.execute(
            "SELECT id FROM environments WHERE name = ? AND archived_at IS NULL", (name,)
        ).fetchone()
    return None if row is None else row[0]


def _check_name(database: Database, environment: Document) -> None:
    holder = _named(database, environment["name"])
    if holder not in (None, environment["id"]):
        raise conflict(f"name: the environment {holder} has the name {environment['name']!r} already.")


def _change(database: Database, old: Document, new: Document) -> Document:
    if old["archived_at"] is not None:
        raise _archived(old["id"], "can't be changed")
    if new == old:
        return old
    _check_name(database, new)
    new["updated_at"] = identifiers.now()
    database.replace("environments", new, name=new["name"])
    _keep_revision(database, new, revision(database, new["id"]) + 1)
    return new


def _keep_revision(database: Database, environment: Document, number: int) -> None:
    kept = {**environment, "revision": number}
    database.insert("environment_revisions", kept, revision=number, created_at=environment["updated_at"])


def _check_metadata(metadata: Mapping[str, str]) -> None:
    problems = []
    if len(metadata) > METADATA_PAIRS:
        problems.append(f"has {len(metadata)} pairs; {METADATA_PAIRS} are allowed")
    for key, value in metadata.items():
        shown = key if len(key) <= 64 else key[:61] + "..."
        if not 1 <= len(key) <= 64:
            problems.append(f"the key {shown!r} has {len(key)} characters; 1 to 64 are allowed")
        if key.lower().startswith(RESERVED):
            problems.append(
                f"the key {shown!r} is reserved, as all that begin with {' or '.join(RESERVED)} are"
            )
        if len(value) > 512:
            problems.append(f"the value of {shown!r} has {len(value)} characters; 512 are allowed")
    if problems:
        raise invalid(f"metadata: {'; '.join(problems)}", code="invalid_metadata")


def _config(given: Mapping[str, Any], old: Mapping[str, Any] | None) -> Document:
    """The whole of what ``given`` says, over ``old`` where it leaves something out."""
    if given.get("type") is None:
        raise invalid('config.type: is required; write "cloud" or "self_hosted"')
    if old is not None and given["type"] != old["type"]:
        raise _type_change(old["type"], given["type"])
    return _spelled_out(_judged(_merged(_given(given), old or {})))


def _type_change(old: str, new: object) -> Refused:
    return invalid(
        f"config.type: is {old} and can't become {new}; create another environment",
        code="invalid_config_type_change",
    )


def _given(fields: Any) -> Any:
    """Null says nothing in a body."""
    if not isinstance(fields, Mapping):
        return fields
    return {key: _given(value) for key, value in fields.items() if value is not None}


def _merged(given: Document, old: Mapping[str, Any]) -> Document:
    result = {name: old[name] for name in ("networking", "packages") if name in old} | given
    for name in ("networking", "packages"):
        new, kept = given.get(name), old.get(name)
        if not isinstance(new, Mapping) or kept is None:
            continue
        if name == "networking" and new.get("type") == OLD_LIMITED:
            kept = {key: value for key, value in kept.items() if key != "allow_package_managers"}
            same = kept["type"] == "limited"
        else:
            same = name == "packages" or kept["type"] == new.get("type")
        if same:
            result[name] = {**kept, **new}
    return result


@functools.cache
def _checks() -> bodies.Checks:
    return bodies.known_checks()


def _judged(config: Mapping[str, Any]) -> Environment:
    environment, problems = bodies.judge(Given({"config": config}), _checks(), bare=False)
    if problems:
        raise invalid("; ".join(map(_told, problems)))
    return environment


def _told(problem: Problem) -> str:
    hint = f" ({problem.hint})" if problem.hint else ""
    return f"{show_path(problem.path)}: {problem.message}{hint}"


def _spelled_out(environment: Environment) -> Document:
    if environment.type == "self_hosted":
        return {"type": "self_hosted"}
    networking, packages = environment.networking, environment.packages
    limited = {
        "allowed_hosts": list(networking.allowed_hosts),
        "allow_mcp_servers": networking.allow_mcp_servers,
        "allow_package_managers": networking.allow_package_managers,
    }
    return {
        "type": "cloud",
        "networking": {"type": networking.type, **(limited if networking.type == "limited" else {})},
        "packages": {
            "type": "packages",
            **{manager: list(getattr(packages, manager)) for manager in MANAGERS},
        },
    }
