"""Environments by file, by name or by id. Those that last are records, which `sandbox.managed` keeps; here they are
only looked up, by one question to the database, for a session's start can't wait for more."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from sandbox.environment import Environment, known_checks, parse, read
from sandbox.errors import HostError, InputError

if TYPE_CHECKING:
    import sqlite3

_SUFFIXES = (".yaml", ".yml", ".json")


def find(given: str, data: str) -> Environment:
    """The environment of a file, or the one that has that name or id.

    InputError when neither is there, when it is archived, or when it is a self-hosted one, which has nothing to run
    here.
    """
    found = read_file(given) if is_file(given) else _record(data, given)
    if found.type != "cloud":
        raise InputError(
            f"{given}: config.type is {found.type}, which names no packages and no network",
            hint="use an environment of type cloud",
        )
    return found


def is_file(given: str) -> bool:
    """Whether ``given`` is meant as a path, not as a name."""
    return "/" in given or given.endswith(_SUFFIXES) or os.path.isfile(given)


def read_file(path: str) -> Environment:
    """Read and validate one file."""
    return read(read_text(path), known_checks(), source=path)


def read_text(path: str) -> bytes:
    """What is in the file of an environment, or of another body."""
    try:
        with open(path, "rb") as file:
            return file.read(1 << 20)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}", hint="check the path") from error


def records(data: str) -> str:
    """The file of the records that commands and ``sandboxctl serve`` share."""
    return os.path.join(data, "managed", "state.db")


def names(data: str) -> list[str]:
    """The names of the environments that last and are not archived."""
    with _open(data) as database:
        if database is None:
            return []
        rows = database.execute("SELECT name FROM environments WHERE archived_at IS NULL ORDER BY name")
        return [name for (name,) in rows]


def _record(data: str, given: str) -> Environment:
    with _open(data) as database:
        row = None
        if database is not None:
            row = database.execute(
                "SELECT doc FROM environments WHERE id = ?1 OR (name = ?1 AND archived_at IS NULL) "
                "ORDER BY id = ?1 DESC LIMIT 1",
                (given,),
            ).fetchone()
    if row is None:
        known = names(data)
        raise InputError(
            f"there is no environment {given!r}, and no file of that name",
            hint=f"known names: {', '.join(known)}"
            if known
            else "sandboxctl env create FILE makes one known",
        )
    import json

    document: dict[str, Any] = json.loads(row[0])
    if document["archived_at"] is not None:
        raise InputError(
            f"the environment {given} is archived: it takes no new sessions", hint="use another, or its file"
        )
    body = {"name": document["name"], "config": document["config"]}
    return parse(body, known_checks(), source=f"environment {given}", bare=False)


@contextmanager
def _open(data: str) -> "Iterator[sqlite3.Connection | None]":
    """The records, to be read only; None when there are none. HostError when they can't be read."""
    path = records(data)
    if not os.path.isfile(path):
        yield None
        return
    import sqlite3

    quoted = path.replace("%", "%25").replace("?", "%3f").replace("#", "%23")
    try:
        database = sqlite3.connect(f"file:{quoted}?mode=ro", uri=True, timeout=10)
        try:
            yield database
        finally:
            database.close()
    except sqlite3.Error as error:
        raise HostError(
            f"the environments in {path} can't be read: {error}",
            hint="name another data directory with --data",
        ) from error
