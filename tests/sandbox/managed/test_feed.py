"""Who follows a session's events is woken, whoever writes them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox.managed import events
from sandbox.managed.database import Database
from sandbox.managed.feed import Feed, last_event

WAIT_S = 60


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database(str(tmp_path / "state.db"))
    yield opened
    opened.close()


@pytest.fixture
def feed(database: Database) -> Iterator[Feed]:
    made = Feed(database)
    yield made
    made.close()


def test_our_own_changes_wake_those_who_follow_that_session(feed: Feed) -> None:
    one, other = threading.Event(), threading.Event()
    with feed.follow("a", one.set), feed.follow("b", other.set):
        feed.tell("a")
        assert one.is_set()
        assert not other.is_set()


def test_what_another_process_writes_wakes_them_too(feed: Feed, database: Database) -> None:
    one, other = threading.Event(), threading.Event()
    elsewhere = Database(database.path)
    with feed.follow("a", one.set), feed.follow("b", other.set):
        events.happened(elsewhere, "a", "session.status_running")
        assert one.wait(WAIT_S)
        assert not other.is_set()
        events.happened(elsewhere, "b", "session.status_running")
        assert other.wait(WAIT_S)
    elsewhere.close()


def test_the_end_wakes_everybody(feed: Feed) -> None:
    woken = threading.Event()
    with feed.follow("a", woken.set):
        feed.end()
        assert woken.is_set()
        assert feed.closed


def test_the_newest_event_has_the_highest_number(database: Database) -> None:
    assert last_event(database) == 0
    events.happened(database, "a", "session.status_running")
    first = last_event(database)
    queued = events.queued(database, "a", {"type": "user.message", "content": []})
    second = last_event(database)
    events.process(database, "a", queued)
    assert first < second < last_event(database)
