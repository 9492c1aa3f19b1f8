"""``sandboxctl serve``: the Managed Agents API on this machine."""

import os

import click

from sandbox.commands.place import prepared
from sandbox.errors import InputError

_PORT = 8788


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option(
    "--port", default=_PORT, show_default=True, type=click.IntRange(0, 65535), help="0: any that is free."
)
@click.option(
    "--api-key",
    metavar="KEY",
    help="Demand this key (default: $SANDBOXSH_API_KEY; on loopback, any, and your own programs alone).",
)
@click.option("--data", metavar="DIR", help="Where sandboxsh keeps its data (default: $SANDBOXSH_DATA).")
@click.option(
    "--rewrite",
    "rewrites",
    metavar="URL=REMOTE",
    multiple=True,
    help="Repositories whose URL begins with URL are really at REMOTE, a URL or a directory. Several are possible.",
)
@click.option("--rewrite-ca", metavar="FILE", help="The authorities (PEM) that vouch for the remotes.")
@click.option(
    "--allow-reset", is_flag=True, help="Let POST /sandbox/reset remove everything there is, for tests."
)
@click.option(
    "--idle-after",
    "idle_s",
    metavar="SECONDS",
    default=300.0,
    show_default=True,
    type=click.FloatRange(min=0),
    help="Stop a session's processes when it has done nothing for so long; its files stay.",
)
@click.option(
    "--max-connections",
    metavar="N",
    type=click.IntRange(min=1),
    help="Take so many connections at once, event streams among them (default: 1000, or half of ulimit -n).",
)
@click.option("-v", "--verbose", is_flag=True, help="Print a line for each request.")
@click.pass_context
def serve(
    context: click.Context,
    host: str,
    port: int,
    api_key: str | None,
    data: str | None,
    rewrites: tuple[str, ...],
    rewrite_ca: str | None,
    allow_reset: bool,
    idle_s: float,
    max_connections: int | None,
    verbose: bool,
) -> None:
    """Serve the Managed Agents API, so that its clients work with only their base URL changed.

    Environments, sessions, agents and files are kept in the data directory, and sandboxctl's other commands work on
    them, too. Ctrl-C ends it; what is under way is answered first.
    """
    if data is not None:
        from sandbox.commands.place import find

        context.obj = lambda: find(data, context.meta["ids"])
    place = prepared(context)
    from sandbox.emulator import server
    from sandbox.managed import passing
    from sandbox.managed.service import open_service

    key = api_key or os.environ.get("SANDBOXSH_API_KEY") or None
    door = server.door_for(host, key)
    listener = server.bind(host, port)
    authorities = _read(rewrite_ca) if rewrite_ca else b""
    passing.sweep(place.data, place.ids)
    service = open_service(
        place.data,
        place.ids,
        rewrites=rewrites,
        rewrites_ca=authorities,
        lasting=True,
        idle_s=idle_s,
        resettable=allow_reset,
    )
    if not server.is_loopback(host):
        click.echo(
            f"sandboxctl: WARNING: {host} can be reached from other machines, without encryption. "
            "Whoever knows the key runs code here.",
            err=True,
        )
    if verbose:
        import logging

        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    click.echo(f"sandboxctl: the Managed Agents API, with data in {place.data}; Ctrl-C ends it", err=True)
    click.echo(f"export ANTHROPIC_BASE_URL={server.url_of(listener, host)}")
    click.echo("export ANTHROPIC_API_KEY=" + ("$SANDBOXSH_API_KEY" if key else "sandboxsh"))

    def stopping() -> None:
        click.echo("\nsandboxctl: stopping; Ctrl-C once more ends it at once", err=True)

    try:
        server.Server(service, door, stopping, most=max_connections).run([listener])
    finally:
        service.close()


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise InputError(f"--rewrite-ca: {path} can't be read: {error.strerror}") from error
