"""``sandboxctl env create``, ``list``, ``show`` and the like: the same records as ``/v1/environments``."""

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from sandbox.commands import records
from sandbox.commands.arguments import MANAGERS
from sandbox.commands.failures import spoken
from sandbox.commands.place import opened
from sandbox.commands.progress import Progress

if TYPE_CHECKING:
    from pkgcache.phases import Event
    from sandbox.managed.database import Document
    from sandbox.managed.service import Service

_no_build = click.option(
    "--no-build", is_flag=True, help="Don't build its packages now; who needs them will."
)
_quiet = click.option("-q", "--quiet", is_flag=True, help="No progress.")


def _fields(command: records.Decorated) -> records.Decorated:
    """The options for the fields of an environment."""
    for option in (
        *(
            click.option(
                f"--{manager}", metavar="SPEC", multiple=True, help=f"{manager} packages; repeat for more."
            )
            for manager in reversed(MANAGERS)
        ),
        click.option("--allow-package-managers/--no-allow-package-managers", default=None),
        click.option("--allow-mcp-servers/--no-allow-mcp-servers", default=None),
        click.option(
            "--allow", metavar="HOST", multiple=True, help="A host of limited networking; repeat for more."
        ),
        click.option("--net", type=click.Choice(["limited", "unrestricted"]), help="The networking."),
        records.metadata,
        click.option("--description"),
    ):
        command = option(command)
    return command


@click.command("create")
@click.argument("file", required=False)
@click.option("--name", help="Its name, which no other has.")
@click.option("--self-hosted", is_flag=True, help="Its sessions run elsewhere.")
@_fields
@_no_build
@_quiet
@records.as_json
@click.pass_context
def env_create(
    context: click.Context,
    /,
    file: str | None,
    name: str | None,
    self_hosted: bool,
    no_build: bool,
    quiet: bool,
    as_json: bool,
    **fields: Any,
) -> None:
    """Make an environment of what FILE (YAML or JSON, - for standard input) and the options say."""
    from sandbox import environment
    from sandbox.managed import environments, values
    from sandbox.managed.environment_bodies import EnvironmentCreate

    body: Any = {}
    if file is not None:
        body = environment.body_of(records.read(file))
        if file != "-":
            # What is wrong in a file is told with its line.
            environment.read(_text(file), environment.known_checks(), source=file)
    kind = "self_hosted" if self_hosted else "cloud"
    body = _with_options(body, fields, name, kind)
    with opened(context) as service:
        made = environments.create(service.database, values.read(EnvironmentCreate, body).wanted())
        _build(service, made, skip=no_build, quiet=quiet)
    _tell("created", made, as_json)


@click.command("update")
@click.argument("env")
@click.argument("file", required=False)
@click.option("--name", help="Its new name.")
@_fields
@_no_build
@_quiet
@records.as_json
@click.pass_context
def env_update(
    context: click.Context,
    /,
    env: str,
    file: str | None,
    name: str | None,
    no_build: bool,
    quiet: bool,
    as_json: bool,
    **fields: Any,
) -> None:
    """Change what FILE and the options name of ENV, and leave the rest. Sessions that there are keep what they had.

    --metadata KEY= takes a key away. Packages and hosts that are given replace those of their manager, or all hosts.
    """
    from sandbox import environment
    from sandbox.managed import environments, values
    from sandbox.managed.environment_bodies import EnvironmentUpdate

    body: Any = {} if file is None else environment.body_of(records.read(file))
    with opened(context) as service:
        found = environments.find(service.database, env)
        body = _with_options(body, fields, name, found["config"]["type"])
        changes = values.read(EnvironmentUpdate, body, source=file or "").changes()
        changed = environments.update(service.database, found["id"], changes)
        _build(service, changed, skip=no_build, quiet=quiet)
    _tell("updated" if changed != found else "unchanged", changed, as_json)


@click.command("list")
@records.archived
@records.as_json
@click.pass_context
def env_list(context: click.Context, archived: bool, as_json: bool) -> None:
    """List environments, newest first, with their network and their packages."""
    from sandbox.managed import environments
    from sandbox.managed.failures import Refused

    with opened(context) as service:
        rows = list(
            records.every(
                lambda query: environments.list_page(service.database, query, include_archived=archived)
            )
        )
    if as_json:
        records.show_json(rows)
        return
    for row in rows:
        try:
            found = environments.values(row)
            note: str = found.networking.type if found.type == "cloud" else found.type
            wanted = "; ".join(
                f"{each}: {', '.join(specs)}" for each, specs in found.packages.wanted().items()
            )
        except Refused as error:
            note, wanted = str(error), ""
        if row["archived_at"]:
            note = "archived"
        click.echo(records.line((row["name"], 16), (row["id"], 28), (note, 12), (wanted or "-", 0)))


@click.command("show")
@click.argument("env")
@click.option("--policy", is_flag=True, help="Print what it lets out instead, as sandboxctl policy does.")
@records.as_json
@click.pass_context
def env_show(context: click.Context, env: str, policy: bool, as_json: bool) -> None:
    """Print ENV as a file that would create it, and how far its build is."""
    from sandbox.commands import network
    from sandbox.managed import environments

    if policy:
        context.invoke(network.policy, environment=env)
        return
    with opened(context) as service:
        found = environments.find(service.database, env)
        number = environments.revision(service.database, found["id"])
        build = service.builder.state(found)
    if as_json:
        records.show_json({**found, "revision": number, "build": build})
        return
    click.echo(f"# {found['id']}, revision {number} of {found['updated_at']}")
    if found["archived_at"]:
        click.echo(f"# archived {found['archived_at']}")
    for line in _build_lines(build):
        click.echo(f"# {spoken(line)}")
    body = {name: found[name] for name in ("name", "description", "metadata", "config") if found[name]}
    click.echo(records.as_yaml(body), nl=False)


@click.command("history")
@click.argument("env")
@records.as_json
@click.pass_context
def env_history(context: click.Context, env: str, as_json: bool) -> None:
    """List what ENV has been, newest first: each revision, and the fields that it changed."""
    from sandbox.managed import environments

    with opened(context) as service:
        identifier = environments.find(service.database, env)["id"]
        rows = list(records.every(lambda query: environments.revisions(service.database, identifier, query)))
    if as_json:
        records.show_json(rows)
        return
    for new, old in zip(rows, [*rows[1:], None], strict=True):
        changed = "created" if old is None else ", ".join(environments.changes(old, new))
        click.echo(records.line((new["revision"], 4), (new["updated_at"], 0), (changed, 0)))


@click.command("archive")
@click.argument("env")
@click.pass_context
def env_archive(context: click.Context, env: str) -> None:
    """Make ENV read-only, and its name free: no new sessions. Those that there are go on. It can't be undone."""
    from sandbox.managed import environments

    with opened(context) as service:
        found = environments.archive(service.database, environments.find(service.database, env)["id"])
    _tell("archived", found, as_json=False)


@click.command("delete")
@click.argument("env")
@click.pass_context
def env_delete(context: click.Context, env: str) -> None:
    """Forget ENV and its history; refused while a session was made from it.

    Its layers stay, for others that need the same, until a prune takes them.
    """
    from sandbox.managed import environments

    with opened(context) as service:
        found = environments.find(service.database, env)
        environments.delete(service.database, found["id"])
    _tell("deleted", found, as_json=False)


def _text(file: str) -> bytes:
    from sandbox.environments import read_text

    return read_text(file)


def _with_options(body: Any, fields: Mapping[str, Any], name: str | None, kind: str) -> dict[str, Any]:
    """``body`` with what the options say in the place of what it says."""
    networking = records.given(
        type=fields["net"],
        allowed_hosts=list(fields["allow"]) or None,
        allow_mcp_servers=fields["allow_mcp_servers"],
        allow_package_managers=fields["allow_package_managers"],
    )
    packages = {manager: list(fields[manager]) for manager in MANAGERS if fields[manager]}
    top = records.given(
        name=name, description=fields["description"], metadata=records.pairs(fields["metadata"])
    )
    merged = {**body, **top}
    if not networking and not packages and body:
        return merged
    config = {"type": kind, **body.get("config", {})}
    if networking:
        config["networking"] = {"type": "limited", **(config.get("networking") or {}), **networking}
    if packages:
        config["packages"] = {**(config.get("packages") or {}), **packages}
    return {**merged, "config": config}


def _build(service: "Service", environment: "Document", *, skip: bool, quiet: bool) -> None:
    """Build what it lacks, in sight of the user."""
    from sandbox.managed import builds

    need = builds.need_of(environment)
    place = builds.Place(service.data, service.ids, service.folder)
    if skip or need is None or builds.ready(service.data, service.ids, need) is not None:
        return
    with Progress(quiet=quiet) as progress, builds.recorded(service.database, place, environment) as record:

        def show(event: "Event") -> None:
            record(event)
            progress.show(event)

        builds.make(place, need, os.environ, show)


def _build_lines(build: "Document") -> list[str]:
    step = " ".join(filter(None, (build["manager"], build["phase"], build["progress"])))
    if build["state"] == "building":
        return [
            f"build: building ({step})",
            *(f"  {line}" for line in build["lines"]),
            f"log: {build['log']}",
        ]
    if build["state"] == "failed":
        problem = build["problem"]
        return [
            f"build: failed: {problem['message']}",
            *(f"  {line}" for line in problem["lines"]),
            f"log: {problem['log'] or build['log']}",
        ]
    return [f"build: {build['state']}"]


def _tell(what: str, environment: "Document", as_json: bool) -> None:
    if as_json:
        records.show_json(environment)
    else:
        click.echo(f"{what} {environment['id']} {spoken(environment['name'])}")
