"""``sandboxctl state``: all that lasts, carried to another place or kept safe."""

import os
import sys
from typing import BinaryIO

import click

from sandbox.commands.place import opened
from sandbox.errors import HostError, InputError


@click.group()
def state() -> None:
    """All records and files as one file."""


@state.command("export")
@click.argument("file")
@click.option(
    "--with-secrets", is_flag=True, help="Secrets, too, and the key that opens them: keep FILE safe."
)
@click.pass_context
def state_export(context: click.Context, file: str, with_secrets: bool) -> None:
    """Write environments, agents, vaults, sessions with their events, and files to FILE (a tar; - is standard output).

    Not in it: what sessions' containers hold besides the outputs, so that sessions come back archived; bases and
    layers, which are built again.
    """
    from sandbox.managed import state as states

    with opened(context) as service:
        if file == "-":
            summary = states.export(service, sys.stdout.buffer, with_secrets=with_secrets)
            sys.stdout.buffer.flush()
        else:
            made = f"{file}.{os.urandom(4).hex()}"
            try:
                target = open(os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb")  # noqa: SIM115
            except OSError as error:
                raise InputError(
                    f"{file}: {error.strerror}", hint="name a file that can be written"
                ) from error
            try:
                with target:
                    summary = states.export(service, target, with_secrets=with_secrets)
                    os.fsync(target.fileno())
                os.replace(made, file)
            except OSError as error:
                raise HostError(f"{file}: {error.strerror}", hint="free some space") from error
            finally:
                if os.path.exists(made):
                    os.unlink(made)
    _tell("exported", summary.counts)
    if summary.without_secret:
        click.echo(f"without secrets: {summary.without_secret} (--with-secrets carries them)", err=True)
    if summary.without_content:
        click.echo(f"files whose content is gone and that were left out: {summary.without_content}", err=True)


@state.command("import")
@click.argument("file")
@click.option("--replace", is_flag=True, help="Remove everything that is there first, and what runs.")
@click.pass_context
def state_import(context: click.Context, file: str, replace: bool) -> None:
    """Take in what state export wrote to FILE (- is standard input), all of it or nothing."""
    from sandbox.managed import state as states

    try:
        source: BinaryIO = sys.stdin.buffer if file == "-" else open(file, "rb")  # noqa: SIM115
    except OSError as error:
        raise InputError(f"{file}: {error.strerror}", hint="check the path") from error
    with source, opened(context) as service:
        summary = states.load(service, source, replace=replace)
    _tell("imported", summary.counts)
    if summary.without_secret:
        click.echo(f"secrets that are missing and have to be set again: {summary.without_secret}", err=True)


def _tell(what: str, counts: dict[str, int]) -> None:
    named = ", ".join(f"{count} {table.replace('_', ' ')}" for table, count in counts.items() if count)
    click.echo(f"{what} {named or 'nothing'}", err=True)
