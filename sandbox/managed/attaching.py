"""Files and repositories of a session that is there already: added, taken away, given another token."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from netpolicy.credentials import Secret
from sandbox.containers.directory import NoContainerError
from sandbox.errors import Failure
from sandbox.managed import files, identifiers, machines, mountpaths, placing, records, resources
from sandbox.managed.database import Document
from sandbox.managed.failures import Refused, conflict, invalid
from sandbox.managed.resources import FILE, REPOSITORY, Item
from sandbox.managed.service import Service

if TYPE_CHECKING:
    from sandbox.managed.resource_bodies import ResourceCreate, TokenChange

_WAIT_S = 60.0


def add(service: Service, session_id: str, body: "ResourceCreate") -> Document:
    """A file for the session, there at once. Refused when it can't be."""
    if body.type == REPOSITORY:
        raise invalid("type: a github_repository is given when the session is created.")
    assert body.type == FILE
    machines.usable(service, session_id)
    with _changing(service, session_id):
        (item,) = resources.plan(
            service, session_id, [body], resources.all_of(service, session_id), field=""
        ).items
        _show(service, session_id, item)
        try:
            with service.database.write():
                resources.record(service, resources.Planned(session_id, (item,)))
                _tell(service, session_id)
        except BaseException:
            placing.detach(service.live.containers, session_id, item.document)
            raise
    return item.document


def _show(service: Service, session_id: str, item: Item) -> None:
    containers = service.live.containers
    with service.live.using(session_id), suppress(NoContainerError):
        if not mountpaths.is_upload(item.document["mount_path"]):
            # Whether something of the session's is in its way shows only where it is mounted.
            _told(lambda: containers.start(session_id))
        placing.attach(service, containers, session_id, item)


def remove(service: Service, session_id: str, resource_id: str) -> Document:
    """Take a resource away. A file is gone at once; of a repository the token, and its files stay in the session."""
    records.read(service.database, session_id)
    with _changing(service, session_id):
        document = resources.get(service, session_id, resource_id)
        if document["type"] == FILE:
            _told(lambda: placing.detach(service.live.containers, session_id, document))
        with service.database.write() as connection:
            connection.execute("DELETE FROM resources WHERE id = ?", (resource_id,))
            if document["type"] == FILE:
                service.database.delete("files", document["file_id"])
            _tell(service, session_id)
        if document["type"] == FILE:
            files.discard(service, (document["file_id"],))
        else:
            _renew(service, session_id)
    return {"id": resource_id, "type": "session_resource_deleted"}


def change_token(service: Service, session_id: str, resource_id: str, body: "TokenChange") -> Document:
    """Give a repository another token, which counts for every request from now on."""
    machines.usable(service, session_id)
    with _changing(service, session_id):
        with service.database.write():
            document = resources.get(service, session_id, resource_id)
            if document["type"] == FILE:
                raise invalid(f"authorization_token: {resource_id} is a file, which has none.")
            document["updated_at"] = identifiers.now()
            token = Secret(body.authorization_token.get_secret_value())
            service.database.replace(
                "resources", document, secret=resources.seal(service, resource_id, token)
            )
            _tell(service, session_id)
        _renew(service, session_id)
    return document


def _renew(service: Service, session_id: str) -> None:
    """What the session's proxy adds is what the records say."""
    with suppress(NoContainerError):
        _told(
            lambda: service.live.containers.set_credentials(
                session_id, placing.credentials(service, session_id)
            )
        )


def _tell(service: Service, session_id: str) -> None:
    """The session's own record lists its resources. Refused when it is gone by now."""
    record = records.read(service.database, session_id)
    record.document["resources"] = resources.all_of(service, session_id)
    record.document["updated_at"] = identifiers.now()
    records.save(service.database, record)


@contextmanager
def _changing(service: Service, session_id: str) -> Iterator[None]:
    """One at a time changes what a session has."""
    with service.live.locks.holding(f"{session_id}/resources", wait_s=_WAIT_S) as ours:
        if not ours:
            raise conflict(f"The resources of {session_id} are being changed by somebody else.")
        yield


def _told(work: Callable[[], None]) -> None:
    try:
        work()
    except NoContainerError:
        raise
    except Failure as error:
        raise Refused("api_error", machines.told(error)) from error
