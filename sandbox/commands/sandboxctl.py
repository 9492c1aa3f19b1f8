"""``sandboxctl``: everything that lasts — bases, environments — and what this machine can do."""

import os
import sys
from typing import Any, NamedTuple

import click

from sandbox import idmap, images, paths
from sandbox.commands.failures import tell
from sandbox.commands.progress import Progress
from sandbox.idmap import IdMap


class _Place(NamedTuple):
    """Where the data is and whose ids its files have."""

    data: str
    ids: IdMap


class _Commands(click.Group):
    """Shows failures as the other command does: one message, what to do, the exit code."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().main(*args, **kwargs)
        except Exception as error:
            sys.exit(tell(error, debug="--debug" in sys.argv, program="sandboxctl"))


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--data", metavar="DIR", help="Where sandboxsh keeps its data (default: $SANDBOXSH_DATA).")
@click.option("--ids", type=click.Choice(["range", "single"]), help="Force how sessions' ids are made.")
@click.option("--debug", is_flag=True, help="Show where an error was raised.")
@click.version_option(package_name="sandboxsh", prog_name="sandboxctl")
@click.pass_context
def main(context: click.Context, data: str | None, ids: str | None, debug: bool) -> None:
    """Manage what lasts: bases, environments, and what this machine can do."""
    del debug  # read from the arguments where failures are shown
    context.obj = lambda: _place(data, ids)
    context.meta["data"] = data


def _place(data: str | None, ids: str | None) -> _Place:
    return _Place(
        paths.data_directory(data, os.environ, os.geteuid()), idmap.choose(idmap.read_host_ids(), ids)
    )


def _prepared(context: click.Context) -> _Place:
    place: _Place = context.obj()
    paths.prepare(place.data)
    return place


@main.command()
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
@click.pass_context
def doctor(context: click.Context, as_json: bool) -> None:
    """Check what sessions need of this machine; exit code 1 when one could not run."""
    from sandbox import doctor as checks

    found = checks.run(paths.data_directory(context.meta["data"], os.environ, os.geteuid()))
    if as_json:
        import json

        click.echo(json.dumps(checks.to_json(found), indent=2))
    else:
        click.echo(checks.render_text(found, color=_colors()))
    if not checks.can_run(found):
        sys.exit(1)


def _colors() -> bool:
    return sys.stdout.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"


@main.group()
def base() -> None:
    """What sessions stand on: the machine itself (host), or a Debian of your own."""


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
@click.option("--rebuild", is_flag=True, help="Make it again; sessions on the old one keep it.")
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
@click.pass_context
def base_build(
    context: click.Context,
    name: str,
    suite: str | None,
    profile: str | None,
    mirror: str | None,
    rebuild: bool,
    quiet: bool,
) -> None:
    """Make the base NAME (debian, debian-minimal, or a name of your own) unless it is there."""
    from pkgcache.debian import SUITE, build_base
    from sandbox.build_runner import make_remove, make_runner

    place = _prepared(context)
    with Progress(quiet=quiet) as progress:
        record = build_base(
            images.store(place.data, place.ids),
            name,
            runner=make_runner(place.ids, place.data, os.environ),
            remove=make_remove(place.ids),
            suite=suite or SUITE,
            profile=profile,
            mirror=mirror,
            rebuild=rebuild,
            progress=progress.show,
        )
    click.echo(f"{record.name} {record.id}")


@base.command("remove")
@click.argument("name")
@click.pass_context
def base_remove(context: click.Context, name: str) -> None:
    """Remove the base NAME (or an id) and the layers that stand on it."""
    from pkgcache.bases import remove_base
    from sandbox.build_runner import make_remove

    place = _prepared(context)
    gone = remove_base(images.store(place.data, place.ids), name, remove=make_remove(place.ids))
    click.echo(f"removed {name}, {len(gone) - 1} layers with it" if gone else f"{name} was gone")


@main.group()
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

    place = _prepared(context)
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
