"""``sandboxctl agent``: the same records as ``/v1/agents``."""

from typing import TYPE_CHECKING, Any

import click

from sandbox.commands import records
from sandbox.commands.failures import spoken
from sandbox.commands.place import opened

if TYPE_CHECKING:
    from sandbox.managed.database import Document


@click.group()
def agent() -> None:
    """Agents: a model, its instructions and its tools, in versions."""


def _fields(command: records.Decorated) -> records.Decorated:
    for option in (
        records.metadata,
        click.option("--system", metavar="TEXT", help="Its instructions."),
        click.option("--description"),
        click.option("--model", metavar="ID"),
        click.option("--name"),
    ):
        command = option(command)
    return command


def _body(file: str | None, fields: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {} if file is None else records.read(file)
    return found | records.given(**fields | {"metadata": records.pairs(fields["metadata"])})


@agent.command("create")
@click.argument("file", required=False)
@_fields
@records.as_json
@click.pass_context
def agent_create(context: click.Context, /, file: str | None, as_json: bool, **fields: Any) -> None:
    """Make an agent of what FILE (YAML or JSON, - for standard input) and the options say.

    FILE has the fields of the API's body: name, model, system, tools, mcp_servers, skills, description, metadata.
    """
    from sandbox.managed import agents, values
    from sandbox.managed.agent_bodies import AgentCreate

    body = values.read(AgentCreate, _body(file, fields), source=file or "")
    with opened(context) as service:
        made = agents.create(service.database, body)
    _tell("created", made, as_json)


@agent.command("update")
@click.argument("agent_id", metavar="ID")
@click.argument("file", required=False)
@_fields
@click.option("--if-version", "version", type=int, metavar="N", help="Only when this is its present version.")
@records.as_json
@click.pass_context
def agent_update(
    context: click.Context,
    /,
    agent_id: str,
    file: str | None,
    version: int | None,
    as_json: bool,
    **fields: Any,
) -> None:
    """Change what FILE and the options name of an agent, which makes a new version of it."""
    from sandbox.managed import agents, values
    from sandbox.managed.agent_bodies import AgentUpdate

    given = _body(file, fields) | records.given(version=version)
    body = values.read(AgentUpdate, given, source=file or "")
    with opened(context) as service:
        old = agents.get(service.database, agent_id)
        new = agents.update(service.database, agent_id, body)
    _tell("updated" if new["version"] != old["version"] else "unchanged", new, as_json)


@agent.command("list")
@records.archived
@records.as_json
@click.pass_context
def agent_list(context: click.Context, archived: bool, as_json: bool) -> None:
    """List agents, newest first."""
    from sandbox.managed import agents

    with opened(context) as service:
        rows = list(
            records.every(lambda query: agents.list_page(service.database, query, include_archived=archived))
        )
    if as_json:
        records.show_json(rows)
        return
    for row in rows:
        click.echo(_line(row))


@agent.command("show")
@click.argument("agent_id", metavar="ID")
@click.option("--version", type=int, metavar="N", help="As it was in this version.")
@records.as_json
@click.pass_context
def agent_show(context: click.Context, agent_id: str, version: int | None, as_json: bool) -> None:
    """Print an agent."""
    from sandbox.managed import agents

    with opened(context) as service:
        found = agents.get(service.database, agent_id, version)
    if as_json:
        records.show_json(found)
    else:
        click.echo(records.as_yaml({name: value for name, value in found.items() if value}), nl=False)


@agent.command("versions")
@click.argument("agent_id", metavar="ID")
@records.as_json
@click.pass_context
def agent_versions(context: click.Context, agent_id: str, as_json: bool) -> None:
    """List what an agent has been, newest first."""
    from sandbox.managed import agents

    with opened(context) as service:
        rows = list(records.every(lambda query: agents.versions(service.database, agent_id, query)))
    if as_json:
        records.show_json(rows)
        return
    for row in rows:
        click.echo(_line(row))


@agent.command("archive")
@click.argument("agent_id", metavar="ID")
@click.pass_context
def agent_archive(context: click.Context, agent_id: str) -> None:
    """Take no new sessions for an agent. It can't be undone."""
    from sandbox.managed import agents

    with opened(context) as service:
        found = agents.archive(service.database, agent_id)
    _tell("archived", found, as_json=False)


def _line(row: "Document") -> str:
    note = "archived" if row["archived_at"] else ""
    model = row["model"]["id"]
    return records.line((row["name"], 16), (row["id"], 30), (f"v{row['version']}", 4), (model, 0), (note, 0))


def _tell(what: str, found: "Document", as_json: bool) -> None:
    if as_json:
        records.show_json(found)
    else:
        click.echo(f"{what} {found['id']} {spoken(found['name'])} version {found['version']}")
