"""``sandboxctl file``: files for sessions, and what sessions produced."""

import os
import sys
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from sandbox.commands.failures import spoken
from sandbox.commands.place import opened
from sandbox.errors import HostError, InputError

if TYPE_CHECKING:
    from sandbox.managed.files import Content

_CHUNK = 1 << 20
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group()
def file() -> None:
    """Files: uploaded for sessions, and produced by them."""


@file.command("upload")
@click.argument("path", metavar="FILE")
@click.option("--name", help="What it is called (default: as FILE is; - is called stdin).")
@click.option("--type", "mime_type", metavar="MIME", help="Its MIME type (default: from the name).")
@click.option("--expires-in", metavar="SECONDS", type=int, help="Forget its content after so long.")
@_json
@click.pass_context
def file_upload(
    context: click.Context,
    path: str,
    name: str | None,
    mime_type: str | None,
    expires_in: int | None,
    as_json: bool,
) -> None:
    """Keep a copy of FILE, or of standard input (-), for sessions; prints its id."""
    from sandbox.managed.files import Upload

    with opened(context) as service, _source(path) as source, Upload(service) as upload:
        while data := source.read(_CHUNK):
            upload.write(data)
        made = upload.finish(name or ("stdin" if path == "-" else path), mime_type, expires_in)
    if as_json:
        _print_json(made)
    else:
        click.echo(made["id"])


@file.command("list")
@click.option("--session", metavar="ID", help="Only what belongs to this session.")
@click.option("--limit", default=100, show_default=True, type=click.IntRange(1, 1000))
@_json
@click.pass_context
def file_list(context: click.Context, session: str | None, limit: int, as_json: bool) -> None:
    """List files, newest first."""
    from sandbox.managed import outputs
    from sandbox.managed.paging import Query

    with opened(context) as service:
        found = outputs.listed(service, Query(limit=limit), scope_id=session).documents()
    if as_json:
        _print_json(found)
        return
    for each in found:
        scope = each["scope"]["id"] if each["scope"] else "-"
        size = f"{each['size_bytes']:>12,}"
        click.echo(f"{each['id']}  {each['created_at'][:19]}Z  {size}  {scope}  {spoken(each['filename'])}")


@file.command("show")
@click.argument("file_id", metavar="ID")
@click.pass_context
def file_show(context: click.Context, file_id: str) -> None:
    """Print what is known of a file, as JSON."""
    from sandbox.managed import files

    with opened(context) as service:
        _print_json(files.get(service, file_id))


@file.command("download")
@click.argument("file_id", metavar="ID")
@click.option("-o", "--output", metavar="FILE", help="Write it there (- for standard output).")
@click.pass_context
def file_download(context: click.Context, file_id: str, output: str | None) -> None:
    """Write a file that a session produced, by default under its own name, where no file is yet."""
    from sandbox.managed import files

    with opened(context) as service:
        found = files.download(service, file_id)
    try:
        if output == "-":
            _copy(found, sys.stdout.buffer)
            return
        # The name is a session's word: only where it overwrites nothing.
        path = output or found.filename
        try:
            with open(path, "wb" if output else "xb") as target:
                _copy(found, target)
        except FileExistsError as error:
            raise InputError(
                f"there is a file {path} here already", hint="name another with --output"
            ) from error
        except OSError as error:
            raise HostError(f"{path} can't be written: {error.strerror}") from error
        click.echo(spoken(path))
    finally:
        os.close(found.descriptor)


@file.command("delete")
@click.argument("file_ids", metavar="ID...", nargs=-1, required=True)
@click.pass_context
def file_delete(context: click.Context, file_ids: tuple[str, ...]) -> None:
    """Remove files. Sessions keep the copies that they have of them."""
    from sandbox.managed import files

    with opened(context) as service:
        for file_id in file_ids:
            click.echo(files.delete(service, file_id)["id"])


def _source(path: str) -> BinaryIO:
    if os.path.isdir(path):
        raise InputError(f"{path} is a directory", hint="name a file; tar packs a directory into one")
    try:
        return os.fdopen(0 if path == "-" else os.open(path, os.O_RDONLY | os.O_CLOEXEC), "rb")
    except OSError as error:
        raise InputError(f"{path} can't be read: {error.strerror}") from error


def _copy(found: "Content", target: BinaryIO) -> None:
    at = 0
    while data := os.pread(found.descriptor, _CHUNK, at):
        target.write(data)
        at += len(data)


def _print_json(value: Any) -> None:
    import json

    click.echo(json.dumps(value, indent=2, ensure_ascii=False))
