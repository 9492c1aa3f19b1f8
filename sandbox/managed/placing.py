"""Puts a session's files and repositories where they stand, and says which tokens the proxy adds.

A repository is cloned by a container of its own that sees nothing but the repository's directory and reaches nothing
but the repository. Git never runs on the host, neither on what a server sent nor on what a session wrote.
"""

import fcntl
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING

from netpolicy.credentials import Credential, Secret, repository, with_ports
from netpolicy.errors import InputError as PolicyError
from sandbox.containers.directory import NoContainerError
from sandbox.containers.spec import ContainerSpec, Repository
from sandbox.errors import Failure, InputError, SetupError
from sandbox.managed import cloning, files, mountpaths, resources, rewrites
from sandbox.managed.cloning import Failed
from sandbox.managed.database import Document
from sandbox.managed.failures import invalid
from sandbox.managed.resources import FILE, REPOSITORY, Item, Planned
from sandbox.managed.service import Service
from sandbox.spec import SESSION, HostMount, RootFs, session_environment

if TYPE_CHECKING:
    from sandbox.containers.containers import Containers

_AT_ONCE = 4
# What a session produced is open while it is taken.
_MOST_SOURCES = 100
_PREFIX = "clone-"
# What a session with the machine's own files finds of the machine.
_SHOWN = ("/usr/bin", "/usr/local/bin")


def prepared(service: Service, spec: ContainerSpec, planned: Planned) -> ContainerSpec:
    """``spec`` of a session's container with room for what was planned: the directories of its repositories, the
    remotes of those that are directories of this machine, the ports that their servers are reached on."""
    cloned = _cloned(planned)
    if not cloned:
        return spec
    mounts = [
        HostMount(remote, _standing_for(item.document), False)
        for item in cloned
        if (remote := _local_remote(service, item.document)) is not None and os.path.isdir(remote)
    ]
    attached = [_credential(service, item.document, item.token) for item in cloned]
    return spec._replace(
        repositories=tuple(Repository(item.document["id"], item.document["mount_path"]) for item in cloned),
        mounts=(*spec.mounts, *mounts),
        policy=with_ports(spec.policy, attached),
    )


def _local_remote(service: Service, document: Document) -> str | None:
    """The directory of this machine where a repository really is, if it is one."""
    found = rewrites.find(service.rewrites, document["url"])
    return rewrites.directory(found) if found is not None and found.local else None


def _standing_for(document: Document) -> str:
    """Where a session sees the directory of a repository's remote."""
    return f"{mountpaths.REMOTES}/{document['id']}"


def credentials(service: Service, session_id: str) -> tuple[Credential, ...]:
    """What the proxy of a session adds to requests, and where. HostError when a token can't be opened."""
    return tuple(
        _credential(service, document, token) for document, token in resources.tokens(service, session_id)
    )


def place(
    service: Service, containers: "Containers", spec: ContainerSpec, planned: Planned
) -> list[Document]:
    """Put what was planned into the session's container, which is there and was made from ``spec``.

    Returns what the session is to be told: an ``error`` for each repository that is not there. May take minutes.
    Refused when a file can't stand where it should.
    """
    _attach_all(service, containers, planned)
    cloned = _cloned(planned)
    if not cloned:
        return []
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(min(_AT_ONCE, len(cloned))) as pool:
        problems = pool.map(lambda item: _clone(service, containers, spec, planned.session_id, item), cloned)
        return [problem for problem in problems if problem is not None]


def _attach_all(service: Service, containers: "Containers", planned: Planned) -> None:
    placed = [item for item in planned.items if item.document["type"] == FILE]
    try:
        for first in range(0, len(placed), _MOST_SOURCES):
            with ExitStack() as stack:
                wanted = [
                    (
                        item.document["id"],
                        stack.enter_context(files.content_path(service, item.source)),
                        item.document["mount_path"],
                    )
                    for item in placed[first : first + _MOST_SOURCES]
                ]
                containers.attach_all(planned.session_id, wanted)
        # Whether something of the session's own is in their way shows only where they are mounted.
        if any(not mountpaths.is_upload(item.document["mount_path"]) for item in placed):
            containers.start(planned.session_id)
            containers.stop(planned.session_id)
    except SetupError as error:
        raise invalid(f"resources: a mount_path can't be used: {error}") from error


def attach(service: Service, containers: "Containers", session_id: str, item: Item) -> None:
    """Show a file in the session's container. Refused when something is in its way there."""
    path = item.document["mount_path"]
    try:
        with files.content_path(service, item.source) as source:
            containers.attach(session_id, item.document["id"], source, path)
    except NoContainerError:
        raise
    except Failure as error:
        raise invalid(f"mount_path: {error}") from error


def detach(containers: "Containers", session_id: str, document: Document) -> None:
    """Take a file out of the session's container, if there is one."""
    with suppress(NoContainerError):
        containers.detach(session_id, document["id"])


def sweep(service: Service, containers: "Containers") -> None:
    """Remove the containers of clones whose process was killed."""
    folder = os.path.join(service.folder, "clones")
    for name in os.listdir(folder) if os.path.isdir(folder) else ():
        with open(os.path.join(folder, name), "rb") as lock, suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _remove(containers, name)
            os.unlink(lock.name)


def _cloned(planned: Planned) -> list[Item]:
    return [item for item in planned.items if item.document["type"] == REPOSITORY]


def _credential(service: Service, document: Document, secret: Secret | None) -> Credential:
    token = None if secret is None else secret.reveal()
    found = rewrites.find(service.rewrites, document["url"])
    if found is None or found.local:
        return repository(document["url"], token)
    return repository(document["url"], token, rewrite=found.remote, ca=found.ca)


def _clone(
    service: Service, containers: "Containers", spec: ContainerSpec, session_id: str, item: Item
) -> Document | None:
    """Clone one repository; the error that tells why it is not there."""
    document = item.document
    folder = containers.repository(session_id, document["id"])
    try:
        failed = _cloned_into(service, containers, spec, folder, item)
    except (Failure, PolicyError) as error:
        failed = Failed("repository_clone_error", str(error))
    return None if failed is None else cloning.error(failed, document["url"])


def _cloned_into(
    service: Service, containers: "Containers", spec: ContainerSpec, folder: str, item: Item
) -> Failed | None:
    url, checkout = item.document["url"], item.document["checkout"]
    remote = _local_remote(service, item.document)
    mounts = [HostMount(folder, cloning.TARGET, True, SESSION)]
    attached: Sequence[Credential] = ()
    policy = spec.policy._replace(mode="limited", rules=())
    source, standing = url, ""
    if remote is not None:
        if not os.path.isdir(remote):
            return Failed("repository_not_found_error", f"there is no directory {remote}")
        mounts.append(HostMount(remote, cloning.REMOTE, False))
        policy, source = policy._replace(mode="none"), f"file://{cloning.REMOTE}"
        standing = _standing_for(item.document)
    else:
        attached = (_credential(service, item.document, item.token),)
    root, held = _root(spec)
    environment = {**session_environment({}), **cloning.ENVIRONMENT}
    helper = ContainerSpec(
        root, with_ports(policy, attached), tuple(environment.items()), "/", held, tuple(mounts)
    )
    name = _PREFIX + item.document["id"]
    with _locked(service, name):
        containers.create(name, helper)
        try:
            done = containers.with_credentials(attached).run(
                name,
                cloning.command(url, source, checkout, standing),
                timeout_s=cloning.TIMEOUT_S,
                limit=1 << 16,
            )
        finally:
            _remove(containers, name)
    errors = done.errors or done.ended.message.encode()
    return cloning.judge(done.ended.code, errors, timed_out=done.timed_out)


def _root(spec: ContainerSpec) -> tuple[RootFs, tuple[str, ...]]:
    """What the clone's container stands on: the machine's own files when Git is among them, else the session's."""
    if shutil.which("git", path=":".join(_SHOWN)):
        return RootFs(None), ()
    return spec.root, spec.held


def _remove(containers: "Containers", name: str) -> None:
    with suppress(NoContainerError, InputError):
        containers.delete(name)


@contextmanager
def _locked(service: Service, name: str) -> Iterator[None]:
    """A file that says that the container ``name`` is in use, as long as it is locked."""
    folder = os.path.join(service.folder, "clones")
    os.makedirs(folder, mode=0o700, exist_ok=True)
    path = os.path.join(folder, name)
    with open(path, "wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            yield
        finally:
            os.unlink(path)
