"""``sandboxctl base``: what sessions stand on."""

import os

import click

from sandbox import images
from sandbox.commands.exporting import compression, write_image
from sandbox.commands.place import prepared
from sandbox.commands.progress import Progress
from sandbox.errors import InputError


@click.group()
def base() -> None:
    """What sessions stand on: the machine itself (host), a Debian of your own, or what you import."""


@base.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print the bases as JSON.")
@click.pass_context
def base_list(context: click.Context, as_json: bool) -> None:
    """List the bases. ``host`` is always there."""
    from pkgcache.bases import list_bases

    place = context.obj()
    entries = list_bases(images.store(place.data, place.ids))
    if as_json:
        import json

        rows = [
            {
                "name": entry.record.name,
                "id": entry.record.id,
                "suite": entry.record.suite,
                "profile": entry.record.profile,
                "created": entry.record.created,
                "current": entry.current,
                "in_use": entry.in_use,
                "layers": entry.layers,
                "path": entry.path,
                "tools": dict(entry.record.tools),
            }
            for entry in entries
        ]
        click.echo(json.dumps(rows, indent=2))
        return
    click.echo(f"{'NAME':16} {'ID':14} {'PROFILE':10} {'CREATED':21} {'LAYERS':>6}  STATE")
    if not any(entry.record.name == images.HOST for entry in entries):
        click.echo(f"{images.HOST:16} {'-':14} {'-':10} {'-':21} {0:6}  this machine's /usr, /etc, /opt")
    for entry in entries:
        record = entry.record
        state = ", ".join(
            word
            for word, holds in (
                ("current", entry.current),
                ("replaced", not entry.current),
                ("in use", entry.in_use),
            )
            if holds
        )
        click.echo(
            f"{record.name:16} {record.id[:12]:14} {record.profile or '-':10} {record.created[:19] or '-':21} "
            f"{entry.layers:6}  {state}"
        )


@base.command("build")
@click.argument("name", default="debian")
@click.option("--suite", metavar="NAME", help="The Debian release (default: trixie).")
@click.option("--profile", metavar="NAME", help="runtimes (all six toolchains) or minimal.")
@click.option("--mirror", metavar="URL", help="A Debian mirror (default: this machine's, else mmdebstrap's).")
@click.option(
    "--file", "files", metavar="SRC:DST", multiple=True, help="Put a file of yours into it, such as settings."
)
@click.option("--rebuild", is_flag=True, help="Make it again; sessions on the old one keep it.")
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
@click.pass_context
def base_build(
    context: click.Context,
    name: str,
    suite: str | None,
    profile: str | None,
    mirror: str | None,
    files: tuple[str, ...],
    rebuild: bool,
    quiet: bool,
) -> None:
    """Make the base NAME (debian, debian-minimal, or a name of your own) unless it is there."""
    from pkgcache.debian import SUITE, build_base
    from sandbox.build_runner import make_remove, make_runner
    from sandbox.commands.arguments import file_copies

    place = prepared(context)
    with Progress(quiet=quiet) as progress:
        record = build_base(
            images.store(place.data, place.ids),
            name,
            runner=make_runner(place.ids, place.data, os.environ),
            remove=make_remove(place.ids),
            suite=suite or SUITE,
            profile=profile,
            mirror=mirror,
            files=file_copies(files),
            rebuild=rebuild,
            progress=progress.show,
        )
    click.echo(f"{record.name} {record.id}")


@base.command("import")
@click.argument("name")
@click.argument("path")
@click.option("--tag", metavar="TAG", help="Which image of an OCI layout that has several.")
@click.option(
    "--replace", is_flag=True, help="Take the name from a base that has it; sessions on that keep it."
)
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
@click.pass_context
def base_import(
    context: click.Context, name: str, path: str, tag: str | None, replace: bool, quiet: bool
) -> None:
    """Make the base NAME from PATH: an archive of a root file system (tar, also gz, xz, zst, bz2), or the directory of
    an OCI image layout."""
    from pkgcache.imported import import_base
    from sandbox.build_runner import make_inside, make_remove, make_runner

    place = prepared(context)
    with Progress(quiet=quiet) as progress:
        record = import_base(
            images.store(place.data, place.ids),
            name,
            path,
            inside=make_inside(place.ids),
            runner=make_runner(place.ids, place.data, os.environ),
            remove=make_remove(place.ids),
            tag=tag,
            replace=replace,
            progress=progress.show,
        )
    click.echo(f"{record.name} {record.id}")


@base.command("export")
@click.argument("name")
@click.argument("directory")
@compression
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
@click.pass_context
def base_export(context: click.Context, name: str, directory: str, compression: str, quiet: bool) -> None:
    """Write the base NAME to DIRECTORY, as an OCI image layout with the tag NAME."""
    from pkgcache.resolve import image, resolve

    place = prepared(context)
    store = images.store(place.data, place.ids)
    found = resolve(store, name)
    if not found.ready:
        raise InputError(f"there is no base '{name}' yet", hint=f"make it with: sandboxctl base build {name}")
    click.echo(write_image(place, image(store, found), directory, name, compression, quiet=quiet))


@base.command("remove")
@click.argument("name")
@click.pass_context
def base_remove(context: click.Context, name: str) -> None:
    """Remove the base NAME (or an id) and the layers that stand on it."""
    from pkgcache.bases import remove_base
    from sandbox.build_runner import make_remove

    place = prepared(context)
    gone = remove_base(images.store(place.data, place.ids), name, remove=make_remove(place.ids))
    click.echo(f"removed {name}, {len(gone) - 1} layers with it" if gone else f"{name} was gone")
