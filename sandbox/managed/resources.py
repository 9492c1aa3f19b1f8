"""The files and repositories of a session: planned, recorded, listed.

A session is made in this order, so that being killed at any moment leaves whole records: `plan` decides and makes
nothing; the container is made with room for it, and what stands in it is put there (sandbox.managed.placing);
`record` joins the transaction that makes the session.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from netpolicy.credentials import Secret
from sandbox.managed import files, identifiers, mountpaths, paging
from sandbox.managed.database import Document
from sandbox.managed.failures import Refused, invalid, not_found
from sandbox.managed.mountpaths import MOST_FILES, MOST_REPOSITORIES
from sandbox.managed.paging import Condition, Limits, Page, Query
from sandbox.managed.service import Service

if TYPE_CHECKING:
    from sandbox.managed.resource_bodies import FileResource, RepositoryResource, ResourceCreate

LIMITS = Limits(1000, 1000)
_EVERYTHING = 1 << 30
FILE: Final = "file"
REPOSITORY: Final = "github_repository"


class Item(NamedTuple):
    """One resource that is to be. ``document``: as it is answered. A file: ``source`` is the file that it is a copy of,
    ``copy`` the document of that. A repository: its ``token``."""

    document: Document
    source: str = ""
    copy: Document | None = None
    token: Secret | None = None


class Planned(NamedTuple):
    """What a session is to have, before anything of it is made."""

    session_id: str
    items: tuple[Item, ...]

    @property
    def documents(self) -> list[Document]:
        """As they are answered, in the order they were asked for."""
        return [item.document for item in self.items]


def plan(
    service: Service,
    session_id: str,
    wanted: "Sequence[ResourceCreate]",
    existing: Sequence[Document] = (),
    *,
    field: str = "resources.{}.",
) -> Planned:
    """What ``wanted`` comes to, beside ``existing``. Refused when something of it can't be; nothing is made.

    ``field``: where in the caller's body it is, for messages.
    """
    taken = mountpaths.nothing()
    for document in existing:
        mountpaths.take(taken, document["mount_path"], directory=document["type"] == REPOSITORY)
    items = []
    for number, body in enumerate(wanted):
        where = field.format(number)
        if body.type == FILE:
            try:
                item = _plan_file(service, session_id, body)
            except Refused as refused:
                told, code = f"{where}file_id: {refused}", refused.details.get("error_code")
                raise Refused(refused.kind, told, code=code) from None
        else:
            assert body.type == REPOSITORY
            item = _plan_repository(body)
        path, directory = item.document["mount_path"], item.document["type"] == REPOSITORY
        why = mountpaths.problem(path, directory=directory)
        if why is not None:
            raise invalid(f"{where}mount_path: {why}")
        other = mountpaths.collision(path, directory=directory, taken=taken)
        if other is not None:
            raise invalid(f"{where}mount_path: {path} and {other}, of another resource, exclude each other")
        mountpaths.take(taken, path, directory=directory)
        items.append(item)
    repositories = sum(taken.paths.values())
    if len(taken.paths) - repositories > MOST_FILES:
        raise invalid(f"resources: {len(taken.paths) - repositories} files; {MOST_FILES} are allowed")
    if repositories > MOST_REPOSITORIES:
        raise invalid(f"resources: {repositories} repositories; {MOST_REPOSITORIES} are allowed")
    return Planned(session_id, tuple(items))


def _plan_file(service: Service, session_id: str, body: "FileResource") -> Item:
    copy = files.plan_copy(service, body.file_id, session_id)
    path = body.mount_path or mountpaths.default_upload(body.file_id)
    return Item(_document(FILE, path, file_id=copy["id"]), body.file_id, copy)


def _plan_repository(body: "RepositoryResource") -> Item:
    path = body.mount_path or mountpaths.default_repository(body.url)
    checkout = None if body.checkout is None else body.checkout.model_dump()
    given = body.authorization_token
    token = None if given is None else Secret(given.get_secret_value())
    return Item(_document(REPOSITORY, path, url=body.url, checkout=checkout), token=token)


def _document(kind: str, mount_path: str, **fields: object) -> Document:
    now = identifiers.now()
    return {
        "id": identifiers.new("sesrsc"),
        "type": kind,
        **fields,
        "mount_path": mount_path,
        "created_at": now,
        "updated_at": now,
    }


def record(service: Service, planned: Planned) -> None:
    """Record what was planned, and keep the session's copies of files. Belongs into the transaction that uses it."""
    with service.database.write():
        for item in planned.items:
            if item.copy is not None:
                files.copy(service, item.source, item.copy)
            service.database.insert(
                "resources",
                item.document,
                session_id=planned.session_id,
                type=item.document["type"],
                secret=None if item.token is None else seal(service, item.document["id"], item.token),
            )


def recorded(service: Service, session_id: str) -> Planned:
    """What a session is to have, from its records: for a container that is made later than the session."""
    known = {document["id"]: token for document, token in tokens(service, session_id)}
    return Planned(
        session_id,
        tuple(
            Item(document, document.get("file_id", ""), token=known.get(document["id"]))
            for document in all_of(service, session_id)
        ),
    )


def seal(service: Service, resource_id: str, token: Secret) -> bytes:
    """The token of a repository as it is kept."""
    return service.secrets.seal(token.reveal(), resource_id)


def get(service: Service, session_id: str, resource_id: str) -> Document:
    with service.database.read() as connection:
        row = connection.execute("SELECT session_id FROM resources WHERE id = ?", (resource_id,)).fetchone()
        found = service.database.get("resources", resource_id)
    if row is None or found is None or row[0] != session_id:
        raise not_found(f"resource of the session {session_id}", resource_id)
    return found


def list_page(service: Service, session_id: str, query: Query) -> Page:
    """A session's resources in the order they came; all of them when no limit is given."""
    limits = LIMITS if query.limit is not None else Limits(_EVERYTHING, _EVERYTHING)
    conditions = (Condition("session_id = ?", (session_id,)),)
    return paging.fetch(service.database, "resources", query, limits, conditions, order="asc")


def all_of(service: Service, session_id: str) -> list[Document]:
    """A session's resources in the order they came."""
    return list_page(service, session_id, Query()).documents()


def tokens(service: Service, session_id: str) -> tuple[tuple[Document, Secret | None], ...]:
    """A session's repositories, each with its token."""
    with service.database.read() as connection:
        rows = connection.execute(
            "SELECT id, secret FROM resources WHERE session_id = ? AND type = ? ORDER BY seq",
            (session_id, REPOSITORY),
        ).fetchall()
        return tuple(
            (
                service.database.get("resources", resource_id) or {},
                None if secret is None else Secret(service.secrets.open(secret, resource_id)),
            )
            for resource_id, secret in rows
        )


def forget(service: Service, session_id: str) -> tuple[str, ...]:
    """Remove the records of a session's resources and of all its files. Belongs into the transaction that removes the
    session; `files.discard` takes the ids afterwards."""
    with service.database.write() as connection:
        connection.execute("DELETE FROM resources WHERE session_id = ?", (session_id,))
        return files.remove_scope(service, session_id)
