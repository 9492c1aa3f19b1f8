"""``sandboxctl``: everything that lasts — bases, environments — and what this machine can do."""

import os
import sys
from typing import Any

import click

from sandbox import paths
from sandbox.commands import place
from sandbox.commands.failures import tell
from sandbox.commands.groups import LazyGroup

_LATER = {
    "agent": "sandbox.commands.agents:agent",
    "base": "sandbox.commands.bases:base",
    "cache": "sandbox.commands.caches:cache",
    "egress": "sandbox.commands.network:egress",
    "env": "sandbox.commands.envs:env",
    "file": "sandbox.commands.files:file",
    "learn": "sandbox.commands.network:learn",
    "policy": "sandbox.commands.network:policy",
    "serve": "sandbox.commands.serving:serve",
    "session": "sandbox.commands.sessions:session",
    "state": "sandbox.commands.states:state",
    "vault": "sandbox.commands.vaults:vault",
    "why": "sandbox.commands.network:why",
}


class _Commands(LazyGroup):
    """Shows failures as the other command does: one message, what to do, the exit code."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().main(*args, **kwargs)
        except Exception as error:
            sys.exit(tell(error, debug="--debug" in sys.argv, program="sandboxctl"))


@click.group(cls=_Commands, later=_LATER, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--data", metavar="DIR", help="Where sandboxsh keeps its data (default: $SANDBOXSH_DATA).")
@click.option("--ids", type=click.Choice(["range", "single"]), help="Force how sessions' ids are made.")
@click.option("--debug", is_flag=True, help="Show where an error was raised.")
@click.version_option(package_name="sandboxsh", prog_name="sandboxctl")
@click.pass_context
def main(context: click.Context, data: str | None, ids: str | None, debug: bool) -> None:
    """Manage what lasts: bases, environments, and what this machine can do."""
    del debug  # read from the arguments where failures are shown
    context.obj = lambda: place.find(data, ids)
    context.meta["data"], context.meta["ids"] = data, ids


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
