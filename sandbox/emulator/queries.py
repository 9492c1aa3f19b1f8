"""The parameters that lists have in common."""

from typing import Annotated

from fastapi import Depends, Query, Request

from sandbox.managed import identifiers
from sandbox.managed import paging as paging
from sandbox.managed.failures import invalid
from sandbox.managed.paging import Condition


async def _query(
    limit: Annotated[int | None, Query(description="How many a page has at most.")] = None,
    page: Annotated[str | None, Query(description="next_page or prev_page of an earlier answer.")] = None,
    after_id: Annotated[str | None, Query(description="Older form: what follows this object.")] = None,
    before_id: Annotated[str | None, Query(description="Older form: what precedes this object.")] = None,
    order: Annotated[str | None, Query(description="asc or desc, by creation.")] = None,
) -> paging.Query:
    return paging.Query(limit, page, after_id, before_id, order)


Paging = Annotated[paging.Query, Depends(_query)]

_TIME = "RFC 3339, such as 2026-01-31T12:00:00Z."


async def _created(
    gt: Annotated[str | None, Query(alias="created_at[gt]", description=_TIME)] = None,
    gte: Annotated[str | None, Query(alias="created_at[gte]", description=_TIME)] = None,
    lt: Annotated[str | None, Query(alias="created_at[lt]", description=_TIME)] = None,
    lte: Annotated[str | None, Query(alias="created_at[lte]", description=_TIME)] = None,
) -> tuple[Condition, ...]:
    found = []
    for name, sign, given in (("gt", ">", gt), ("gte", ">=", gte), ("lt", "<", lt), ("lte", "<=", lte)):
        if given is None:
            continue
        try:
            # A plus sign in a query is a blank to those who did not escape it.
            moment = identifiers.read_time(given.replace(" ", "+"))
        except (ValueError, OverflowError):
            raise invalid(
                f"created_at[{name}]: {given!r} is not a time such as 2026-01-31T12:00:00Z"
            ) from None
        found.append(Condition(f"created_at {sign} ?", (moment,)))
    return tuple(found)


Created = Annotated[tuple[Condition, ...], Depends(_created)]


def repeated(request: Request, name: str) -> list[str]:
    """All values of ``name[]``, or of ``name`` repeated."""
    return [*request.query_params.getlist(f"{name}[]"), *request.query_params.getlist(name)]
