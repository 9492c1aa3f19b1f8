"""Lists a page at a time, in both forms that the API has had: ``page`` cursors, and ``after_id``/``before_id``."""

import base64
import binascii
import json
from collections.abc import Sequence
from typing import NamedTuple

from sandbox.managed.database import Database, Document, load
from sandbox.managed.failures import invalid


class Query(NamedTuple):
    """Which page. ``limit`` None: the list's own default."""

    limit: int | None = None
    page: str | None = None
    after_id: str | None = None
    before_id: str | None = None
    order: str | None = None


class Limits(NamedTuple):
    """How many a page has when nobody says, and at most."""

    default: int
    most: int


class Condition(NamedTuple):
    """One condition on columns, with its values: ``Condition("status IN (?, ?)", ("idle", "running"))``."""

    text: str
    values: tuple[object, ...] = ()


class Page(NamedTuple):
    """``rows``: the documents as JSON text."""

    rows: tuple[str, ...]
    first_id: str | None
    last_id: str | None
    has_more: bool
    next_page: str | None
    prev_page: str | None

    def documents(self) -> list[Document]:
        return [load(row) for row in self.rows]

    def to_json(self) -> str:
        """The answer, the documents as they are kept: a list of a hundred is not read and written again."""
        rest = json.dumps(self._asdict() | {"rows": None}, separators=(",", ":")).replace('"rows":null,', "")
        return f'{{"data":[{",".join(self.rows)}],{rest[1:]}'


def fetch(
    database: Database,
    table: str,
    query: Query,
    limits: Limits,
    conditions: Sequence[Condition] = (),
    *,
    order: str = "desc",
) -> Page:
    """One page of ``table``; ``Refused`` when the query makes no sense. ``order`` is the one when nobody says."""
    limit = limits.default if query.limit is None else query.limit
    if not 1 <= limit <= limits.most:
        raise invalid(f"limit: must be between 1 and {limits.most}, but is {limit}")
    given = [name for name in ("page", "after_id", "before_id") if getattr(query, name) is not None]
    if len(given) > 1:
        raise invalid(f"{given[0]} and {given[1]} both say where the page begins: give one of them")
    direction = query.order or order
    if direction not in ("asc", "desc"):
        raise invalid('order: must be "asc" or "desc"')
    backwards, start = _start(database, table, query)
    ascending = (direction == "asc") != backwards
    where = list(conditions)
    if start is not None:
        where.append(Condition("seq > ?" if ascending else "seq < ?", (start,)))
    text = " AND ".join(f"({condition.text})" for condition in where) or "1"
    with database.read() as connection:
        found = connection.execute(
            f"SELECT seq, id, doc FROM {table} WHERE {text} "  # noqa: S608
            f"ORDER BY seq {'ASC' if ascending else 'DESC'} LIMIT ?",
            (*(value for condition in where for value in condition.values), limit + 1),
        ).fetchall()
    more, found = len(found) > limit, found[:limit]
    if backwards:
        found.reverse()
    before, after = (more, start is not None) if backwards else (start is not None, more)
    return Page(
        tuple(row[2] for row in found),
        found[0][1] if found else None,
        found[-1][1] if found else None,
        more,
        _cursor("after", found[-1][0]) if found and after else None,
        _cursor("before", found[0][0]) if found and before else None,
    )


def _start(database: Database, table: str, query: Query) -> tuple[bool, int | None]:
    """Whether the page ends where it is said to begin, and the number of the row that it stands next to."""
    if query.page is not None:
        return _read_cursor(query.page)
    identifier = query.after_id if query.after_id is not None else query.before_id
    if identifier is None:
        return False, None
    with database.read() as connection:
        row = connection.execute(f"SELECT seq FROM {table} WHERE id = ?", (identifier,)).fetchone()  # noqa: S608
    if row is None:
        name = "after_id" if query.after_id is not None else "before_id"
        raise invalid(f"{name}: {identifier} is not in this list")
    return query.before_id is not None, row[0]


def _cursor(side: str, number: int) -> str:
    return base64.urlsafe_b64encode(f"{side}:{number}".encode()).decode().rstrip("=")


def _read_cursor(text: str) -> tuple[bool, int]:
    try:
        side, _, number = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode().partition(":")
        if (
            side not in ("after", "before")
            or not number.isascii()
            or not number.isdecimal()
            or len(number) > 18
        ):
            raise ValueError
    except (ValueError, binascii.Error):
        raise invalid("page: is not a cursor of this list; use next_page of an earlier answer") from None
    return side == "before", int(number)
