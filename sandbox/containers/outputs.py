"""What stands in a container's outputs: listed and opened without following anything that a session made."""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from itertools import count, islice, takewhile
from operator import itemgetter

from sandbox import syscalls as sys_
from sandbox.containers.spec import Output
from sandbox.inroot import Opened

_RESOLVE = sys_.RESOLVE_BENEATH | sys_.RESOLVE_NO_SYMLINKS
_DEEPEST = 100
_LONGEST = 4000
# So many entries are looked at: a session can make more than this process has memory for.
_MOST = 100_000
_MOVED = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EAGAIN)
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def listed(folder: str, limit: int) -> tuple[Output, ...]:
    """The plain files below the directory ``folder``, no more than ``limit``, by path, and none below _DEEPEST
    directories, or among what is found after the first _MOST. PermissionError where the session closed a directory to
    its owner."""
    with Opened(os.open(folder, _FOLDER)) as top:
        return tuple(islice(_below(top.fd, "", count()), limit))


def _below(top: int, path: str, seen: Iterator[int]) -> Iterator[Output]:
    try:
        fd = sys_.openat2(top, path or ".", _FOLDER, resolve=_RESOLVE)
    except OSError as error:
        # The session removed it, put something else there, or moves things about.
        if error.errno in _MOVED:
            return
        raise
    found = []
    with Opened(fd), os.scandir(fd) as entries:
        for entry in takewhile(lambda _: next(seen) < _MOST, entries):
            with suppress(FileNotFoundError):
                found.append((entry.name, entry.stat(follow_symlinks=False)))
    for name, status in sorted(found, key=itemgetter(0)):
        where = f"{path}/{name}" if path else name
        if where.count("/") > _DEEPEST or len(os.fsencode(where)) > _LONGEST:
            continue
        if stat.S_ISDIR(status.st_mode):
            yield from _below(top, where, seen)
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
