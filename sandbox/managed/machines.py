"""The container of a session: made from what its environment was then, when it is first needed."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeVar

from netpolicy.policy import Opening
from sandbox import blocklists, networks
from sandbox.containers.directory import NoContainerError
from sandbox.containers.execution import Exec, StoppedError
from sandbox.containers.spec import Completed, ContainerSpec
from sandbox.environment import Environment
from sandbox.errors import Failure, InputError
from sandbox.managed import builds, environments, placing, records
from sandbox.managed.builder import await_image
from sandbox.managed.database import Database, Document
from sandbox.managed.failures import Refused, conflict, invalid
from sandbox.managed.mcp import mcp_endpoint
from sandbox.managed.records import Record
from sandbox.managed.resources import Planned
from sandbox.managed.service import Service
from sandbox.managed.shell import INTERRUPTED, Said, Shell
from sandbox.spec import RootFs, session_environment

if TYPE_CHECKING:
    from pkgcache.image import Image

_MAKING_S = 3600.0
_BUILD_LOOK_S = 0.3

_Made = TypeVar("_Made")


class StartError(Exception):
    """The session's processes can't be had; the message says why, and what to do."""


def describe(database: Database, document: Document) -> Document:
    """What a session keeps of its environment, so that later changes of that do not reach it."""
    return {
        "environment": {
            "id": document["id"],
            "name": document["name"],
            "config": document["config"],
            "revision": environments.revision(database, document["id"]),
        }
    }


def environment(record: Record) -> Environment:
    """The session's environment as it was when the session was made."""
    return environments.values(record.container["environment"])


@contextmanager
def made(service: Service, record: Record, planned: Planned) -> Iterator[list[Document]]:
    """Make what a new session stands on, with what is ``planned`` in its place; gone again when the block raises.
    Yields an error for each repository that is not there.

    What is there before the session's record is, is written down first: a killed process's is swept. Without resources
    the container of an environment that is not built waits until it is.
    """
    if environment(record).type == "self_hosted":
        yield []
        return
    image = _built(service, record) if planned.items else _ready(service, record)
    if image is None:
        yield []
        return
    unfinished(service.database, record.id)
    try:
        spec = _spec(record, environment(record), image)
        spec = placing.prepared(service, spec, planned)
        service.live.containers.create(record.id, spec)
        yield placing.place(service, service.live.containers, spec, planned)
    except BaseException:
        discard(service, record.id)
        raise


def unfinished(database: Database, identifier: str) -> None:
    """From now on the session's files are to be removed, unless it gets `finished`."""
    with database.write() as connection:
        connection.execute("INSERT OR IGNORE INTO unfinished (session_id) VALUES (?)", (identifier,))


def finished(database: Database, identifier: str) -> None:
    with database.write() as connection:
        connection.execute("DELETE FROM unfinished WHERE session_id = ?", (identifier,))


def discard(service: Service, identifier: str) -> None:
    """Remove the processes and files of a session without a record. What stays is swept later."""
    with _making(service, identifier):
        service.live.forget(identifier)
        with suppress(NoContainerError):
            service.live.containers.delete(identifier)
    finished(service.database, identifier)


def sweep(service: Service) -> None:
    """Remove what killed processes left half made or half removed."""
    placing.sweep(service, service.live.containers)
    with service.database.read() as connection:
        rows = connection.execute("SELECT session_id FROM unfinished").fetchall()
    for (identifier,) in rows:
        with service.live.locks.holding(identifier) as ours:
            if ours:
                discard(service, identifier)


def discard_all(service: Service) -> None:
    """Remove the processes and files of all sessions, whose records go, too."""
    service.live.end()
    service.live.await_turns()
    with service.database.read() as connection:
        rows = connection.execute(
            "SELECT id FROM sessions UNION SELECT session_id FROM unfinished"
        ).fetchall()
    for (identifier,) in rows:
        discard(service, identifier)


def stop(service: Service, identifier: str) -> None:
    """End the session's processes; its files stay."""
    service.live.forget(identifier)
    with suppress(NoContainerError):
        service.live.containers.stop(identifier)


def shell_run(service: Service, record: Record, command: str, interrupted: Callable[[], bool]) -> Said:
    """Run a command in the session's lasting shell. StartError when there can't be one."""
    with service.live.using(record.id):
        try:
            shell = service.live.shell(
                record.id,
                lambda: _with_container(
                    service, record, lambda: Shell(service.live.containers, record.id), interrupted
                ),
            )
            if shell.ended:
                raise StartError("the session has no bash")
            return shell.run(command, interrupted)
        except StartError:
            if interrupted():
                return Said(INTERRUPTED, True, interrupted=True)
            raise
        except (Failure, Refused, OSError) as error:
            raise StartError(told(error)) from error


def run(
    service: Service,
    identifier: str,
    command: Sequence[str],
    *,
    environment: Mapping[str, str] = MappingProxyType({}),
    workdir: str | None = None,
    stdin: bytes = b"",
    timeout_s: float | None = None,
) -> Completed:
    """Run a command in the session beside its turns. Refused when it can't be."""
    record = usable(service, identifier)
    with service.live.using(identifier), _refusing(identifier):
        return _with_container(
            service,
            record,
            lambda: service.live.containers.run(
                identifier,
                command,
                environment=environment,
                workdir=workdir,
                given=stdin,
                timeout_s=timeout_s,
            ),
        )


@contextmanager
def began(service: Service, identifier: str, begin: Callable[[], Exec]) -> Iterator[Exec]:
    """A command that ``begin`` begins in the session, for the block; killed if it has not ended by then. Refused as
    by `run`."""
    record = usable(service, identifier)
    with service.live.using(identifier):
        with _refusing(identifier):
            running = _with_container(service, record, begin)
        with running:
            yield running


@contextmanager
def _refusing(identifier: str) -> Iterator[None]:
    """The engine's failures, as the API tells them."""
    try:
        yield
    except StoppedError as error:
        raise conflict(f"The session {identifier} was stopped: {error}") from error
    except InputError as error:
        raise invalid(told(error)) from error
    except (Failure, StartError) as error:
        raise Refused("api_error", told(error)) from error


def usable(service: Service, identifier: str) -> Record:
    """The session, which runs commands here. Refused otherwise."""
    record = records.read(service.database, identifier)
    if record.archived:
        raise records.archived_refused(identifier)
    if environment(record).type == "self_hosted":
        raise invalid(f"The session {identifier} is self_hosted: its commands run where its workers do.")
    return record


def _with_container(
    service: Service,
    record: Record,
    work: Callable[[], _Made],
    interrupted: Callable[[], bool] = lambda: False,
) -> _Made:
    """Do ``work``, once the container is there."""
    try:
        return work()
    except NoContainerError:
        ensure(service, record, interrupted)
    return work()


def ensure(service: Service, record: Record, interrupted: Callable[[], bool] = lambda: False) -> None:
    """Make the session's container if it is not there yet, once its environment is built. StartError when that fails,
    or is ``interrupted``."""
    image = _built(service, record, interrupted)
    with _making(service, record.id):
        # It may have been deleted in the meantime, and then nothing may be made of it.
        records.read(service.database, record.id)
        with suppress(InputError):
            service.live.containers.create(record.id, _spec(record, environment(record), image))


@contextmanager
def _making(service: Service, identifier: str) -> Iterator[None]:
    with service.live.locks.holding(f"{identifier}/container", wait_s=_MAKING_S) as ours:
        if not ours:
            raise conflict(f"The session {identifier} is being made or removed by another process.")
        yield


def _ready(service: Service, record: Record) -> "Image | None":
    """What the session stands on; None while it is not built."""
    need = builds.need_of(record.container["environment"])
    return builds.ready(service.data, service.ids, need)


def _built(service: Service, record: Record, interrupted: Callable[[], bool] = lambda: False) -> "Image":
    while True:
        try:
            return await_image(
                service,
                record.container["environment"],
                timeout_s=_BUILD_LOOK_S,
                cancelled=service.live.stopping,
            )
        except Refused as refused:
            if refused.kind != "timeout_error":
                raise
        if interrupted():
            raise StartError("the environment is still being built")


def _spec(record: Record, config: Environment, image: "Image") -> ContainerSpec:
    access = networks.of_environment(
        config.networking,
        blocks=blocklists.read((), os.environ),
        mcp=tuple(_openings(record.document["agent"])),
    )
    return ContainerSpec(
        RootFs(image.base, tuple(image.layers)),
        networks.make_policy(access, image.endpoints),
        tuple(session_environment(image.environment).items()),
        held=tuple(image.held),
    )


def _openings(agent: Document) -> Iterator[Opening]:
    for server in agent["mcp_servers"]:
        endpoint = mcp_endpoint(server["url"])
        if endpoint is not None:
            host, port = endpoint
            yield Opening(host if port == 443 else f"{host}:{port}", f"the MCP server {server['name']}")


def told(error: BaseException) -> str:
    """An error, what to do about it, and the last lines of the log that goes with it, as one text."""
    hint = getattr(error, "hint", "")
    lines = error.details.get("lines", ()) if isinstance(error, Refused) else ()
    return "\n".join((f"{error}; {hint}" if hint else str(error), *lines))
