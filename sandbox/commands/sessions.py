"""``sandboxctl session``: the same records as ``/v1/sessions``, and what runs in them."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from sandbox.commands import records
from sandbox.commands.failures import spoken
from sandbox.commands.place import opened

if TYPE_CHECKING:
    from sandbox.managed.database import Document
    from sandbox.managed.service import Service

_id = click.argument("given", metavar="ID")
_FAILED = 1


@click.group()
def session() -> None:
    """Sessions: an agent at work in an environment. ID may be a part of one, from its beginning or its end."""


@contextmanager
def _found(context: click.Context, given: str) -> "Iterator[tuple[Service, str]]":
    from sandbox.managed import looking

    with opened(context) as service:
        yield service, looking.find(service, given)


@session.command("create")
@click.argument("file", required=False)
@click.option("--agent", metavar="ID")
@click.option("--env", "environment", metavar="NAME|ID")
@click.option("--title")
@records.metadata
@records.as_json
@click.pass_context
def session_create(
    context: click.Context,
    /,
    file: str | None,
    agent: str | None,
    environment: str | None,
    title: str | None,
    metadata: tuple[str, ...],
    as_json: bool,
) -> None:
    """Make a session of what FILE (YAML or JSON, - for standard input) and the options say; print its id.

    FILE has the fields of the API's body: agent, environment_id, title, metadata, resources, vault_ids, budget.
    """
    from sandbox.managed import environments, sessions, values
    from sandbox.managed.session_bodies import SessionCreate

    body = {} if file is None else records.read(file)
    with opened(context) as service:
        if environment is not None:
            body["environment_id"] = environments.find(service.database, environment)["id"]
        body |= records.given(agent=agent, title=title, metadata=records.pairs(metadata))
        made = sessions.create(service, values.read(SessionCreate, body, source=file or ""))
        if made["status"] == "running":
            service.live.await_turns()
    records.show_json(made) if as_json else click.echo(made["id"])


@session.command("list")
@records.archived
@click.option("--status", multiple=True, help="Only these; repeat for more.")
@click.option("--agent", metavar="ID", help="Only those of this agent.")
@records.as_json
@click.pass_context
def session_list(
    context: click.Context,
    /,
    archived: bool,
    status: tuple[str, ...],
    agent: str | None,
    as_json: bool,
) -> None:
    """List sessions, newest first."""
    from sandbox.managed import sessions

    with opened(context) as service:
        found = list(
            records.every(
                lambda query: sessions.list_page(
                    service.database, query, include_archived=archived, agent_id=agent, statuses=status
                )
            )
        )
    if as_json:
        records.show_json(found)
        return
    for each in found:
        name = each["agent"]["name"]
        click.echo(records.line((each["id"], 29), (each["status"], 10), (name, 16), (each["title"] or "", 0)))


@session.command("show")
@_id
@records.as_json
@click.pass_context
def session_show(context: click.Context, /, given: str, as_json: bool) -> None:
    """Print a session."""
    from sandbox.managed import sessions

    with _found(context, given) as (service, identifier):
        found = sessions.get(service.database, identifier)
    records.show_json(found) if as_json else click.echo(records.as_yaml(found), nl=False)


@session.command("send")
@_id
@click.argument("text", required=False)
@click.option("--run", "commands", metavar="COMMAND", multiple=True, help="A command for its agent to run.")
@click.option("--allow", metavar="CALL", multiple=True, help="Confirm a call that waits.")
@click.option("--deny", metavar="CALL", multiple=True, help="Deny a call that waits.")
@click.option("--interrupt", is_flag=True, help="Stop what runs first.")
@records.as_json
@click.pass_context
def session_send(
    context: click.Context,
    /,
    given: str,
    text: str | None,
    commands: tuple[str, ...],
    allow: tuple[str, ...],
    deny: tuple[str, ...],
    interrupt: bool,
    as_json: bool,
) -> None:
    """Send TEXT (- for standard input) and wait until the session is idle; print what happens.

    Its fenced bash blocks are run. Exit code 1 when the turn ended with an error.
    """
    from sandbox.managed import inbox, values
    from sandbox.managed.client_events import SendEvents

    events: list[Document] = [{"type": "user.interrupt"}] if interrupt else []
    for result, calls in (("allow", allow), ("deny", deny)):
        events += [
            {"type": "user.tool_confirmation", "tool_use_id": call, "result": result} for call in calls
        ]
    words = sys.stdin.read() if text == "-" else text or ""
    words += "".join(f"\n`````bash\n{command}\n`````\n" for command in commands)
    if words:
        events.append({"type": "user.message", "content": [{"type": "text", "text": words}]})
    if not events:
        raise click.UsageError("there is nothing to send: give TEXT, --run, --allow, --deny or --interrupt")
    body = values.read(SendEvents, {"events": events})
    with _found(context, given) as (service, identifier):
        from sandbox.managed.feed import last_event
        from sandbox.managed.following import until_idle

        begin = last_event(service.database)
        inbox.send(service, identifier, body)
        reason = ""
        for event in until_idle(service, identifier, begin):
            reason = event.get("stop_reason", {}).get("type", reason)
            _show_event(event, as_json)
    if reason == "retries_exhausted":
        sys.exit(_FAILED)


def _show_event(event: "Document", as_json: bool) -> None:
    if as_json:
        import json

        click.echo(json.dumps(event, ensure_ascii=False))
        return
    from sandbox.managed.readable import lines

    for line in lines(event):
        click.echo(spoken(line))


@session.command("logs")
@_id
@click.option("-f", "--follow", is_flag=True, help="Go on with what happens, until the session ends.")
@records.as_json
@click.pass_context
def session_logs(context: click.Context, /, given: str, follow: bool, as_json: bool) -> None:
    """Print a session's events; with --json one a line, as the API tells them."""
    from sandbox.managed import events
    from sandbox.managed.feed import last_event

    with _found(context, given) as (service, identifier):
        begin = last_event(service.database)
        for event in records.every(
            lambda query: events.list_page(service.database, identifier, query._replace(limit=1000))
        ):
            _show_event(event, as_json)
        if follow:
            from sandbox.managed.following import until_over

            for event in until_over(service, identifier, begin):
                _show_event(event, as_json)


@session.command("exec", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.option("-w", "--workdir", metavar="DIR")
@click.option("-e", "--env", "variables", metavar="NAME=VALUE", multiple=True)
@click.option("--timeout", "timeout_s", type=float, metavar="SECONDS")
@_id
@click.argument("command", metavar="[--] COMMAND…", nargs=-1, required=True, type=click.UNPROCESSED)
@click.pass_context
def session_exec(
    context: click.Context,
    /,
    given: str,
    command: tuple[str, ...],
    workdir: str | None,
    variables: tuple[str, ...],
    timeout_s: float | None,
) -> None:
    """Run COMMAND in a session, with a terminal when there is one here; ends with its exit code."""
    _console(context, given, command, workdir=workdir, variables=variables, timeout_s=timeout_s)


@session.command("shell")
@_id
@click.pass_context
def session_shell(context: click.Context, /, given: str) -> None:
    """A shell in a session."""
    _console(context, given, ("/bin/bash",))


def _console(
    context: click.Context,
    given: str,
    command: tuple[str, ...],
    *,
    workdir: str | None = None,
    variables: tuple[str, ...] = (),
    timeout_s: float | None = None,
) -> None:
    from sandbox.managed import console

    own = {}
    for text in variables:
        name, equals, value = text.partition("=")
        if not equals:
            raise click.UsageError(f"--env {text}: this is not NAME=VALUE")
        own[name] = value
    words = command[1:] if command[0] == "--" else command
    with _found(context, given) as (service, identifier):
        code, why = console.run(
            service,
            identifier,
            words,
            environment=own,
            workdir=workdir,
            timeout_s=timeout_s,
        )
    if why:
        click.echo(f"sandboxctl: {spoken(why)}", err=True)
    sys.exit(code)


@session.command("egress")
@_id
@click.option(
    "--only", type=click.Choice(["allowed", "denied", "failed"]), help="Show these decisions alone."
)
@click.pass_context
def session_egress(context: click.Context, /, given: str, only: str | None) -> None:
    """Print the network decisions of a session."""
    from netpolicy import auditlog
    from sandbox.managed import looking

    with _found(context, given) as (service, identifier):
        path = looking.egress(service, identifier)
        if path is None:
            return
        with open(path, "rb") as file:
            for record in auditlog.read(file, path):
                if only in (None, record["verdict"]):
                    click.echo(auditlog.readable(record))


@session.command("ps")
@_id
@click.pass_context
def session_ps(context: click.Context, /, given: str) -> None:
    """List the processes of a session."""
    from sandbox.managed import looking

    with _found(context, given) as (service, identifier):
        found = looking.processes(service, identifier)
    click.echo(records.line(("PID", 7), ("PARENT", 7), ("CPU s", 8), ("MEMORY", 9), ("COMMAND", 0)))
    for each in found:
        size = f"{each.rss / (1 << 20):.1f} MiB"
        click.echo(
            records.line(
                (each.pid, 7), (each.parent, 7), (f"{each.cpu_s:.2f}", 8), (size, 9), (each.command, 0)
            )
        )


@session.command("stats")
@_id
@records.as_json
@click.pass_context
def session_stats(context: click.Context, /, given: str, as_json: bool) -> None:
    """Print what a session uses: bytes and seconds."""
    from sandbox.managed import looking

    with _found(context, given) as (service, identifier):
        found = looking.stats(service, identifier)._asdict()
    if as_json:
        records.show_json(found)
        return
    for name, value in found.items():
        click.echo(records.line((name, 10), (value, 0)))


@session.command("diff")
@_id
@click.pass_context
def session_diff(context: click.Context, /, given: str) -> None:
    """List what a session added (A), changed (C) and deleted (D)."""
    from sandbox.managed import looking

    with _found(context, given) as (service, identifier):
        for each in looking.changes(service, identifier):
            click.echo(f"{each.kind} {spoken(each.path)}")


@session.command("outputs")
@_id
@click.argument("path", required=False)
@click.pass_context
def session_outputs(context: click.Context, /, given: str, path: str | None) -> None:
    """List the files in /mnt/session/outputs, or write that at PATH to standard output."""
    from sandbox.managed import looking

    with _found(context, given) as (service, identifier):
        if path is None:
            for each in looking.outputs(service, identifier):
                click.echo(records.line((each.size, 12), (each.path, 0)))
            return
        with open(looking.open_output(service, identifier, path), "rb") as file:
            while piece := file.read(1 << 20):
                sys.stdout.buffer.write(piece)
            sys.stdout.buffer.flush()


@session.command("stop")
@_id
@click.pass_context
def session_stop(context: click.Context, /, given: str) -> None:
    """End a session's processes. Its files stay, and its next command starts it again."""
    from sandbox.managed import machines

    with _found(context, given) as (service, identifier):
        machines.stop(service, identifier)
    click.echo(identifier)


@session.command("archive")
@_id
@click.pass_context
def session_archive(context: click.Context, /, given: str) -> None:
    """End a session for good; its files stay until it is deleted."""
    from sandbox.managed import sessions

    with _found(context, given) as (service, identifier):
        sessions.archive(service, identifier)
    click.echo(identifier)


@session.command("delete")
@click.argument("given", metavar="ID…", nargs=-1, required=True)
@click.pass_context
def session_delete(context: click.Context, /, given: tuple[str, ...]) -> None:
    """Delete sessions, with all that they had."""
    from sandbox.managed import looking, sessions

    with opened(context) as service:
        for identifier in [looking.find(service, each) for each in given]:
            sessions.delete(service, identifier)
            click.echo(identifier)
