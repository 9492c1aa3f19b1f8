"""The layer of files that every session gets from sandboxsh itself, made once and shared.

It is the topmost lower layer of a session, so that a session starts with an empty upper directory: nothing to write
at the start, nothing to remove at the end. ``<data>/ground/<ids>/<digest of its steps>``. A session holds a shared
lock on it; who removes it needs an exclusive one.
"""

import fcntl
import os
from _blake2 import blake2b

from sandbox.errors import HostError, SetupError
from sandbox.idmap import IdMap
from sandbox.operations import Operation
from sandbox.paths import directory_for
from sandbox.removal import as_session_root, remove_tree

# A change of what the steps do, other than to their values, needs a new format.
_FORMAT = "1"


def path_of(data: str, ids: IdMap, steps: tuple[Operation, ...]) -> str:
    """Where the layer that ``steps`` make belongs."""
    content = blake2b(digest_size=16)
    content.update(_FORMAT.encode())
    for step in steps:
        content.update(f"\n{type(step).__name__}".encode())
        for value in step:
            text = repr(value).encode("utf-8", "surrogateescape") if not isinstance(value, bytes) else value
            content.update(b"%d:" % len(text))
            content.update(text)
    return os.path.join(data, "ground", ids.name, content.hexdigest())


def ensure(path: str, ids: IdMap, steps: tuple[Operation, ...]) -> None:
    """Make the layer at ``path`` (see path_of) when it is missing. HostError when it can't be made."""
    if os.path.isdir(path):
        return
    parent = os.path.dirname(path)
    making = f"{path}.{os.getpid()}"
    try:
        # See path_of.
        directory_for(os.path.dirname(os.path.dirname(parent)), "ground", ids)
        os.mkdir(making, 0o755)
        if os.geteuid() == 0:
            os.chown(making, ids.root_uid, ids.root_gid)

        def make() -> None:
            os.umask(0o022)
            for step in steps:
                step.execute(making)

        as_session_root(ids, make)
        # Whoever comes second finds the same content in place.
        try:
            os.rename(making, path)
        except OSError:
            if not os.path.isdir(path):
                raise
    except (OSError, SetupError) as error:
        raise HostError(
            f"the files that sessions share can't be made in {parent}: {error}",
            hint="free some space, or name another data directory with --data",
        ) from error
    finally:
        remove_tree(making, ids)


def use(path: str, ids: IdMap, steps: tuple[Operation, ...]) -> int:
    """Make the layer when it is missing, and hold it: it stays until the descriptor that comes back is closed."""
    while True:
        ensure(path, ids, steps)
        fd = _hold(path, fcntl.LOCK_SH)
        if fd is not None:
            return fd


def forget_unused(data: str, ids: IdMap, *, dry_run: bool = False) -> tuple[str, ...]:
    """Remove the layers that no session uses; the next session makes what it needs again. Returns their paths."""
    parent = os.path.join(data, "ground", ids.name)
    try:
        names = sorted(os.listdir(parent))
    except FileNotFoundError:
        return ()
    return tuple(path for name in names if _forget(path := f"{parent}/{name}", ids, dry_run=dry_run))


def _forget(path: str, ids: IdMap, *, dry_run: bool) -> bool:
    _, dot, maker = os.path.basename(path).rpartition(".")
    if dot:
        # Being made or being removed; nobody else's once its process is dead.
        return not os.path.exists(f"/proc/{maker}") and _removed(path, ids, dry_run=dry_run)
    try:
        fd = _hold(path, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    if fd is None:
        return False
    try:
        if dry_run:
            return True
        aside = f"{path}.{os.urandom(4).hex()}.{os.getpid()}"
        os.rename(path, aside)
    finally:
        os.close(fd)
    return _removed(aside, ids, dry_run=False)


def _removed(path: str, ids: IdMap, *, dry_run: bool) -> bool:
    if not dry_run:
        remove_tree(path, ids)
    return True


def _hold(path: str, operation: int) -> int | None:
    """A locked descriptor of what stands at ``path``, None when it is gone or going."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(fd, operation)
        if os.path.samestat(os.fstat(fd), os.stat(path)):
            return fd
    except FileNotFoundError:
        pass
    except BaseException:
        os.close(fd)
        raise
    os.close(fd)
    return None
