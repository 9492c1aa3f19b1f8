"""``sandboxctl cache``: the bases and layers that are kept, and what becomes of them."""

import sys
import time
from typing import TYPE_CHECKING, Any

import click

from sandbox.commands.place import prepared

if TYPE_CHECKING:
    from pkgcache.inventory import Kept
    from pkgcache.verify import Verdict

_SHOWN_FILES = 10


@click.group()
def cache() -> None:
    """Bases and layers that are kept: what there is, what can go, what is damaged."""


@cache.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print what is kept as JSON.")
@click.pass_context
def cache_list(context: click.Context, as_json: bool) -> None:
    """List bases and layers with their size, their last use and what they stand on."""
    from pkgcache.retention import size_text
    from sandbox import upkeep

    place = context.obj()
    stock = upkeep.stock(place.data, place.ids)
    total = sum(kept.size for kept in stock.kept)
    if as_json:
        _print_json(
            {
                "kept": [{**kept._asdict(), "used": _when(kept.used)} for kept in stock.kept],
                "size": total,
                "downloads": stock.downloads,
            }
        )
        return
    click.echo(f"{'ID':12}  {'KIND':5}  {'SIZE':>7}  {'LAST USED':16}  {'STATE':10}  {'BASE':12}  PACKAGES")
    for kept in stock.kept:
        click.echo(
            f"{_short(kept.id):12}  {kept.kind if kept.kind == 'base' else kept.name:5}  {size_text(kept.size):>7}  "
            f"{_when(kept.used)[:16]:16}  {_state(kept):10}  {_short(kept.base) or '-':12}  "
            f"{kept.name if kept.kind == 'base' else ', '.join(kept.specs)}"
        )
    click.echo(
        f"{len(stock.kept)} kept, {size_text(total)} on disk; downloads {size_text(stock.downloads)} more"
    )


@cache.command("prune")
@click.option("--max-size", metavar="SIZE", help="Remove what was used longest ago until it fits (10G).")
@click.option("--older-than", metavar="AGE", help="Remove what was not used for so long (12h, 30d).")
@click.option("--downloads", is_flag=True, help="Remove the kept downloads too: --offline needs them.")
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
@click.option("--json", "as_json", is_flag=True, help="Print what went as JSON.")
@click.pass_context
def cache_prune(
    context: click.Context,
    max_size: str | None,
    older_than: str | None,
    downloads: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Remove what no session can come to use any more, and what the limits say. Nothing in use goes."""
    from pkgcache.retention import read_age, read_size, size_text
    from sandbox import upkeep

    place = prepared(context)
    cleared = upkeep.prune(
        place.data,
        place.ids,
        max_size=None if max_size is None else read_size(max_size),
        older_than=None if older_than is None else read_age(older_than),
        downloads=downloads,
        dry_run=dry_run,
    )
    freed = sum(kept.size for kept in cleared.pruned.gone) + cleared.downloads
    if as_json:
        _print_json(
            {
                "gone": [kept.id for kept in cleared.pruned.gone],
                "stayed": [kept.id for kept in cleared.pruned.kept],
                "grounds": cleared.grounds,
                "filters": cleared.filters,
                "freed": freed,
                "dry_run": dry_run,
            }
        )
        return
    word = "would remove" if dry_run else "removed"
    for kept in cleared.pruned.gone:
        click.echo(f"{word} {_described(kept)} ({size_text(kept.size)})")
    for kept in cleared.pruned.kept:
        click.echo(f"stays: {_described(kept)}: it came into use")
    for what, paths in (
        ("shared files of sessions", cleared.grounds),
        ("system call filters", cleared.filters),
    ):
        if paths:
            click.echo(f"{word} {len(paths)} {what}")
    click.echo(f"{word} {size_text(freed)} in all")


@cache.command("verify")
@click.option("--repair", is_flag=True, help="Remove what is damaged, so that it is made again when needed.")
@click.option("-q", "--quiet", is_flag=True, help="Only what is damaged.")
@click.pass_context
def cache_verify(context: click.Context, repair: bool, quiet: bool) -> None:
    """Read everything that is kept and compare it with what was recorded; exit code 1 when damage stays."""
    from sandbox import upkeep

    def told(verdict: "Verdict") -> None:
        if verdict.damaged:
            click.echo(
                f"damaged: {_described(verdict.kept)}{': ' if verdict.problem else ''}{verdict.problem}"
            )
            for file in verdict.files[:_SHOWN_FILES]:
                click.echo(f"  {file.path}: {file.what}")
            if len(verdict.files) > _SHOWN_FILES:
                click.echo(f"  and {len(verdict.files) - _SHOWN_FILES} more files")
        elif not quiet:
            click.echo(f"in order: {_described(verdict.kept)}")

    place = prepared(context)
    verdicts = upkeep.verify(place.data, place.ids, told)
    damaged = [verdict for verdict in verdicts if verdict.damaged]
    if not quiet:
        click.echo(f"{len(verdicts)} looked at, {len(damaged)} damaged")
    if not damaged:
        return
    if not repair:
        click.echo("sandboxctl cache verify --repair removes what is damaged", err=True)
        sys.exit(1)
    done = upkeep.repair(place.data, place.ids, verdicts)
    for kept in done.gone:
        click.echo(f"removed {_described(kept)}")
    for kept in done.kept:
        click.echo(f"stays, as it is in use: {_described(kept)}")
    if done.kept:
        sys.exit(1)


@cache.command("why")
@click.argument("env")
@click.option("--base", "base_name", metavar="NAME", help="The base (default: debian with packages).")
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
@click.pass_context
def cache_why(context: click.Context, env: str, base_name: str | None, as_json: bool) -> None:
    """Say for each layer of the environment ENV whether it is there, or what differs from the nearest one."""
    from pkgcache.why import sentence
    from sandbox import environments, images, upkeep

    place = context.obj()
    wanted = environments.find(env, place.data).packages.wanted()
    found = upkeep.why(place.data, place.ids, base_name or images.default_base(wanted), wanted)
    if as_json:
        _print_json(
            [{**each._asdict(), "differs": [one._asdict() for one in each.differs]} for each in found]
        )
        return
    for each in found:
        if each.hit:
            why = "hit"
        elif each.nearest:
            reasons = "; ".join(sentence(difference) for difference in each.differs)
            why = f"miss: nearest is {_short(each.nearest)}: {reasons}"
        else:
            why = f"miss: there is no {each.manager} layer yet"
        click.echo(f"{each.manager:5}  {_short(each.key) or '-':12}  {', '.join(each.specs)}  {why}")


def _described(kept: "Kept") -> str:
    if kept.kind == "base":
        return f"base {kept.name} {kept.id}"
    return f"layer {_short(kept.id)} {kept.name}: {', '.join(kept.specs)}"


def _state(kept: "Kept") -> str:
    if kept.damage:
        return "damaged"
    return "in use" if kept.in_use else "" if kept.current else "replaced"


def _short(identity: str) -> str:
    """Enough of a key, or of the end of a base's id, to tell it from others."""
    return identity[-12:] if "-" in identity else identity[:12]


def _when(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def _print_json(value: Any) -> None:
    import json

    click.echo(json.dumps(value, indent=2))


cache.add_command(cache_verify, "fsck")
