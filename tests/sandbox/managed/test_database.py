"""The records: whole or not at all, used by several at once, refused when they can't be read."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from sandbox.errors import HostError
from sandbox.managed.database import Database


def document(number: int) -> dict[str, object]:
    return {"id": f"agent_{number}", "created_at": "2026-01-01T00:00:00.000000Z", "number": number}


def test_a_block_that_raises_changes_nothing(tmp_path: Path) -> None:
    database = Database(str(tmp_path / "state.db"))
    with pytest.raises(RuntimeError), database.write():
        database.insert("agents", document(1))
        raise RuntimeError
    assert database.get("agents", "agent_1") is None
    database.insert("agents", document(1))
    assert database.get("agents", "agent_1") == document(1)
    database.replace("agents", {**document(1), "number": 2}, archived_at="now")
    assert database.get("agents", "agent_1") == {**document(1), "number": 2}
    database.close()


def test_a_change_within_a_read_is_a_mistake_of_ours_that_shows(tmp_path: Path) -> None:
    database = Database(str(tmp_path / "state.db"))
    with pytest.raises(RuntimeError, match="within a read"), database.read():
        database.insert("agents", document(1))
    assert database.get("agents", "agent_1") is None
    with database.write(), database.read():
        database.insert("agents", document(1))
    assert database.get("agents", "agent_1") == document(1)
    database.close()


def test_threads_and_processes_write_side_by_side(tmp_path: Path) -> None:
    path = str(tmp_path / "state.db")
    database = Database(path)
    program = (
        "import sys; from sandbox.managed.database import Database\n"
        "d = Database(sys.argv[1])\n"
        "for n in range(100, 150): d.insert('agents', {'id': f'agent_{n}', 'created_at': 'x'})"
    )
    other = subprocess.Popen([sys.executable, "-c", program, path])
    threads = [
        threading.Thread(
            target=lambda start=start: [
                database.insert("agents", document(n)) for n in range(start, start + 25)
            ]
        )
        for start in (0, 25)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert other.wait(60) == 0
    with database.read() as connection:
        assert connection.execute("SELECT count(*) FROM agents").fetchone() == (100,)
    database.close()


def test_a_killed_writer_leaves_whole_records(tmp_path: Path) -> None:
    path = str(tmp_path / "state.db")
    program = (
        "import sys; from sandbox.managed.database import Database\n"
        "d = Database(sys.argv[1]); n = 0\n"
        "while True:\n"
        "    with d.write():\n"
        "        d.insert('agents', {'id': f'agent_{n}', 'created_at': 'x'})\n"
        "        d.insert('agent_versions', {'id': f'agent_{n}', 'created_at': 'x'}, version=1)\n"
        "    n += 1\n"
        "    print(n, flush=True)"
    )
    writer = subprocess.Popen([sys.executable, "-c", program, path], stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    written = [int(writer.stdout.readline()) for _ in range(30)][-1]
    os.kill(writer.pid, signal.SIGKILL)
    writer.stdout.close()
    writer.wait()
    database = Database(path)
    with database.read() as connection:
        (agents,) = connection.execute("SELECT count(*) FROM agents").fetchone()
        (versions,) = connection.execute("SELECT count(*) FROM agent_versions").fetchone()
    assert agents == versions >= written
    database.close()


def test_records_of_another_format_are_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(HostError, match="format 99"):
        Database(str(path))
    path.write_bytes(b"no database at all" * 100)
    with pytest.raises(HostError, match="can't be used"):
        Database(str(path))
    assert path.read_bytes().startswith(b"no database")


def test_only_its_owner_reads_it(tmp_path: Path) -> None:
    Database(str(tmp_path / "state.db")).close()
    assert (tmp_path / "state.db").stat().st_mode & 0o077 == 0


def test_a_change_under_way_is_whole_when_all_is_closed_and_no_other_begins(tmp_path: Path) -> None:
    """A thread that outlives its server ends its change, and doesn't wait for itself with the next."""
    path = str(tmp_path / "state.db")
    database = Database(path)
    within, go_on = threading.Event(), threading.Event()
    refused: list[Exception] = []

    def change() -> None:
        with database.write():
            database.insert("files", {"id": "first", "created_at": "t"})
            within.set()
            assert go_on.wait(30)
            database.insert("files", {"id": "second", "created_at": "t"})
        try:
            database.insert("files", {"id": "third", "created_at": "t"})
        except sqlite3.ProgrammingError as error:
            refused.append(error)

    changing = threading.Thread(target=change)
    closing = threading.Thread(target=database.close)
    changing.start()
    assert within.wait(30)
    closing.start()
    go_on.set()
    for thread in (changing, closing):
        thread.join(60)
        assert not thread.is_alive()
    found = Database(path)
    assert found.get("files", "first") and found.get("files", "second")
    # The third came before all was closed, or not at all.
    assert bool(refused) != bool(found.get("files", "third"))
    found.close()
