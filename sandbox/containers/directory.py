"""The directory of a container: what it holds, who may use it, how it comes and goes.

``<data>/containers/<ids>/<id>/`` holds what a session's directory does (sandbox.directory), and

    spec          the specification (sandbox.containers.record)
    held          what of the package store it stands on, one a line
    attached      the files that are attached, as a list
    resources/    those files, by their names
    repositories/ directories that the session writes to, by their names
    egress.jsonl  a line for each decision about its network
    lock          held by the keeper while the container runs, and by whoever removes it; tells which process 1 is
    exec, keeper  sockets, while it runs: process 1 takes commands on the first, the keeper orders on the second

It appears by one rename, and is renamed before it is removed: a name that begins with a dot is nobody's container.
"""

import fcntl
import os
import select
import time
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import NamedTuple

from sandbox.containers.record import from_text, to_text
from sandbox.containers.spec import Attachment, ContainerSpec, is_name
from sandbox.directory import FOLDERS, forget_overlays, make_folder
from sandbox.errors import HostError, InputError, SetupError
from sandbox.idmap import IdMap
from sandbox.inroot import Opened
from sandbox.paths import directory_for
from sandbox.processes import started
from sandbox.removal import remove_tree

_MAKING, _REMOVING = ".new-", ".gone-"
# What is left of a killed session dies within milliseconds; an overloaded machine takes longer.
_DYING_S = 30.0


class NoContainerError(InputError):
    """There is no container with that id."""


class Place(NamedTuple):
    """Where a container is. ``id``: the caller's name for it."""

    data: str
    ids: IdMap
    id: str

    @property
    def path(self) -> str:
        """The container's directory."""
        return os.path.join(self.data, "containers", self.ids.name, self.id)


def place_of(data: str, ids: IdMap, id_: str) -> Place:
    """The place of the container ``id_``. InputError when that can't be a container's id."""
    if not is_name(id_):
        raise InputError(
            f"{id_!r} can't be a container's id",
            hint="use letters, digits, - and _, at most 128, and a letter or digit first",
        )
    return Place(data, ids, id_)


def create(place: Place, spec: ContainerSpec) -> None:
    """Make the container's directory. InputError when there is one; StoreError when what it stands on is gone."""
    from pkgcache.store import hold, lasting_name

    try:
        parent = directory_for(place.data, "containers", place.ids)
        path = f"{parent}/{_MAKING}{os.urandom(6).hex()}"
        # Root's sessions run as other ids, which have to pass through to their own directory.
        os.mkdir(path, 0o711 if os.geteuid() == 0 else 0o700)
        lock = os.open(f"{path}/lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise _unmakeable(place, error) from error
    made = False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        # Who prunes looks here while nobody can begin to hold a layer, and the layers are held until this directory
        # has its name: so either this is found, or the layer is found gone.
        _write(f"{path}/held", "".join(f"{lasting_name(each)}\n" for each in spec.held))
        with hold(spec.held):
            _fill(path, place.ids, spec)
            try:
                os.rename(path, place.path)
            except OSError as error:
                if os.path.isdir(place.path):
                    raise InputError(
                        f"there is a container {place.id} already", hint="delete it, or use another id"
                    ) from error
                raise
        made = True
    except OSError as error:
        raise _unmakeable(place, error) from error
    finally:
        if not made:
            _remove(path, place.ids)
        os.close(lock)


def _fill(path: str, ids: IdMap, spec: ContainerSpec) -> None:
    for name in FOLDERS:
        make_folder(f"{path}/{name}", ids)
    for name in ("resources", "repositories"):
        os.mkdir(f"{path}/{name}", 0o711 if os.geteuid() == 0 else 0o700)
    for repository in spec.repositories:
        make_folder(f"{path}/repositories/{repository.name}", ids)
    _write(f"{path}/spec", to_text(spec))
    _write(f"{path}/attached", to_text(()))
    _write(f"{path}/egress.jsonl", "")


def _unmakeable(place: Place, error: OSError) -> HostError:
    return HostError(
        f"the directory of container {place.id} can't be made in {place.data}: {error.strerror}",
        hint="free some space, or name another data directory with --data",
    )


def read_spec(place: Place) -> ContainerSpec:
    """The container's specification. NoContainerError when there is no such container; HostError when it can't be
    read."""
    try:
        found = from_text(_read(f"{place.path}/spec"))
        if not isinstance(found, ContainerSpec):
            raise ValueError("it is something else")
    except FileNotFoundError as error:
        raise absent(place) from error
    except (OSError, ValueError) as error:
        raise HostError(
            f"the specification of container {place.id} can't be read: {error}", hint="delete the container"
        ) from error
    return found


def absent(place: Place) -> NoContainerError:
    """The error for a container that is not there."""
    return NoContainerError(f"there is no container {place.id}", hint="list those that there are")


def read_attached(place: Place) -> tuple[Attachment, ...]:
    """What is attached to the container."""
    try:
        found: tuple[Attachment, ...] = from_text(_read(f"{place.path}/attached"))
    except FileNotFoundError as error:
        raise absent(place) from error
    return found


def has_attached(place: Place) -> bool:
    """Whether anything is attached, without reading what."""
    return os.stat(f"{place.path}/attached").st_size > len(to_text(()))


def write_attached(place: Place, attached: tuple[Attachment, ...]) -> None:
    """Keep what is attached; whole or not at all."""
    path = f"{place.path}/attached"
    _write(f"{path}.new", to_text(attached))
    os.rename(f"{path}.new", path)


def lock(place: Place, *, patience_s: float | None = None) -> int | None:
    """The container's lock, held until the descriptor is closed; None while somebody else has it.

    NoContainerError when there is no such container. What a killed keeper left is dead when this returns. With
    ``patience_s``, None as well when that takes longer; without, SetupError when it takes very long.
    """
    try:
        fd = os.open(f"{place.path}/lock", os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise absent(place) from error
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return None
        try:
            standing = os.path.samestat(os.fstat(fd), os.stat(f"{place.path}/lock"))
        except FileNotFoundError:
            standing = False
        if not standing:
            raise absent(place)
        noted = os.pread(fd, 100, 0).decode()
        if not _has_ended(noted, _DYING_S if patience_s is None else patience_s):
            if patience_s is None:
                raise SetupError(
                    f"process {noted.split()[0]} of an earlier run of the container does not end"
                )
            os.close(fd)
            return None
    except BaseException:
        with suppress(OSError):
            os.close(fd)
        raise
    return fd


def note_process1(lock_fd: int, pid: int) -> None:
    """Write into the lock which process 1 belongs to the container from now on; 0 when there is none any more."""
    text = "" if pid == 0 else f"{pid} {started(pid)}"
    os.ftruncate(lock_fd, 0)
    os.pwrite(lock_fd, text.encode(), 0)


def process1_of(place: Place) -> int:
    """The process 1 of the container on the host, 0 when it does not run."""
    try:
        pid, since = _read(f"{place.path}/lock").split()
    except (OSError, ValueError):
        return 0
    return int(pid) if started(int(pid)) == since else 0


def _has_ended(noted: str, patience_s: float) -> bool:
    """Wait until the process 1 that is ``noted`` in a lock is gone, and all processes of its namespace with it."""
    if not noted:
        return True
    pid, since = noted.split()
    try:
        pidfd = os.pidfd_open(int(pid))
    except ProcessLookupError:
        return True
    with Opened(pidfd):
        if started(int(pid)) != since:
            return True
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        return bool(poll.poll(patience_s * 1000))


def clear_work(place: Place) -> None:
    """Forget overlayfs's own files of an earlier run, which it would refuse to take up (``volatile``)."""
    work = f"{place.path}/work"
    if not os.path.isdir(work):
        # Whoever did this before was killed in between.
        make_folder(work, place.ids)
    elif os.listdir(work):
        forget_overlays(work)
        if os.listdir(work):
            remove_tree(work, place.ids)
            make_folder(work, place.ids)


# Removes a tree of files that may belong to a session's ids, as sandbox.removal.remove_tree does.
Remover = Callable[[str, IdMap], None]


def remove(place: Place, lock_fd: int, remover: Remover = remove_tree) -> None:
    """Remove the container's directory; ``lock_fd`` holds its lock. SetupError when something stays."""
    aside = os.path.join(os.path.dirname(place.path), f"{_REMOVING}{os.urandom(6).hex()}")
    os.rename(place.path, aside)
    os.ftruncate(lock_fd, 0)
    _remove(aside, place.ids, remover)


def _remove(path: str, ids: IdMap, remover: Remover = remove_tree) -> None:
    if os.path.isdir(f"{path}/work"):
        forget_overlays(f"{path}/work")
    # The lock goes last: a removal that is cut short is taken up again by the next sweep.
    for name in os.listdir(path):
        if name != "lock":
            remover(os.path.join(path, name), ids)
    with suppress(FileNotFoundError):
        os.unlink(f"{path}/lock")
    os.rmdir(path)


def names(data: str, ids: IdMap) -> tuple[str, ...]:
    """The ids of all containers."""
    return tuple(sorted(name for name in _everything(data, ids) if not name.startswith(".")))


def sweep(data: str, ids: IdMap, remover: Remover = remove_tree) -> int:
    """Remove what was being made or removed by processes that are dead; returns how many there were."""
    parent = os.path.join(data, "containers", ids.name)
    return sum(
        _sweep(f"{parent}/{name}", ids, remover) for name in _everything(data, ids) if name.startswith(".")
    )


def _sweep(path: str, ids: IdMap, remover: Remover) -> bool:
    try:
        fd = os.open(f"{path}/lock", os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        # Just being made, or left between two steps: only an empty one can go without a lock.
        try:
            os.rmdir(path)
        except OSError:
            return False
        return True
    with Opened(fd):
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        with suppress(FileNotFoundError):
            _remove(path, ids, remover)
        return True


def held(data: str, ids: IdMap) -> frozenset[str]:
    """What of the package store containers stand on, running or not (see pkgcache.store.lasting_name)."""
    found: set[str] = set()
    parent = os.path.join(data, "containers", ids.name)
    for name in _everything(data, ids):
        with suppress(FileNotFoundError, NotADirectoryError):
            found.update(_read(f"{parent}/{name}/held").splitlines())
    return frozenset(found)


def _everything(data: str, ids: IdMap) -> list[str]:
    try:
        return os.listdir(os.path.join(data, "containers", ids.name))
    except FileNotFoundError:
        return []


class Folder:
    """The container's directory, open, so that a socket in it has a short path (108 bytes is the most, unix(7))."""

    def __init__(self, place: Place) -> None:
        try:
            self.fd = os.open(place.path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError as error:
            raise absent(place) from error

    def __enter__(self) -> "Folder":
        return self

    def short(self, name: str) -> str:
        """A path of ``name`` in it, good for this process."""
        return f"/proc/self/fd/{self.fd}/{name}"

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self.fd)


def until(deadline: float) -> float:
    """Seconds left until the time.monotonic() ``deadline``, never below 0."""
    return max(0.0, deadline - time.monotonic())


def _read(path: str) -> str:
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        return file.read()


def _write(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(fd, "w", encoding="utf-8", errors="surrogateescape") as file:
        file.write(text)
