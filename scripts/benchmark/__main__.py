"""``scripts/bench``: measure, print the tables, write them as JSON."""

import json
import os
import platform
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import click

from benchmark import builds, figures, nginx, relay, served, starts, wall
from benchmark.rounds import Failed, measure

ROOT = Path(__file__).resolve().parent.parent.parent


class Passed(NamedTuple):
    """What was measured of the wall beside bytes; see benchmark.wall."""

    connections: list[figures.Series]
    names: list[figures.Series]
    held: list[figures.Series]


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--quick", is_flag=True, help="A few short rounds: that everything runs, not how fast.")
@click.option(
    "--full", is_flag=True, help="Build the debian base and the environment where they are missing."
)
@click.option("--json", "json_file", metavar="FILE", help="Write every sample to FILE; - is standard output.")
@click.option("--rounds", type=click.IntRange(min=1), help="How often each start is timed (default: 25).")
@click.option("--env", "environment_file", metavar="FILE", default=str(ROOT / "docs/examples/demo.yaml"))
@click.option("--data", metavar="DIR", help="The data directory of the sessions (default: sandboxsh's own).")
@click.option(
    "--only",
    type=click.Choice(["starts", "relay", "wall", "served", "builds"]),
    help="A part of it. Builds, which take minutes, are measured when they are asked for.",
)
def main(
    quick: bool,
    full: bool,
    json_file: str | None,
    rounds: int | None,
    environment_file: str,
    data: str | None,
    only: str | None,
) -> None:
    """Measure starts and throughput beside whichever peers are installed. A figure never makes this fail."""
    sandboxsh = [str(Path(sys.executable).with_name("sandboxsh")), *(("--data", data) if data else ())]
    environment = dict(os.environ)
    times = rounds or (3 if quick else 25)
    started: list[figures.Series] = []
    relayed: list[figures.Series] = []
    passed = Passed([], [], [])
    asked: list[figures.Series] = []
    built: list[figures.Series] = []
    try:
        starts.check(sandboxsh)
        if only in (None, "starts"):
            with starts.contenders(sandboxsh, environment_file, environment, full=full) as contenders:
                started = measure(contenders, times, 1 if quick else 3, _tell("starts"))
        if only in (None, "relay"):
            with relay.contenders(sandboxsh, environment, 0.2 if quick else 1.5) as contenders:
                relayed = measure(contenders, 1 if quick else 5, 0 if quick else 1, _tell("relay"))
        if only in (None, "wall"):
            with wall.contenders(sandboxsh, environment, 0.4 if quick else 3.0) as groups:
                turns = (1, 0) if quick else (5, 1)
                passed = Passed(*(measure(each, *turns, _tell("wall")) for each in groups))
        if only in (None, "served"):
            with served.contenders(environment, 5 if quick else 40) as contenders:
                asked = measure(contenders, 1 if quick else 5, 0 if quick else 1, _tell("served"))
        if only == "builds":
            tell = _tell("builds")
            with builds.contenders(sandboxsh[0], environment, tell) as contenders:
                built = measure(contenders, 1 if quick else 3, 0, tell)
    except Failed as failure:
        _clear()
        click.echo(f"bench: something of this project's own could not run: {failure}", err=True)
        click.echo("bench: sandboxctl doctor says what this machine lacks", err=True)
        sys.exit(1)
    _clear()
    budgets = [
        *_start_budgets(started),
        *_relay_budgets(relayed),
        *_wall_budgets(passed),
        *_served_budgets(asked),
        *_build_budgets(built),
    ]
    groups_ = {
        "starts_ms": started,
        "relay_gb_per_s": relayed,
        "latency_ms": passed.connections[::2],
        "connections_per_s": passed.connections[1::2],
        "names_per_s": passed.names,
        "held_kb": passed.held,
        "served": asked,
        "builds_s": built,
    }
    found = figures.as_json(_machine(), groups_, budgets)
    if json_file == "-":
        click.echo(json.dumps(found, indent=2))
        return
    _print(started, relayed, passed, asked, built, budgets)
    if json_file:
        Path(json_file).write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


def _start_budgets(started: list[figures.Series]) -> list[figures.Budget]:
    return figures.start_budgets(started, starts.OURS, starts.PODMAN) if started else []


def _relay_budgets(relayed: list[figures.Series]) -> list[figures.Budget]:
    return [
        figures.relay_budget(relayed, ours, direct, ours)
        for name in (relay.TCP, relay.TLS)
        for ours, direct in zip(relay.named(name), relay.named(relay.DIRECT), strict=True)
        if relayed
    ] + [
        figures.share_budget(relayed, ours, peer, f"{ours}, beside nginx", least=0.9)
        for ours, peer in zip(relay.named(relay.TLS), relay.named(nginx.NAME), strict=True)
        if relayed
    ]


def _wall_budgets(passed: Passed) -> list[figures.Budget]:
    if not passed.connections:
        return []
    (ours, rate), (direct, _), (_, peer) = map(wall.named, (wall.TLS, wall.DIRECT, nginx.NAME))
    return [
        figures.added_budget(passed.connections, ours, direct, 0.5, "latency that the wall adds"),
        figures.share_budget(passed.connections, rate, peer, "new connections", least=0.4),
        figures.limit_budget(passed.names, wall.NAMES, "per s", least=10_000),
        figures.limit_budget(passed.held, wall.HELD, "KB", most=40),
    ]


def _served_budgets(asked: list[figures.Series]) -> list[figures.Budget]:
    if not asked:
        return []
    return [
        figures.limit_budget(asked, served.CREATE, "ms", most=8),
        figures.limit_budget(asked, served.EXEC, "ms", most=4),
        figures.limit_budget(asked, served.GET, "ms", most=3),
        figures.limit_budget(asked, served.LIST, "ms", most=3),
        figures.limit_budget(asked, served.RATE, "per s", least=100),
        figures.limit_budget(asked, served.IDLE, "MB", most=3),
    ]


def _build_budgets(built: list[figures.Series]) -> list[figures.Budget]:
    return [
        figures.share_budget(
            built, builds.layer(manager), builds.plain(manager), f"a layer of {manager}", most=1.1
        )
        for manager in builds.PACKAGES
        if built
    ]


def _print(
    started: list[figures.Series],
    relayed: list[figures.Series],
    passed: Passed,
    asked: list[figures.Series],
    built: list[figures.Series],
    budgets: list[figures.Budget],
) -> None:
    machine = _machine()
    click.echo(
        f"Linux {machine['kernel']}, {machine['processors']} processors, Python {machine['python']}, "
        f"as {machine['user']}"
    )
    into, out = relay.named(relay.DIRECT)
    for title, series, reference in (
        ("Start a session for true: whole wall time, ms", started, starts.OURS),
        ("One TCP stream into a session, GB/s", relayed[::2], into),
        ("One TCP stream out of a session, GB/s", relayed[1::2], out),
        ("A new connection until its first answer, ms", passed.connections[::2], wall.named(wall.DIRECT)[0]),
        ("New connections per second, 16 at once", passed.connections[1::2], wall.named(wall.DIRECT)[1]),
        ("Names answered per second", passed.names, wall.NAMES),
        ("Memory of the proxy, KB for each connection", passed.held, wall.HELD),
        ("The Managed Agents API, each in its own unit", asked, served.CREATE),
    ):
        if series:
            click.echo(f"\n{title}")
            for line in figures.layout(figures.rows(series, reference)):
                click.echo(f"  {line}")
    for manager in builds.PACKAGES if built else ():
        names = (builds.layer(manager), builds.plain(manager))
        click.echo(f"\nInstall {builds.PACKAGES[manager][0]}, nothing kept from before, s")
        for line in figures.layout(figures.rows([each for each in built if each.name in names], names[1])):
            click.echo(f"  {line}")
    click.echo()
    for line in figures.layout(figures.budget_rows(budgets)):
        click.echo(f"  {line}")


def _machine() -> dict[str, object]:
    return {
        "kernel": platform.release(),
        "architecture": platform.machine(),
        "processors": os.cpu_count(),
        "python": platform.python_version(),
        "user": "an ordinary user" if os.geteuid() else "root",
    }


def _tell(what: str) -> Callable[[str], None]:
    def tell(text: str) -> None:
        if _live():
            click.echo(f"\r\x1b[Kbench: {what}, {text}", err=True, nl=False)

    return tell


def _clear() -> None:
    if _live():
        click.echo("\r\x1b[K", err=True, nl=False)


def _live() -> bool:
    return sys.stderr.isatty() and os.environ.get("TERM") != "dumb"


if __name__ == "__main__":
    main()
