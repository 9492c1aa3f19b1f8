"""``sandboxctl env``: environments, and the layers that they need."""

import os
from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING, NamedTuple

import click

from sandbox import images
from sandbox.commands.exporting import compression, write_image
from sandbox.commands.failures import spoken
from sandbox.commands.groups import LazyGroup
from sandbox.commands.place import Place, opened, prepared
from sandbox.commands.progress import Progress

if TYPE_CHECKING:
    from pkgcache.phases import Event
    from sandbox.environment import Environment


_RECORDS = ("create", "list", "show", "update", "history", "archive", "delete")


@click.group(cls=LazyGroup, later={name: f"sandbox.commands.env_records:env_{name}" for name in _RECORDS})
def env() -> None:
    """Environments: packages and a network policy."""


_base = click.option(
    "--base", "base_name", metavar="NAME", help="The base to build on (default: debian with packages)."
)
_quiet = click.option("-q", "--quiet", is_flag=True, help="No progress.")


class _Found(NamedTuple):
    """An environment, where it is built, on which base."""

    place: Place
    environment: "Environment"
    base: str
    wanted: dict[str, tuple[str, ...]]


def _find(place: Place, given: str, base_name: str | None) -> _Found:
    from sandbox import environments

    found = environments.find(given, place.data)
    wanted = found.packages.wanted()
    return _Found(place, found, base_name or images.default_base(wanted), wanted)


@env.command("build")
@click.argument("file")
@_base
@click.option("--refresh", is_flag=True, help="Resolve versions again; what has moved is used from now on.")
@click.option("--locked", metavar="LOCK", help="Install exactly what this file, made by env lock, says.")
@click.option(
    "--offline", is_flag=True, help="Use no network: build from kept downloads, or say what is missing."
)
@_quiet
@click.pass_context
def env_build(
    context: click.Context,
    file: str,
    base_name: str | None,
    refresh: bool,
    locked: str | None,
    offline: bool,
    quiet: bool,
) -> None:
    """Build the layers of the environment in FILE, or of the one with that name or id.

    A file that has a name is kept under it: a new environment, or the next revision of the one that has the name.
    """
    from sandbox import locks

    if refresh and locked is not None:
        raise click.UsageError("--refresh resolves versions again, --locked keeps them: give one of them")
    if refresh and offline:
        raise click.UsageError(
            "--refresh asks the package managers' servers, --offline nobody: give one of them"
        )
    lock = None if locked is None else locks.read(locked)
    place = prepared(context)
    found = _find(place, file, base_name or (lock.base if lock is not None else None))
    networking = found.environment.networking
    with ExitStack() as stack:
        record = _record(stack, context, found, file, base_name, again=refresh or lock is not None)
        progress = stack.enter_context(Progress(quiet=quiet))

        def show(event: "Event") -> None:
            record(event)
            progress.show(event)

        image = images.make(
            place.data,
            place.ids,
            found.base,
            found.wanted,
            environment=os.environ,
            allowed_hosts=networking.allowed_hosts,
            need_endpoints=networking.allow_package_managers,
            progress=show,
            refresh=refresh,
            lock=lock,
            offline=offline,
        )
    managers = ", ".join(found.wanted) or "no packages"
    click.echo(f"{spoken(found.environment.name or file)}: ready ({managers}; {len(image.layers)} layers)")


def _record(
    stack: ExitStack, context: click.Context, found: _Found, given: str, base_name: str | None, *, again: bool
) -> "Callable[[Event], None]":
    """Keep the environment of a file that has a name, and the record of its build; what the steps are told to.

    ``again``: it is built also where nothing is missing.
    """
    from sandbox import environments

    if environments.is_file(given) and found.environment.name is None:
        return lambda _: None
    from sandbox.managed import builds
    from sandbox.managed import environments as managed

    service = stack.enter_context(opened(context))
    if environments.is_file(given):
        document = managed.put(service.database, managed.from_file(found.environment))
    else:
        document = managed.find(service.database, given)
    if base_name is not None:
        return lambda _: None
    if not again and builds.ready(service.data, service.ids, builds.need_of(document)) is not None:
        # There is nothing to tell of a build, and a record would have to reach the disk.
        return lambda _: None
    place = builds.Place(service.data, service.ids, service.folder)
    return stack.enter_context(builds.recorded(service.database, place, document))


@env.command("lock")
@click.argument("env")
@_base
@click.option("--json", "as_json", is_flag=True, help="Print the lock as JSON.")
@click.pass_context
def env_lock(context: click.Context, env: str, base_name: str | None, as_json: bool) -> None:
    """Print what is really installed in the layers of ENV: names, versions, hashes where they are known."""
    from sandbox import locks

    found = _find(context.obj(), env, base_name)
    lock = images.lock(found.place.data, found.place.ids, found.base, found.wanted)
    click.echo(locks.to_json(lock) if as_json else locks.to_yaml(lock), nl=False)


@env.command("sbom")
@click.argument("env")
@_base
@click.pass_context
def env_sbom(context: click.Context, env: str, base_name: str | None) -> None:
    """Print a bill of materials of ENV, in CycloneDX's JSON: its base's packages and its layers'."""
    from importlib import metadata

    from sandbox import sbom

    found = _find(context.obj(), env, base_name)
    name = found.environment.name or os.path.basename(env)
    subject = sbom.subject(found.place.data, found.place.ids, name, found.base, found.wanted)
    click.echo(sbom.to_json(subject, metadata.version("sandboxsh")), nl=False)


@env.command("outdated")
@click.argument("env")
@_base
@click.option("--json", "as_json", is_flag=True, help="Print what has moved as JSON.")
@_quiet
@click.pass_context
def env_outdated(context: click.Context, env: str, base_name: str | None, as_json: bool, quiet: bool) -> None:
    """Say which packages of ENV would be other ones if they were resolved now. Changes nothing."""
    from pkgcache.lock import sentence

    found = _find(prepared(context), env, base_name)
    with Progress(quiet=quiet) as progress:
        moved = images.outdated(
            found.place.data,
            found.place.ids,
            found.base,
            found.wanted,
            environment=os.environ,
            allowed_hosts=found.environment.networking.allowed_hosts,
            progress=progress.show,
        )
    if as_json:
        import json

        rows = [{"manager": manager, **change._asdict()} for manager, changes in moved for change in changes]
        click.echo(json.dumps(rows, indent=2))
        return
    for manager, changes in moved:
        for change in changes:
            click.echo(f"{manager:5}  {sentence(change)}")
    if not any(changes for _, changes in moved):
        click.echo("nothing has moved")


@env.command("export")
@click.argument("env")
@click.argument("directory")
@_base
@compression
@_quiet
@click.pass_context
def env_export(
    context: click.Context, env: str, directory: str, base_name: str | None, compression: str, quiet: bool
) -> None:
    """Write ENV to DIRECTORY, as an OCI image layout: a layer for the base and one for each package manager. What is
    not built yet is built first."""
    from pkgcache.oci import tag_for

    found = _find(prepared(context), env, base_name)
    networking = found.environment.networking
    with Progress(quiet=quiet) as progress:
        image = images.make(
            found.place.data,
            found.place.ids,
            found.base,
            found.wanted,
            environment=os.environ,
            allowed_hosts=networking.allowed_hosts,
            need_endpoints=networking.allow_package_managers,
            progress=progress.show,
        )
    tag = tag_for(found.environment.name)
    click.echo(write_image(found.place, image, directory, tag, compression, quiet=quiet))
