"""Pages: every object once, in order, in both forms, forwards and backwards."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox.managed import identifiers, paging
from sandbox.managed.database import Database
from sandbox.managed.failures import Refused
from sandbox.managed.paging import Limits, Query

LIMITS = Limits(3, 5)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    made = Database(str(tmp_path / "state.db"))
    for number in range(8):
        made.insert("agents", {"id": f"agent_{number}", "created_at": identifiers.now()})
    yield made
    made.close()


def ids(page: paging.Page) -> list[int]:
    return [int(document["id"].removeprefix("agent_")) for document in page.documents()]


@pytest.mark.parametrize("limit", [None, 1, 2, 4, 5])
@pytest.mark.parametrize("order", ["asc", "desc"])
def test_pages_hold_every_object_once_in_order(database: Database, limit: int | None, order: str) -> None:
    seen, page, pages = [], None, []
    while True:
        found = paging.fetch(database, "agents", Query(limit, page, order=order), LIMITS)
        seen += ids(found)
        pages.append(ids(found))
        assert found.has_more == (found.next_page is not None)
        if found.next_page is None:
            break
        page = found.next_page
    assert seen == sorted(range(8), reverse=order == "desc")
    back = [pages.pop()]
    while found.prev_page is not None:
        found = paging.fetch(database, "agents", Query(limit, found.prev_page, order=order), LIMITS)
        back.append(ids(found))
    assert back[1:] == pages[::-1]


def test_the_older_form_walks_both_ways(database: Database) -> None:
    first = paging.fetch(database, "agents", Query(), LIMITS)
    second = paging.fetch(database, "agents", Query(after_id=first.last_id), LIMITS)
    assert (ids(first), ids(second)) == ([7, 6, 5], [4, 3, 2])
    assert ids(paging.fetch(database, "agents", Query(before_id=second.first_id), LIMITS)) == [7, 6, 5]


def test_a_cursor_stays_right_when_objects_come_and_go(database: Database) -> None:
    first = paging.fetch(database, "agents", Query(), LIMITS)
    database.delete("agents", "agent_5")
    database.delete("agents", "agent_4")
    database.insert("agents", {"id": "agent_9", "created_at": identifiers.now()})
    assert ids(paging.fetch(database, "agents", Query(page=first.next_page), LIMITS)) == [3, 2, 1]


@pytest.mark.parametrize(
    "query",
    [
        Query(limit=0),
        Query(limit=6),
        Query(page="x"),
        Query(page="YWZ0ZXI6LTE"),
        Query(page="YWZ0ZXI6OTk5OTk5OTk5OTk5OTk5OTk5OTk5"),
        Query(after_id="agent_none"),
        Query(after_id="agent_1", before_id="agent_2"),
        Query(order="sideways"),
    ],
)
def test_a_query_without_meaning_is_refused(database: Database, query: Query) -> None:
    with pytest.raises(Refused) as caught:
        paging.fetch(database, "agents", query, LIMITS)
    assert caught.value.status == 400


def test_the_answer_is_json(database: Database) -> None:
    import json

    found = paging.fetch(database, "agents", Query(), LIMITS)
    told = json.loads(found.to_json())
    assert [document["id"] for document in told["data"]] == ["agent_7", "agent_6", "agent_5"]
    assert told["has_more"] is True
    assert told["next_page"] == found.next_page
    assert json.loads(found._replace(rows=()).to_json())["data"] == []
