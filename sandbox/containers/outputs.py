"""What stands in a container's outputs: listed and opened without following anything that a session made."""

import os
import stat
from collections.abc import Iterator
from itertools import islice

from sandbox import syscalls as sys_
from sandbox.containers.spec import Output
from sandbox.inroot import Opened

_RESOLVE = sys_.RESOLVE_BENEATH | sys_.RESOLVE_NO_SYMLINKS
_DEEPEST = 100
_LONGEST = 4000
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def listed(folder: str, limit: int) -> tuple[Output, ...]:
    """The plain files below the directory ``folder``, no more than ``limit``, by path, and none below _DEEPEST
    directories. PermissionError where the session closed a directory to its owner."""
    with Opened(os.open(folder, _FOLDER)) as top:
        return tuple(islice(_below(top.fd, ""), limit))


def _below(top: int, path: str) -> Iterator[Output]:
    try:
        fd = sys_.openat2(top, path or ".", _FOLDER, resolve=_RESOLVE)
    except (FileNotFoundError, NotADirectoryError):
        # The session removed it, or put something else there.
        return
    with Opened(fd):
        names = sorted(os.listdir(fd))
        found = []
        for name in names:
            try:
                found.append((name, os.stat(name, dir_fd=fd, follow_symlinks=False)))
            except FileNotFoundError:
                continue
    for name, status in found:
        where = f"{path}/{name}" if path else name
        if where.count("/") > _DEEPEST or len(os.fsencode(where)) > _LONGEST:
            continue
        if stat.S_ISDIR(status.st_mode):
            yield from _below(top, where)
        elif stat.S_ISREG(status.st_mode):
            identity = (status.st_dev, status.st_ino, status.st_ctime_ns)
            yield Output(where, status.st_size, status.st_mtime_ns, identity)


def opened(folder: str, path: str) -> int:
    """A descriptor of the plain file ``path`` below ``folder``, for reading. FileNotFoundError when there is none or
    it is something else; PermissionError where the session closed it."""
    with Opened(os.open(folder, _FOLDER)) as top:
        # Not a FIFO that took the file's place: that open would wait for ever.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY
        try:
            fd = sys_.openat2(top.fd, path, flags, resolve=_RESOLVE)
        except PermissionError:
            raise
        except OSError as error:
            raise FileNotFoundError(2, "there is no such file", path) from error
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise FileNotFoundError(2, "there is no such file", path)
    os.set_blocking(fd, True)
    return fd
