"""The records of what lasts, in one SQLite file that servers and commands use side by side.

An object is kept as the JSON that the API answers with; beside it stand, as columns, only what is searched by. Each
change is one transaction, so that a process that is killed leaves whole records.
"""

import json
import os
import sqlite3
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sandbox.errors import HostError

_VERSION = 1
_WAIT_S = 30.0
_SCHEMA = """
CREATE TABLE agents (
  seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, created_at TEXT NOT NULL,
  archived_at TEXT, doc TEXT NOT NULL
);
CREATE TABLE agent_versions (
  seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL, version INTEGER NOT NULL, created_at TEXT NOT NULL,
  doc TEXT NOT NULL, UNIQUE (id, version)
);
CREATE TABLE environments (
  seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, created_at TEXT NOT NULL,
  archived_at TEXT, name TEXT NOT NULL, doc TEXT NOT NULL
);
CREATE UNIQUE INDEX environments_name ON environments (name) WHERE archived_at IS NULL;
CREATE TABLE environment_revisions (
  seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL, revision INTEGER NOT NULL, created_at TEXT NOT NULL,
  doc TEXT NOT NULL, UNIQUE (id, revision)
);
CREATE TABLE environment_builds (
  id TEXT PRIMARY KEY, need TEXT NOT NULL, doc TEXT NOT NULL
);
CREATE TABLE files (
  seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, created_at TEXT NOT NULL,
  scope_id TEXT, expires_at TEXT, output BLOB, identity TEXT, doc TEXT NOT NULL
);
CREATE INDEX files_scope ON files (scope_id);
CREATE TABLE outputs_deleted (
  session_id TEXT NOT NULL, output BLOB NOT NULL, identity TEXT NOT NULL, PRIMARY KEY (session_id, output)
);
CREATE TABLE vaults (
  seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, created_at TEXT NOT NULL,
  archived_at TEXT, doc TEXT NOT NULL
);
CREATE TABLE credentials (
  seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, created_at TEXT NOT NULL,
  archived_at TEXT, vault_id TEXT NOT NULL, secret_name TEXT, secret BLOB, doc TEXT NOT NULL
);
CREATE INDEX credentials_vault ON credentials (vault_id);
CREATE TABLE sessions (
  seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, created_at TEXT NOT NULL,
  archived_at TEXT, status TEXT NOT NULL, agent_id TEXT NOT NULL, agent_version INTEGER NOT NULL,
  environment_id TEXT NOT NULL, doc TEXT NOT NULL, container TEXT NOT NULL, turn TEXT
);
CREATE INDEX sessions_environment ON sessions (environment_id);
CREATE INDEX sessions_running ON sessions (id) WHERE status = 'running';
CREATE TABLE unfinished (session_id TEXT PRIMARY KEY);
CREATE TABLE resources (
  seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, created_at TEXT NOT NULL,
  session_id TEXT NOT NULL, type TEXT NOT NULL, secret BLOB, doc TEXT NOT NULL
);
CREATE INDEX resources_session ON resources (session_id);
CREATE TABLE events (
  seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, created_at TEXT NOT NULL,
  session_id TEXT NOT NULL, type TEXT NOT NULL, processed_at TEXT, superseded INTEGER NOT NULL DEFAULT 0,
  doc TEXT NOT NULL
);
CREATE INDEX events_session ON events (session_id, seq);
CREATE INDEX events_waiting ON events (session_id, seq) WHERE processed_at IS NULL;
CREATE INDEX events_deleted ON events (created_at) WHERE type = 'session.deleted';
"""
TABLES = (
    "agents",
    "agent_versions",
    "environments",
    "environment_revisions",
    "environment_builds",
    "files",
    "outputs_deleted",
    "vaults",
    "credentials",
    "sessions",
    "resources",
    "events",
)

Document = dict[str, Any]


class _Held:
    """A thread's connection, closed when the thread ends."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection

    def __del__(self) -> None:
        self.connection.close()


class Database:
    """One connection a thread to ``path``, made when it is missing. HostError when it can't be used."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._local = threading.local()
        self._all: weakref.WeakSet[_Held] = weakref.WeakSet()
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        self._closed = False
        try:
            os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
            self._prepare()
        except (OSError, sqlite3.Error) as error:
            self.close()
            raise HostError(
                f"the records in {path} can't be used: {error}",
                hint="free some space, name another data directory with --data, or restore it with "
                "sandboxctl state import",
            ) from error

    def _prepare(self) -> None:
        with self.write() as cursor:
            (version,) = cursor.execute("PRAGMA user_version").fetchone()
            if version == 0:
                for statement in _SCHEMA.split(";"):
                    cursor.execute(statement)
                cursor.execute(f"PRAGMA user_version = {_VERSION}")
            elif version != _VERSION:
                raise sqlite3.DatabaseError(
                    f"they have format {version}, and this version of sandboxsh reads {_VERSION}"
                )

    def _connection(self) -> sqlite3.Connection:
        held: _Held | None = getattr(self._local, "held", None)
        if held is None:
            if self._closed:
                raise sqlite3.ProgrammingError("the records are closed")
            made = sqlite3.connect(self.path, timeout=_WAIT_S, isolation_level=None, check_same_thread=False)
            held = _Held(made)
            # A killed process loses nothing in this mode; a machine that loses power may lose the last moments.
            made.execute("PRAGMA journal_mode = WAL")
            made.execute("PRAGMA synchronous = NORMAL")
            self._local.held = held
            with self._lock:
                self._all.add(held)
        return held.connection

    def version(self) -> int:
        """A number that changes when anybody but this thread has changed the records."""
        (number,) = self._connection().execute("PRAGMA data_version").fetchone()
        return int(number)

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """Several reads that see one state. A change can't be made within: another process's may have come between."""
        connection = self._connection()
        if connection.in_transaction:
            yield connection
            return
        connection.execute("BEGIN")
        self._local.reading = True
        try:
            yield connection
        finally:
            self._local.reading = False
            connection.execute("COMMIT")

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """One change: all of it, or none when the block raises. Inside another it belongs to that one."""
        connection = self._connection()
        if getattr(self._local, "reading", False):
            raise RuntimeError("a change of the records begins within a read")
        if connection.in_transaction:
            yield connection
            return
        # Threads of one process wait here: SQLite itself looks only now and then whether it is its turn.
        with self._writing:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
            except BaseException:
                connection.execute("ROLLBACK")
                raise
            connection.execute("COMMIT")

    def get(self, table: str, identifier: str) -> Document | None:
        """The document with that id."""
        row = self._connection().execute(f"SELECT doc FROM {table} WHERE id = ?", (identifier,)).fetchone()  # noqa: S608
        return None if row is None else load(row[0])

    def insert(self, table: str, document: Document, **columns: object) -> None:
        """Add ``document``, whose ``id`` and ``created_at`` become columns, as ``columns`` do."""
        values = {
            "id": document["id"],
            "created_at": document["created_at"],
            **columns,
            "doc": dump(document),
        }
        marks = ", ".join("?" * len(values))
        with self.write() as cursor:
            cursor.execute(
                f"INSERT INTO {table} ({', '.join(values)}) VALUES ({marks})",  # noqa: S608
                tuple(values.values()),
            )

    def replace(self, table: str, document: Document, **columns: object) -> None:
        """Put ``document`` in the place of the one with its id."""
        values = {**columns, "doc": dump(document)}
        assigned = ", ".join(f"{name} = ?" for name in values)
        with self.write() as cursor:
            cursor.execute(
                f"UPDATE {table} SET {assigned} WHERE id = ?",  # noqa: S608
                (*values.values(), document["id"]),
            )

    def delete(self, table: str, identifier: str) -> None:
        with self.write() as cursor:
            cursor.execute(f"DELETE FROM {table} WHERE id = ?", (identifier,))  # noqa: S608

    def close(self) -> None:
        """Close every thread's connection, when a change that is being made is whole. Nobody gets another one: a thread
        that outlives a server would wait for itself to end the change that it is in."""
        whole = self._writing.acquire(timeout=_WAIT_S)
        try:
            with self._lock:
                self._closed = True
                for held in tuple(self._all):
                    held.connection.close()
            self._local = threading.local()
        finally:
            if whole:
                self._writing.release()


def dump(document: Document) -> str:
    return json.dumps(document, ensure_ascii=False, separators=(",", ":"))


def load(text: str) -> Document:
    document: Document = json.loads(text)
    return document
