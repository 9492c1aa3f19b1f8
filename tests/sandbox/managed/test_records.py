"""A session's record: its age in what is answered, its private half, its turn."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox.managed import events, records
from sandbox.managed.database import Database, Document, dump, load
from sandbox.managed.failures import Refused
from sandbox.managed.records import Record, Turn


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database(str(tmp_path / "state.db"))
    yield opened
    opened.close()


def document(status: str = "idle") -> Document:
    return {
        "id": "sesn_1",
        "type": "session",
        "status": status,
        "created_at": "2020-01-01T00:00:00.000000Z",
        "stats": {"active_seconds": 0.0, "duration_seconds": None},
        "updated_at": "2020-01-01T00:00:00.000000Z",
        "archived_at": None,
        "metadata": {"created_at": "never", "duration_seconds": "null"},
        "agent": {"id": "agent_1", "version": 3},
        "environment_id": "env_1",
        "budget": None,
        "usage": {"active_seconds": 0.0},
    }


def test_a_session_tells_its_age(database: Database) -> None:
    aged = load(records.aged(dump(document())))
    assert aged["stats"]["duration_seconds"] > 1e8
    assert aged == {**document(), "stats": {**aged["stats"]}}
    assert load(records.aged(dump(document("terminated")))) == document("terminated")


def test_a_record_is_read_as_it_was_kept(database: Database) -> None:
    with pytest.raises(Refused):
        records.read(database, "sesn_1")
    record = Record(document(), {"environment": {"id": "env_1"}}, None)
    records.insert(database, record)
    assert records.read(database, "sesn_1") == record
    turn = Turn("asking", "2020-01-01T00:00:00.000000Z", (("sevt_1", "ls", "", ""),))
    records.save(database, record._replace(turn=turn))
    assert records.read(database, "sesn_1").turn == turn
    assert records.asking(turn) == {"type": "requires_action", "event_ids": ["sevt_1"]}


def test_a_status_and_its_event_come_together_and_time_is_counted(database: Database) -> None:
    record = Record(document(), {}, None)
    records.insert(database, record)
    running = records.run(database, record, Turn("queued", "2020-01-01T00:00:10.000000Z"))
    assert running.status == "running"
    resting = records.rest(database, running, records.END_TURN)
    assert resting.document["stats"]["active_seconds"] > 1e8
    assert resting == records.read(database, "sesn_1")
    told = [load(text) for _, _, text in events.after(database, "sesn_1", 0, 10)]
    assert [event["type"] for event in told] == [
        "session.status_running",
        "session.usage",
        "session.status_idle",
    ]
    assert told[1]["usage"] == resting.document["usage"]


def test_a_dead_turn_takes_what_was_queued_with_it(database: Database) -> None:
    record = Record(document("running"), {}, Turn("begun", "2020-01-01T00:00:00.000000Z"))
    records.insert(database, record)
    events.queued(database, "sesn_1", {"type": "user.message", "content": []})
    records.fail(database, record, "why")
    assert events.waiting(database, "sesn_1") == []
    told = [load(text) for _, _, text in events.after(database, "sesn_1", 0, 10)]
    assert [event["type"] for event in told] == [
        "user.message",
        "session.error",
        "user.message",
        "session.usage",
        "session.status_idle",
    ]
    assert told[1]["error"]["message"] == "why"
    assert told[-1]["stop_reason"] == {"type": "retries_exhausted"}
