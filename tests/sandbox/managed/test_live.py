"""What is alive in a process: one turn for each session, and an end that waits for them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox.idmap import choose, read_host_ids
from sandbox.managed.database import Database
from sandbox.managed.live import Live

WAIT_S = 60


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Live]:
    database = Database(str(tmp_path / "state.db"))
    made = Live(str(tmp_path), choose(read_host_ids(), None), str(tmp_path), database, lasting=False)
    yield made
    made.close()
    database.close()


def test_a_session_s_work_is_done_once_at_a_time_and_once_more_when_asked_meanwhile(live: Live) -> None:
    begun, go_on = threading.Event(), threading.Event()
    done: list[int] = []

    def work() -> None:
        begun.set()
        assert go_on.wait(WAIT_S)
        done.append(threading.get_ident())

    live.begin("a", work)
    assert begun.wait(WAIT_S)
    live.begin("a", work)
    live.begin("a", work)
    other = threading.Event()
    live.begin("b", other.set)
    assert other.wait(WAIT_S)
    go_on.set()
    live.await_turns()
    assert len(done) == 2
    assert len(set(done)) == 1


def test_nothing_begins_after_the_end(live: Live) -> None:
    live.end()
    began = threading.Event()
    live.begin("a", began.set)
    live.await_turns()
    assert not began.is_set()
    assert live.feed.closed
