"""Close what a running session was lent to write: from then on nothing in it can write there, and none of it can undo
that.

A bind mount is made read-only in the session's mount namespace, which takes a capability that its processes don't have.
The kernel does so only while no file of that mount is open for writing, and that holds for descriptors, directories and
mapped memory that were there before: there is one mount, and all of them lead through it (mount_setattr(2)).
"""

import errno
import os
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from types import TracebackType
from typing import NamedTuple

from sandbox import syscalls as sys_
from sandbox.entering import Namespaces, do, open_namespaces, open_proc, unmount
from sandbox.errors import SetupError
from sandbox.inroot import Opened, open_in

_PATIENCE_S = 2.0


class Sealed(NamedTuple):
    """A mount to be closed: where it is on the host and in the session, and whether it is taken away as well."""

    source: str
    target: str
    away: bool


class Seal:
    """Closes ``mounts`` of one session, whose processes can make no further mount namespace."""

    def __init__(self, mounts: Iterable[tuple[str, str, bool]]) -> None:
        self._mounts = tuple(Sealed(*mount) for mount in mounts)
        self._namespaces: Namespaces | None = None

    def begin(self, pid: int) -> None:
        """Hold the namespaces of process 1, which later lets nobody look."""
        with suppress(OSError):
            self._namespaces = open_namespaces(pid)

    def close(self) -> None:
        """Make all of the mounts read-only. SetupError names the first that can't be: then it can still be written."""
        if self._namespaces is None:
            raise SetupError("nothing can be closed to the session: its namespaces can't be held")
        with Opened(open_proc()) as proc:
            answers = do(self._namespaces, [_closing(mount, proc.fd) for mount in self._mounts])
        for mount, (words, _) in zip(self._mounts, answers, strict=False):
            if words != "done":
                raise SetupError(f"{mount.target} can't be closed to the session: {words}")

    def __enter__(self) -> "Seal":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._namespaces is not None:
            self._namespaces.__exit__(None, None, None)
            self._namespaces = None


def _closing(mount: Sealed, proc: int) -> Callable[[], None]:
    expected = os.stat(mount.source)

    def work() -> None:
        with Opened(open_in("/", mount.target, os.O_PATH)) as found:
            if not os.path.samestat(os.fstat(found.fd), expected):
                raise OSError(2, "something else stands there")
            _make_read_only(found.fd)
            if not os.fstatvfs(found.fd).f_flag & os.ST_RDONLY:
                raise OSError(30, "it can still be written")
            if mount.away:
                unmount(found.fd, proc)

    return work


def _make_read_only(mount: int) -> None:
    """Wait a little for what is just being written to its end."""
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        try:
            sys_.mount_setattr(mount, attributes=sys_.MOUNT_ATTR_RDONLY, recursive=True)
            return
        except OSError as error:
            if error.errno != errno.EBUSY or time.monotonic() > deadline:
                raise
        time.sleep(0.005)
