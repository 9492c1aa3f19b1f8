"""``sandboxctl env``: environments, and the layers that they need."""

import os

import click

from sandbox import images
from sandbox.commands.place import prepared
from sandbox.commands.progress import Progress


@click.group()
def env() -> None:
    """Environments: packages and a network policy."""


@env.command("build")
@click.argument("file")
@click.option(
    "--base", "base_name", metavar="NAME", help="The base to build on (default: debian with packages)."
)
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
@click.pass_context
def env_build(context: click.Context, file: str, base_name: str | None, quiet: bool) -> None:
    """Build the layers of the environment in FILE; one that has a name can then be used by it."""
    from sandbox import environments

    place = prepared(context)
    found = environments.find(file, place.data)
    wanted = found.packages.wanted()
    networking = found.networking
    with Progress(quiet=quiet) as progress:
        image = images.make(
            place.data,
            place.ids,
            base_name or images.default_base(wanted),
            wanted,
            environment=os.environ,
            allowed_hosts=networking.allowed_hosts,
            need_endpoints=networking.allow_package_managers,
            progress=progress.show,
        )
    if found.name and os.path.isfile(file):
        environments.keep(place.data, found.name, file)
    managers = ", ".join(wanted) or "no packages"
    click.echo(f"{found.name or file}: ready ({managers}; {len(image.layers)} layers)")
