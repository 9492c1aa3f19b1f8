"""What sessions leave in /mnt/session/outputs, as files of theirs.

A file's record follows what stands there, whenever somebody looks: what is new gets one, what changed gets another with
another id, what is gone loses it. The content is read where it stands, and stays there when the session's processes
end; it goes with the session.
"""

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from sandbox.containers.directory import NoContainerError
from sandbox.managed import filenames, files
from sandbox.managed.paging import Page, Query
from sandbox.managed.service import Service

if TYPE_CHECKING:
    import sqlite3

    from sandbox.containers.spec import Output

MOST = 10_000
"""So many files of a session are seen, the first by their paths."""

_MOST_SESSIONS = 64


class _Known(NamedTuple):
    """What the records say. ``identities``: by path, the record's id and what it was made for."""

    identities: dict[bytes, tuple[str, str]]
    deleted: dict[bytes, str]


def follow(service: Service, session_id: str) -> None:
    """Bring the records of a session's outputs up to date, if there is such a session."""
    with service.database.read() as connection:
        if not _exists(connection, session_id):
            return
    try:
        found = service.live.containers.outputs(session_id, limit=MOST)
    except NoContainerError:
        # It never ran, or is being deleted.
        return
    _record(service, session_id, found)


def _record(service: Service, session_id: str, found: "Iterable[Output]") -> None:
    standing = {os.fsencode(each.path): each for each in found}
    with service.database.read() as connection:
        if not any(_differences(standing, _known(connection, session_id))):
            return
    with service.database.write() as connection:
        if not _exists(connection, session_id):
            return
        gone, new = _differences(standing, _known(connection, session_id))
        connection.executemany("DELETE FROM files WHERE id = ?", [(each,) for each in gone])
        for path in new:
            output = standing[path]
            name = filenames.produced(path)
            document = files.describe(
                name, filenames.kind(name), output.size, session_id=session_id, downloadable=True
            )
            files.insert(service, document, output=path, identity=_identity(output))


def _exists(connection: "sqlite3.Connection", session_id: str) -> bool:
    return connection.execute("SELECT 1 FROM sessions WHERE id = ?", (session_id,)).fetchone() is not None


def _differences(standing: "dict[bytes, Output]", known: _Known) -> tuple[list[str], list[bytes]]:
    """The ids of records that are wrong now, and the paths that need one."""
    now = {path: _identity(output) for path, output in standing.items()}
    gone = [id_ for path, (id_, identity) in known.identities.items() if now.get(path) != identity]
    new = [
        path
        for path, identity in now.items()
        if identity != known.identities.get(path, ("", ""))[1] and identity != known.deleted.get(path)
    ]
    return gone, new


def _known(connection: "sqlite3.Connection", session_id: str) -> _Known:
    rows = connection.execute(
        "SELECT output, id, identity FROM files WHERE scope_id = ? AND output IS NOT NULL", (session_id,)
    )
    identities = {path: (id_, identity) for path, id_, identity in rows}
    rows = connection.execute(
        "SELECT output, identity FROM outputs_deleted WHERE session_id = ?", (session_id,)
    )
    return _Known(identities, dict(rows.fetchall()))


def _identity(output: "Output") -> str:
    return ":".join(str(number) for number in (*output.identity, output.size))


def listed(service: Service, query: Query, *, scope_id: str | None = None) -> Page:
    """Files, newest first, with what sessions have produced by now; those of one session with ``scope_id``."""
    if scope_id is not None:
        follow(service, scope_id)
    else:
        # What does not run changes nothing.
        for session_id in service.live.containers.running()[:_MOST_SESSIONS]:
            follow(service, session_id)
    return files.list_page(service, query, scope_id=scope_id)
