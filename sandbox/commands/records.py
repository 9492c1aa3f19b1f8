"""What the commands about records share: bodies from files and options, whole lists, JSON."""

import json
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

import click

from sandbox.commands.failures import spoken
from sandbox.errors import InputError

if TYPE_CHECKING:
    from sandbox.managed.database import Document
    from sandbox.managed.paging import Page, Query

Decorated = TypeVar("Decorated", bound=Callable[..., Any])

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON, as the API answers.")
archived = click.option("--archived", is_flag=True, help="List archived ones, too.")
metadata = click.option("--metadata", metavar="KEY=VALUE", multiple=True, help="Repeat for more.")


def read(path: str) -> dict[str, Any]:
    """What is in a YAML or JSON file, - for standard input. InputError names the line."""
    from sandbox.document import load, show_path
    from sandbox.environments import read_text

    found = load(sys.stdin.buffer.read() if path == "-" else read_text(path))
    for problem in found.problems:
        line = f"line {problem.line}: " if problem.line else ""
        where = f"{show_path(problem.path)}: " if problem.path else ""
        raise InputError(f"{path}: {line}{where}{problem.message}", hint=problem.hint)
    if not isinstance(found.value, dict):
        raise InputError(f"{path}: must be a mapping of fields", hint="write `name: value` lines")
    return found.value


def pairs(given: Iterable[str]) -> dict[str, str]:
    """``KEY=VALUE`` texts. What has no = is refused."""
    found = {}
    for text in given:
        key, equals, value = text.partition("=")
        if not equals:
            raise click.UsageError(f"--metadata {text}: this is not KEY=VALUE")
        found[key] = value
    return found


def given(**options: Any) -> dict[str, Any]:
    """Those options that were given."""
    return {name: value for name, value in options.items() if value not in (None, (), {})}


def every(fetch: "Callable[[Query], Page]") -> "Iterator[Document]":
    """All documents of a list, a page at a time."""
    from sandbox.managed.paging import Query

    query = Query(limit=100)
    while True:
        page = fetch(query)
        yield from page.documents()
        if page.next_page is None:
            return
        query = Query(limit=100, page=page.next_page)


def show_json(value: Any) -> None:
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def line(*columns: tuple[Any, int]) -> str:
    """A row of a table: each text with the width that it is padded to, fit for a terminal."""
    return "  ".join(f"{spoken(str(text)):{width}}" for text, width in columns).rstrip()


def as_yaml(document: Any) -> str:
    import yaml

    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True)
