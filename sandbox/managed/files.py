"""Files: what was uploaded, the copies that sessions have of it, and what sessions produced.

A record is a row of ``files``. The content of an uploaded file, and of a session's copy, is ``<folder>/files/<id>`` and
never changes; what a session produced stands in its outputs directory (sandbox.managed.outputs). A content appears by
a rename inside the transaction that makes its record, and goes after the one that removes it: who dies in between
leaves a content without a record, which `sweep` removes.
"""

import errno
import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import NamedTuple

from sandbox.containers.directory import NoContainerError
from sandbox.errors import HostError
from sandbox.managed import filenames, identifiers, paging
from sandbox.managed.database import Document, load
from sandbox.managed.failures import Refused, invalid, not_found
from sandbox.managed.paging import Condition, Limits, Page, Query
from sandbox.managed.service import Service

LIMITS = Limits(20, 1000)
LARGEST = 500 << 20
SHORTEST_S, LONGEST_S = 3600, 7_776_000
_MOST_IDS = 100
_PART = ".part-"
_CHUNK = 1 << 20


class Content(NamedTuple):
    """What a file holds. ``descriptor``: open for reading, the caller's to close. ``size`` in bytes."""

    descriptor: int
    size: int
    filename: str
    mime_type: str


class Upload:
    """A file while it arrives, in a ``with`` block, at ``path``. Nothing of it stays unless `finish` was called."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._size = 0
        self._path = self.path = os.path.join(_folder(service), _PART + os.urandom(9).hex())
        flags = os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC
        try:
            self._file = os.open(self._path, flags, 0o600)
        except OSError as error:
            raise _unwritable(service, error) from error
        # Held while it arrives: a sweep takes it for nobody's otherwise.
        fcntl.flock(self._file, fcntl.LOCK_EX)

    def write(self, data: bytes | memoryview) -> None:
        """Add ``data``. Refused when the file becomes too large, or there is no room for it."""
        self._size += len(data)
        if self._size > LARGEST:
            raise Refused("request_too_large", f"The file is larger than {LARGEST >> 20} MiB.")
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._file, view) :]
        except OSError as error:
            raise _unwritable(self._service, error) from error

    def finish(
        self, filename: str | None, mime_type: str | None = None, expires_in_seconds: int | None = None
    ) -> Document:
        """The new file. ``filename`` as the caller gives it, with any path; ``mime_type`` when it is known."""
        if expires_in_seconds is not None and not SHORTEST_S <= expires_in_seconds <= LONGEST_S:
            raise invalid(f"expires_in_seconds: must be between {SHORTEST_S} and {LONGEST_S}")
        kind = filenames.kind(filename or "", mime_type)
        document = describe(filenames.uploaded(filename, kind), kind, self._size)
        if expires_in_seconds is not None:
            document["expires_at"] = _later(document["created_at"], expires_in_seconds)
        path = _path(self._service, document["id"])
        with self._service.database.write():
            os.rename(self._path, path)
            self._path = path
            insert(self._service, document)
        self._path = ""
        return document

    def __enter__(self) -> "Upload":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._path:
                with suppress(FileNotFoundError):
                    os.unlink(self._path)
        finally:
            os.close(self._file)


def describe(
    filename: str, mime_type: str, size: int, *, session_id: str | None = None, downloadable: bool = False
) -> Document:
    """The document of a new file."""
    return {
        "id": identifiers.new("file"),
        "type": "file",
        "filename": filename,
        "mime_type": mime_type,
        "size_bytes": size,
        "created_at": identifiers.now(),
        "downloadable": downloadable,
        "expires_at": None,
        "scope": None if session_id is None else {"type": "session", "id": session_id},
    }


def insert(service: Service, document: Document, **columns: object) -> None:
    """Record the file ``document``. ``columns``: see the table."""
    scope = document["scope"]
    service.database.insert(
        "files",
        document,
        scope_id=None if scope is None else scope["id"],
        expires_at=document["expires_at"],
        **columns,
    )


def get(service: Service, file_id: str) -> Document:
    """The file's metadata, which stays when its content expires."""
    found = service.database.get("files", file_id)
    if found is None:
        raise not_found("file", file_id)
    return found


def usable(service: Service, file_id: str) -> Document:
    """The file's metadata; Refused (404 ``file_expired``) when its content is gone."""
    found = get(service, file_id)
    if _expired(found):
        with suppress(FileNotFoundError):
            os.unlink(_path(service, file_id))
        raise Refused(
            "not_found_error", f"The file {file_id} expired at {found['expires_at']}.", code="file_expired"
        )
    return found


def list_page(service: Service, query: Query, *, scope_id: str | None = None) -> Page:
    """Files, newest first; those of one session with ``scope_id``."""
    conditions = () if scope_id is None else (Condition("scope_id = ?", (scope_id,)),)
    return paging.fetch(service.database, "files", query, LIMITS, conditions)


def list_named(service: Service, ids: list[str], *, scope_id: str | None = None) -> Page:
    """The files with ``ids``, newest first, on one page; what is not there is left out."""
    wanted = tuple(dict.fromkeys(ids))
    if len(wanted) > _MOST_IDS:
        raise invalid(f"ids: has {len(wanted)} entries; {_MOST_IDS} are allowed")
    conditions = [Condition(f"id IN ({', '.join('?' * len(wanted))})", wanted)]
    if scope_id is not None:
        conditions.append(Condition("scope_id = ?", (scope_id,)))
    found = paging.fetch(service.database, "files", Query(limit=_MOST_IDS), LIMITS, conditions)
    return found._replace(has_more=False, next_page=None, prev_page=None)


def open_content(service: Service, file_id: str) -> Content:
    """The content of a file, whether it may be downloaded or not. What a session produced is given as it is now, even
    if the session wrote on since it was listed."""
    found, output, _ = row(service, file_id)
    try:
        if output is None:
            usable(service, file_id)
            descriptor = os.open(_path(service, file_id), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        else:
            descriptor = service.live.containers.open_output(found["scope"]["id"], os.fsdecode(output))
    except (FileNotFoundError, NoContainerError):
        raise not_found("file", file_id) from None
    return Content(descriptor, os.fstat(descriptor).st_size, found["filename"], found["mime_type"])


def download(service: Service, file_id: str) -> Content:
    """The content of a file that may be downloaded; Refused for what was uploaded."""
    if not usable(service, file_id)["downloadable"]:
        raise invalid(
            f"The file {file_id} was uploaded, and only what a session produced can be downloaded.",
            code="file_not_downloadable",
        )
    return open_content(service, file_id)


def delete(service: Service, file_id: str) -> Document:
    """Remove the file. Sessions keep the copies that they have of it; what one produced stays in it, and is listed
    again when it changes there."""
    with service.database.write() as cursor:
        document, output, identity = row(service, file_id)
        service.database.delete("files", file_id)
        if output is not None:
            cursor.execute(
                "INSERT OR REPLACE INTO outputs_deleted (session_id, output, identity) VALUES (?, ?, ?)",
                (document["scope"]["id"], output, identity),
            )
    discard(service, (file_id,))
    return {"id": file_id, "type": "file_deleted"}


def plan_copy(service: Service, file_id: str, session_id: str) -> Document:
    """What a session's copy of the file is to be: a file with an id of its own. Nothing is made."""
    source = usable(service, file_id)
    return describe(
        source["filename"],
        source["mime_type"],
        source["size_bytes"],
        session_id=session_id,
        downloadable=source["downloadable"],
    )


def copy(service: Service, file_id: str, document: Document) -> None:
    """Make the copy that was planned as ``document``. To be called in the transaction that uses it.

    An upload's content is shared as a hard link: nothing writes to it, and neither goes with the other.
    """
    with content_path(service, file_id) as here:
        there = _path(service, document["id"])
        try:
            try:
                os.link(here, there, follow_symlinks=False)
            except PermissionError:
                # A file system without links.
                shutil.copyfile(here, there, follow_symlinks=False)
                os.chmod(there, 0o600)
            document["size_bytes"] = os.stat(there).st_size
        except FileNotFoundError:
            raise not_found("file", file_id) from None
        except OSError as error:
            raise _unwritable(service, error) from error
    insert(service, document)


@contextmanager
def content_path(service: Service, file_id: str) -> Iterator[str]:
    """Where the content of a file is, for the block: of what a session produced, a copy. Refused when there is none."""
    usable(service, file_id)
    if row(service, file_id)[1] is None:
        yield _path(service, file_id)
        return
    found = open_content(service, file_id)
    try:
        with Upload(service) as kept:
            at = 0
            while data := os.pread(found.descriptor, _CHUNK, at):
                kept.write(data)
                at += len(data)
            yield kept.path
    finally:
        os.close(found.descriptor)


def discard(service: Service, ids: tuple[str, ...]) -> None:
    """Remove the contents of files whose records are gone."""
    for file_id in ids:
        with suppress(FileNotFoundError):
            os.unlink(_path(service, file_id))


def remove_scope(service: Service, session_id: str) -> tuple[str, ...]:
    """Remove the records of all files of a session; the ids for `discard`, which comes after the transaction."""
    with service.database.write() as cursor:
        rows = cursor.execute("SELECT id FROM files WHERE scope_id = ?", (session_id,)).fetchall()
        if rows:
            cursor.execute("DELETE FROM files WHERE scope_id = ?", (session_id,))
        cursor.execute("DELETE FROM outputs_deleted WHERE session_id = ?", (session_id,))
    return tuple(row[0] for row in rows)


def sweep(service: Service) -> int:
    """Remove contents that no record names, records without content, and what has expired; how many there were.

    Safe beside other processes: no content appears while this holds the transaction.
    """
    folder, removed, now = _folder(service), 0, identifiers.now()
    with service.database.write() as cursor:
        there = set(os.listdir(folder))
        rows = cursor.execute("SELECT id, expires_at FROM files WHERE output IS NULL").fetchall()
        lasting = {file_id for file_id, expires_at in rows if expires_at is None or expires_at > now}
        for name in there - lasting:
            if not name.startswith(_PART) or _abandoned(os.path.join(folder, name)):
                with suppress(FileNotFoundError):
                    os.unlink(os.path.join(folder, name))
                    removed += 1
        for file_id in lasting - there:
            cursor.execute("DELETE FROM files WHERE id = ?", (file_id,))
            removed += 1
    return removed


def _abandoned(path: str) -> bool:
    """Whether nobody writes the arriving file ``path`` any more."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True


def row(service: Service, file_id: str) -> tuple[Document, bytes | None, str | None]:
    """The file's document, and for what a session produced its path below the outputs and its identity."""
    with service.database.read() as connection:
        found = connection.execute(
            "SELECT doc, output, identity FROM files WHERE id = ?", (file_id,)
        ).fetchone()
    if found is None:
        raise not_found("file", file_id)
    return load(found[0]), found[1], found[2]


def _expired(document: Document) -> bool:
    return document["expires_at"] is not None and document["expires_at"] <= identifiers.now()


def _later(moment: str, seconds: int) -> str:
    later = datetime.fromisoformat(moment).astimezone(UTC) + timedelta(seconds=seconds)
    return later.isoformat(timespec="microseconds").replace("+00:00", "Z")


def _folder(service: Service) -> str:
    folder = os.path.join(service.folder, "files")
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
    except OSError as error:
        raise _unwritable(service, error) from error
    return folder


def _path(service: Service, file_id: str) -> str:
    return os.path.join(service.folder, "files", file_id)


def _unwritable(service: Service, error: OSError) -> Exception:
    """What is told when a file can't be written: no room is the caller's to make, as on the hosted service."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return invalid(
            f"There is no room for the file in {service.folder}: {error.strerror}.",
            code="storage_quota_exceeded",
            hint="Delete files, or free some space.",
        )
    return HostError(
        f"a file can't be written in {service.folder}: {error.strerror}",
        hint="make it writable, or name another data directory with --data",
    )
