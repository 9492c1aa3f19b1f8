"""The directory where bases and layers are kept, and the promises that hold when several processes use it.

    <root>/v1/names/<name>         symbolic link to the id of the base that has this name now
    <root>/v1/bases/<id>/          base.json, packages.json, manifest, root/
    <root>/v1/chosen/<key>         symbolic link to the key of the layer that is used for these inputs now, when that
                                   is not the first that was built
    <root>/v1/layers/<key>/        layer.json, manifest, log, upper/
    <root>/v1/work/<random>/       something being made or being removed
    <root>/v1/locks/<name>.lock    held while that name is built
    <root>/v1/downloads/<manager>/ what managers fetched
    <root>/v1/logs/                logs of failed builds
    <root>/v1/memo/                answers to questions asked before

- What stands in bases/ and layers/ is whole: it is made in work/ and comes by one rename.
- Who makes something holds an exclusive flock on its directory in work/; one that nobody holds was left by a
  process that died, and the next `sweep` removes it.
- Who uses a base or a layer holds a shared flock on its directory; removal needs an exclusive one, and is
  refused otherwise. When it was last used is the directory's time of change.
- Who needs one for longer than a process lives says so where `Store.needed` looks, before it asks for a lease, and
  keeps the lease until that can be found. Removal looks there while it has its exclusive lock.

The root belongs to one mapping of ids: files in it are owned by whatever ids sessions run as.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from errno import EAGAIN, EDQUOT, ENOSPC
from types import TracebackType
from typing import NamedTuple

from pkgcache.errors import StoreError
from pkgcache.runner import AsOwner, Remove

VERSION = "v1"
KEPT_LOGS = 100
"""Logs of failed builds; their names begin with the time."""
# Sessions' ids must be able to walk through to the trees below, also when root is the one who builds.
_MODE = 0o711
_SOLE = fcntl.LOCK_EX | fcntl.LOCK_NB
# Mounted by the supervisor; what packages' code leaves there is nobody else's business.
_PRIVATE = 0o700


def _myself(work: Callable[[], None]) -> None:
    work()


def _nothing() -> frozenset[str]:
    return frozenset()


class Store(NamedTuple):
    """`path` is the versioned directory; nothing is read or made until something is asked of it.

    `as_owner` does work that has to read what is kept; the caller does it itself where files have no other owner.
    `needed` gives what is needed for longer than a process lives: "bases/ID" and "layers/KEY".
    """

    path: str
    as_owner: AsOwner = _myself
    needed: Callable[[], frozenset[str]] = _nothing

    def names(self) -> str:
        return f"{self.path}/names"

    def base(self, identity: str) -> str:
        return f"{self.path}/bases/{identity}"

    def layer(self, key: str) -> str:
        return f"{self.path}/layers/{key}"

    def chosen(self, key: str) -> str:
        """The key of the layer that is used where `key` is what its inputs come to."""
        try:
            other = os.readlink(f"{self.path}/chosen/{key}")
        except OSError:
            return key
        return other if os.path.isdir(self.layer(other)) else key

    def downloads(self, name: str, foreign: str = "") -> str:
        """`foreign`: the id of an imported base, which has its own: its package managers could put anything there."""
        return (
            f"{self.path}/downloads/imported/{foreign}/{name}" if foreign else f"{self.path}/downloads/{name}"
        )


def open_store(
    root: str, as_owner: AsOwner = _myself, needed: Callable[[], frozenset[str]] = _nothing
) -> Store:
    """The store beneath `root`, a directory that belongs to one mapping of ids. Does no I/O."""
    return Store(os.path.join(os.path.abspath(root), VERSION), as_owner, needed)


def create(store: Store) -> None:
    """Make the store's directories where they are missing. Raises StoreError."""
    try:
        os.makedirs(os.path.dirname(store.path), exist_ok=True)
        for name in ("", "names", "bases", "chosen", "layers", "work", "locks", "downloads", "logs", "memo"):
            try:
                os.mkdir(f"{store.path}/{name}")
                os.chmod(
                    f"{store.path}/{name}", _PRIVATE if name in ("downloads", "logs", "locks") else _MODE
                )
            except FileExistsError:
                pass
    except OSError as error:
        raise explain(error, store) from error


def explain(error: OSError, store: Store) -> StoreError:
    """The StoreError that tells what an operating-system error in the store means for the user."""
    if error.errno in (ENOSPC, EDQUOT):
        return StoreError(f"the disk that holds {store.path} is full", "free some space, then try again")
    place = error.filename or store.path
    return StoreError(
        f"can't use the package store: {place}: {error.strerror}",
        "check the directory's owner and permissions, or choose another data directory",
    )


def is_full(store: Store, spare: int = 8 << 20) -> bool:
    """Whether the store's disk has less than `spare` bytes or no file left for the user."""
    try:
        free = os.statvfs(store.path)
    except OSError:
        return False
    return free.f_bavail * free.f_frsize < spare or (free.f_files > 0 and free.f_favail == 0)


class Lease:
    """Keeps directories of the store from being removed while it is open, here or in a forked child.

    `fds` are the open descriptors; they close on exec.
    """

    def __init__(self, fds: tuple[int, ...]) -> None:
        self.fds = fds

    def close(self) -> None:
        fds, self.fds = self.fds, ()
        for fd in fds:
            os.close(fd)

    def __enter__(self) -> Lease:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def hold(paths: Iterable[str], *, used: bool = True) -> Lease:
    """A lease on these directories of the store. Raises StoreError when one of them is gone.

    It waits for whoever looks at that moment whether they are in use. `used`: that counts as using them.
    """
    fds: list[int] = []
    try:
        # Appended one by one, so that a failure knows what is open.
        for path in paths:
            fd = _lock_directory(path, fcntl.LOCK_SH)
            fds.append(fd)
            if used:
                _touch(fd)
    except OSError as error:
        Lease(tuple(fds)).close()
        raise StoreError(
            f"{error.filename} was removed in the meantime", "run the same again: it is built anew"
        ) from error
    except BaseException:
        Lease(tuple(fds)).close()
        raise
    return Lease(tuple(fds))


def _touch(fd: int) -> None:
    try:
        os.utime(fd)
    except OSError:
        # A store that can only be read is used all the same.
        return


def _lock_directory(path: str, operation: int) -> int:
    """An open, locked descriptor of the directory that stands at `path` now. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, operation)
        # Between the open and the lock a remover may have renamed it away.
        held, standing = os.fstat(fd), os.stat(path)
        if (held.st_dev, held.st_ino) != (standing.st_dev, standing.st_ino):
            raise BlockingIOError(EAGAIN, "being removed", path)
    except OSError as error:
        os.close(fd)
        error.filename = path
        raise
    return fd


@contextmanager
def exclusive(store: Store, name: str, waiting: Callable[[], None]) -> Iterator[None]:
    """Be the only one to build `name`; `waiting` is called once when another process is at it already."""
    try:
        fd = os.open(f"{store.path}/locks/{name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise explain(error, store) from error
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting()
            fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


@contextmanager
def workplace(store: Store, remove: Remove) -> Iterator[str]:
    """A new directory in work/, removed at the end with what is left in it, by a sweep if this process dies."""
    path, fd = _new_directory(store)
    try:
        yield path
    finally:
        try:
            remove(path)
        finally:
            os.close(fd)


def _new_directory(store: Store) -> tuple[str, int]:
    while True:
        path = f"{store.path}/work/{os.urandom(8).hex()}"
        try:
            os.mkdir(path)
            os.chmod(path, _MODE)
            return path, _lock_directory(path, _SOLE)
        except (FileExistsError, FileNotFoundError, BlockingIOError):
            # A sweep may take the directory in the moment before it is locked; then try another.
            if not os.path.isdir(f"{store.path}/work"):
                raise
        except OSError as error:
            raise explain(error, store) from error


def sweep(store: Store, remove: Remove) -> int:
    """Remove what dead processes left in work/ and all but the newest logs; returns how many directories went."""
    _forget_old_logs(f"{store.path}/logs")
    try:
        names = os.listdir(f"{store.path}/work")
    except FileNotFoundError:
        return 0
    count = 0
    for name in names:
        path = f"{store.path}/work/{name}"
        try:
            fd = _lock_directory(path, _SOLE)
        except OSError:
            continue
        try:
            remove(path)
            count += 1
        finally:
            os.close(fd)
    return count


def _forget_old_logs(directory: str) -> None:
    try:
        names = sorted(os.listdir(directory))
    except OSError:
        return
    for name in names[:-KEPT_LOGS]:
        try:
            os.unlink(f"{directory}/{name}")
        except OSError:
            continue


def publish(store: Store, made: str, target: str) -> None:
    """Let the directory `made` stand at `target`, whole or not at all, also after a power failure.

    What it holds is written to its manifest first.
    """
    from pkgcache.manifest import NAME
    from pkgcache.survey import surveyed

    try:
        os.chmod(made, 0o755)  # noqa: S103
    except OSError as error:
        raise explain(error, store) from error
    try:
        with _flushing(made):
            write(store, f"{made}/{NAME}", surveyed(store, made))
            _flush(made)
        os.rename(made, target)
        _flush_directory(os.path.dirname(target))
    except OSError as error:
        raise explain(error, store) from error


def write(store: Store, path: str, text: str) -> None:
    """A new small file. Raises StoreError."""
    try:
        with open(path, "w", encoding="utf-8") as file:
            # Verification reads it as the sessions' user 0.
            os.fchmod(file.fileno(), 0o644)
            file.write(text)
    except OSError as error:
        raise explain(error, store) from error


def point(store: Store, name: str, identity: str) -> None:
    """Make `name` mean the base `identity` from now on."""
    _link(store, store.names(), name, identity)


def choose(store: Store, key: str, other: str) -> None:
    """Use the layer `other` from now on where `key` is what the inputs come to."""
    _link(store, f"{store.path}/chosen", key, other)


def _link(store: Store, directory: str, name: str, target: str) -> None:
    temporary = f"{directory}/.{name}.{os.urandom(4).hex()}"
    try:
        os.symlink(target, temporary)
        os.rename(temporary, f"{directory}/{name}")
        _flush_directory(directory)
    except OSError as error:
        raise explain(error, store) from error


def lasting_name(path: str) -> str:
    """What a base or a layer is called where `Store.needed` looks, whatever the data directory is called today."""
    return "/".join(path.rstrip("/").split("/")[-2:])


def in_use(store: Store, path: str) -> bool:
    """Whether somebody holds this directory of the store, or needs it."""
    if lasting_name(path) in store.needed():
        return True
    try:
        os.close(_lock_directory(path, _SOLE))
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def discard(store: Store, target: str, remove: Remove, *, unless: Callable[[], bool] = lambda: False) -> bool:
    """Remove a published directory; False when it was not there, or `unless` says so while nobody can begin to use
    it. Raises StoreError when it is in use."""
    try:
        fd = _lock_directory(target, _SOLE)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except BlockingIOError:
        raise StoreError(
            f"{os.path.basename(target)} is in use by a running session or build",
            "end the sessions that use it, then try again",
        ) from None
    except OSError as error:
        raise explain(error, store) from error
    try:
        if lasting_name(target) in store.needed():
            raise StoreError(
                f"{os.path.basename(target)} is what a session that is kept stands on",
                "delete the sessions that use it, then try again",
            )
        if unless():
            return False
        doomed, doomed_fd = _new_directory(store)
        try:
            os.rename(target, f"{doomed}/gone")
        except OSError as error:
            os.close(doomed_fd)
            raise explain(error, store) from error
    finally:
        os.close(fd)
    try:
        remove(doomed)
    except OSError as error:
        raise explain(error, store) from error
    finally:
        os.close(doomed_fd)
    return True


@contextmanager
def _flushing(tree: str) -> Iterator[None]:
    """Let the disk write already what `_flush` would have to wait for; whether it does so is `_flush`'s to say."""
    try:
        silent = (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0)
        pid = os.posix_spawnp("sync", ("sync", "-f", tree), os.environ, file_actions=(silent,))
    except OSError:
        yield
        return
    try:
        yield
    finally:
        os.waitpid(pid, 0)


def _flush(tree: str) -> None:
    """syncfs(2): the file system of `tree` reaches the disk before the rename that vouches for it does."""
    import ctypes

    fd = os.open(tree, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.syncfs(fd) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), tree)
    finally:
        os.close(fd)


def _flush_directory(path: str) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
