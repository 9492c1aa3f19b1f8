"""All that lasts as one file, a tar: the records as they are at one moment, and the contents of files.

What is not in it: what containers hold besides the files that sessions produced, so that sessions come back archived;
bases and layers, which are built again; secrets, unless they are asked for.
"""

import json
import os
import re
import shutil
import sqlite3
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import IO, NamedTuple

from sandbox.errors import HostError, InputError
from sandbox.managed import events, files, identifiers, outputs, records
from sandbox.managed.database import TABLES, Document, dump
from sandbox.managed.database import load as load_document
from sandbox.managed.failures import Refused, conflict
from sandbox.managed.files import Content
from sandbox.managed.resetting import emptied
from sandbox.managed.secrets import Secrets
from sandbox.managed.service import Service

FORMAT = 1
_RECORDS, _KEY, _ABOUT, _CONTENTS = "records.db", "secrets.key", "state.json", "files/"
_SECRETS = ("credentials", "resources")
# Of this installation, or of this moment.
_LEFT_OUT = ("environment_builds", "outputs_deleted")
_ID = re.compile(r"[a-z]+_[0-9A-Za-z]{1,64}(:[a-z]+)?\Z")
_IDS = ("id", "session_id", "scope_id", "vault_id")


class Summary(NamedTuple):
    """How many of each table; how many secrets were left out, and how many contents of files could not be had."""

    counts: dict[str, int]
    without_secret: int
    without_content: int


def export(service: Service, target: IO[bytes], *, with_secrets: bool = False) -> Summary:
    """Write everything to ``target``. ``with_secrets``: the sealed ones, and the key that opens them."""
    _follow_outputs(service)
    with _workplace(service) as place:
        path = os.path.join(place, _RECORDS)
        with closing(sqlite3.connect(path, isolation_level=None)) as copy:
            with service.database.read() as connection:
                connection.backup(copy)
            without_secret = _prepare(copy, with_secrets=with_secrets)
            with tarfile.open(fileobj=target, mode="w|", format=tarfile.PAX_FORMAT) as tar:
                lost = _add_contents(service, copy, tar, place)
                copy.execute("VACUUM")
                summary = Summary(_counts(copy), without_secret, lost)
                copy.close()
                tar.add(path, _RECORDS, filter=_plain)
                key = os.path.join(service.folder, _KEY)
                if with_secrets and os.path.exists(key):
                    tar.add(key, _KEY, filter=_plain)
                # Last, so that what was cut short is told by its lack.
                about = {"format": FORMAT, "exported_at": identifiers.now(), **summary._asdict()}
                _add_text(tar, place, _ABOUT, json.dumps(about))
    return summary


def load(service: Service, source: IO[bytes], *, replace: bool = False) -> Summary:
    """Take in what `export` wrote; all of it or nothing. ``replace``: in one change it takes the place of what is
    there.

    Refused when something is there; InputError when ``source`` is not a whole state.
    """
    if not replace:
        _refuse_over(_present(service))
    with _workplace(service) as place:
        about = _unpack(source, place)
        with closing(sqlite3.connect(os.path.join(place, _RECORDS), isolation_level=None)) as copy:
            try:
                _check(service, copy)
                with emptied(service) if replace else service.database.write():
                    return _take_in(service, copy, place, about)
            except sqlite3.Error as error:
                raise InputError(f"the state's records can't be read: {error}") from error


@contextmanager
def _workplace(service: Service) -> Iterator[str]:
    place = tempfile.mkdtemp(prefix=".state-", dir=service.folder)
    try:
        yield place
    except OSError as error:
        raise HostError(
            f"the state could not be carried over: {error}", hint="free some space, or name another file"
        ) from error
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _prepare(copy: sqlite3.Connection, *, with_secrets: bool) -> int:
    """Make the copy what is carried over; the number of secrets that are not."""
    now = identifiers.now()
    for table in _LEFT_OUT:
        copy.execute(f"DELETE FROM {table}")  # noqa: S608
    copy.execute("DELETE FROM unfinished")
    copy.execute("DELETE FROM events WHERE type = ?", (events.DELETED,))
    for identifier, text in copy.execute("SELECT id, doc FROM sessions").fetchall():
        document = load_document(records.aged(text))
        document |= {"status": records.TERMINATED, "archived_at": document["archived_at"] or now}
        copy.execute(
            "UPDATE sessions SET status = ?, archived_at = ?, turn = NULL, doc = ? WHERE id = ?",
            (records.TERMINATED, document["archived_at"], dump(document), identifier),
        )
    if with_secrets:
        return 0
    found = 0
    for table in _SECRETS:
        found += copy.execute(f"UPDATE {table} SET secret = NULL WHERE secret IS NOT NULL").rowcount  # noqa: S608
    return found


def _add_contents(service: Service, copy: sqlite3.Connection, tar: tarfile.TarFile, place: str) -> int:
    """Add the contents of all files; takes those records away whose content is gone, and says how many."""
    lost = 0
    for (file_id,) in copy.execute("SELECT id FROM files").fetchall():
        content = _content(service, file_id)
        if content is None:
            lost += copy.execute("DELETE FROM files WHERE id = ?", (file_id,)).rowcount
            continue
        with open(content.descriptor, "rb") as source:
            # What a session produced may grow or shrink while it is read.
            steady = os.path.join(place, "content")
            with open(steady, "wb") as target:
                shutil.copyfileobj(source, target, 1 << 20)
        tar.add(steady, _CONTENTS + file_id, filter=_plain)
        copy.execute(
            "UPDATE files SET output = NULL, identity = NULL, doc = json_set(doc, '$.size_bytes', ?) WHERE id = ?",
            (os.path.getsize(steady), file_id),
        )
    return lost


def _follow_outputs(service: Service) -> None:
    with service.database.read() as connection:
        rows = connection.execute("SELECT id FROM sessions WHERE archived_at IS NULL").fetchall()
    for (session_id,) in rows:
        outputs.follow(service, session_id)


def _content(service: Service, file_id: str) -> Content | None:
    try:
        return files.open_content(service, file_id)
    except Refused:
        return None


def _counts(copy: sqlite3.Connection) -> dict[str, int]:
    return {
        table: copy.execute(f"SELECT count(*) FROM {table}").fetchone()[0]  # noqa: S608
        for table in _carried()
    }


def _carried() -> tuple[str, ...]:
    return tuple(table for table in TABLES if table not in _LEFT_OUT)


def _plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    member.mode = 0o600
    return member


def _add_text(tar: tarfile.TarFile, place: str, name: str, text: str) -> None:
    path = os.path.join(place, name)
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    tar.add(path, name, filter=_plain)


def _present(service: Service) -> dict[str, int]:
    with service.database.read() as connection:
        counts = _counts(connection)
        # What tells followers that a session was deleted is nothing that anybody keeps.
        counts["events"] -= connection.execute(
            "SELECT count(*) FROM events WHERE type = ?", (events.DELETED,)
        ).fetchone()[0]
    return {table: count for table, count in counts.items() if count}


def _refuse_over(present: dict[str, int]) -> None:
    if present:
        there = ", ".join(f"{count} {table.replace('_', ' ')}" for table, count in present.items())
        raise conflict(
            f"There are records already ({there}): --replace puts the state in their place, --data names another one."
        )


def _unpack(source: IO[bytes], place: str) -> Document:
    """The members of a state, in ``place``; what it says about itself."""
    os.mkdir(os.path.join(place, "files"))
    try:
        with tarfile.open(fileobj=source, mode="r|*") as tar:
            for member in tar:
                name = member.name
                known = name in (_RECORDS, _KEY, _ABOUT) or (
                    name.startswith(_CONTENTS) and _ID.match(name.removeprefix(_CONTENTS))
                )
                content = tar.extractfile(member) if known and member.isreg() else None
                if content is None:
                    raise InputError(
                        f"{name!r} is nothing that a state holds", hint="name a file of state export"
                    )
                with open(os.path.join(place, name), "wb") as target:
                    shutil.copyfileobj(content, target, 1 << 20)
    except (tarfile.TarError, EOFError) as error:
        raise InputError(f"the state can't be read: {error}", hint="name a file of state export") from error
    try:
        with open(os.path.join(place, _ABOUT), encoding="utf-8") as file:
            about: Document = json.load(file)
        found = about["format"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            "the state is cut short, or is none", hint="name a whole file of state export"
        ) from error
    if found != FORMAT:
        raise InputError(f"the state has the format {found}; this version of sandboxsh reads {FORMAT}")
    return about


def _check(service: Service, copy: sqlite3.Connection) -> None:
    """InputError when the records are not what this version writes: their ids become names of files."""
    copy.execute("PRAGMA trusted_schema = OFF")
    (sound,) = copy.execute("PRAGMA quick_check(1)").fetchone()
    if sound != "ok":
        raise InputError(f"the state's records are damaged: {sound}")
    with service.database.read() as connection:
        for table in _carried():
            ours, theirs = _columns(connection, table), _columns(copy, table)
            if ours != theirs:
                raise InputError(f"the state's table {table} is of another version of sandboxsh")
            if copy.execute(f"SELECT 1 FROM {table} WHERE NOT json_valid(doc)").fetchone():  # noqa: S608
                raise InputError(f"the state's table {table} has a document that is none")
            for column in set(ours) & set(_IDS):
                for (value,) in copy.execute(f"SELECT {column} FROM {table}"):  # noqa: S608
                    if value is not None and not _ID.match(str(value)):
                        raise InputError(f"the state's table {table} has {value!r}, which is no id")


def _columns(connection: sqlite3.Connection, table: str) -> list[str]:
    return [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]


def _take_in(service: Service, copy: sqlite3.Connection, place: str, about: Document) -> Summary:
    theirs = Secrets(os.path.join(place, _KEY)) if os.path.exists(os.path.join(place, _KEY)) else None
    contents = set(os.listdir(os.path.join(place, "files")))
    folder = os.path.join(service.folder, "files")
    os.makedirs(folder, mode=0o700, exist_ok=True)
    with service.database.write() as connection:
        _refuse_over(_present(service))
        connection.execute("DELETE FROM events WHERE type = ?", (events.DELETED,))
        for table in _carried():
            columns = _columns(copy, table)
            marks = ", ".join("?" * len(columns))
            for row in copy.execute(f"SELECT {', '.join(columns)} FROM {table}"):  # noqa: S608
                values = dict(zip(columns, row, strict=True))
                if table == "files" and values["id"] not in contents:
                    continue
                if values.get("secret") is not None:
                    secret = None if theirs is None else theirs.open(values["secret"], values["id"])
                    values["secret"] = None if secret is None else service.secrets.seal(secret, values["id"])
                connection.execute(
                    f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks})",  # noqa: S608
                    tuple(values.values()),
                )
        summary = Summary(
            _counts(connection), about.get("without_secret", 0), about.get("without_content", 0)
        )
        for file_id in contents:
            os.rename(os.path.join(place, "files", file_id), os.path.join(folder, file_id))
    return summary
