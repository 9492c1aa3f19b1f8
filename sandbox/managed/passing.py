"""Records that are kept for a while only: a directory for each program that wants some, gone with it.

The directory is locked for as long as its program lives, so that what a killed one left can be told and removed.
"""

import fcntl
import os
import shutil
import tempfile
from typing import NamedTuple

from sandbox.errors import HostError
from sandbox.idmap import IdMap

_PREFIX = "emulator-"


class Passing(NamedTuple):
    """``path``: the directory. ``lock``: the descriptor that holds it."""

    path: str
    lock: int


def make(data: str) -> Passing:
    """A new directory below ``data``. HostError when it can't be made."""
    while True:
        try:
            path = tempfile.mkdtemp(prefix=_PREFIX, dir=data)
        except OSError as error:
            raise HostError(
                f"a directory can't be made in {data}: {error.strerror}",
                hint="free some space, or name another data directory",
            ) from error
        lock = _lock(path, wait=True)
        if lock is not None:
            return Passing(path, lock)


def end(passing: Passing) -> None:
    """Remove the directory. What its records led to has to be gone before."""
    shutil.rmtree(passing.path)
    os.close(passing.lock)


def sweep(data: str, ids: IdMap) -> int:
    """Remove what killed programs left, with the sessions in their records; returns how many there were."""
    count = 0
    for name in os.listdir(data):
        if not name.startswith(_PREFIX):
            continue
        path = os.path.join(data, name)
        lock = _lock(path, wait=False)
        if lock is not None:
            _discard(data, ids, path)
            end(Passing(path, lock))
            count += 1
    return count


def _discard(data: str, ids: IdMap, path: str) -> None:
    from sandbox.managed import machines
    from sandbox.managed.service import open_service

    if not os.path.exists(f"{path}/state.db"):
        return
    service = open_service(data, ids, path)
    try:
        machines.discard_all(service)
    finally:
        service.close()


def _lock(path: str, *, wait: bool) -> int | None:
    """The locked directory; None when it is another's, or gone."""
    try:
        folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        os.close(folder)
        return None
    if not os.path.exists(path):
        # A sweep took it for a dead program's between its making and its locking.
        os.close(folder)
        return None
    return folder
