"""Copy out what a session left in its outputs directory.

The files are a stranger's work: nothing is followed, nothing but plain files, directories and links that stay inside
is taken, and no set-id bit survives.
"""

import os
import stat
from typing import NamedTuple

from sandbox.errors import SetupError
from sandbox.idmap import IdMap
from sandbox.removal import as_owner

_CHUNK = 1 << 20
# Each level holds two descriptors while it is copied.
_DEEPEST = 100


class Collected(NamedTuple):
    """How many files were copied, and what was not: "name: reason"."""

    files: int
    left_behind: list[str]


def collect(source: str, target: str, ids: IdMap) -> Collected:
    """Copy the contents of ``source`` into the directory ``target``, made if missing, over files of the same name.

    SetupError when ``target`` can't be written.
    """
    told, tell = os.pipe2(os.O_CLOEXEC)
    with open(told, "rb") as pipe, open(tell, "wb") as report:

        def work() -> None:
            left: list[str] = []
            files = _copy_all(source, target, left)
            text = "\0".join([str(files), *left])
            # One page fits the pipe whatever happens; the count of what was cut is not lost.
            report.write(text.encode("utf-8", "surrogateescape")[:60000])
            report.flush()

        try:
            os.makedirs(target, exist_ok=True)
            as_owner(ids, work)
        except (OSError, SetupError) as error:
            raise SetupError(
                f"the outputs can't be copied to {target}: {error}", hint="make that directory writable"
            ) from error
        report.close()
        files, *left = pipe.read().decode("utf-8", "surrogateescape").split("\0")
    return Collected(int(files), left)


def _copy_all(source: str, target: str, left: list[str]) -> int:
    try:
        source_fd = os.open(source, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return 0
    target_fd = os.open(target, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    return _copy_directory(source_fd, target_fd, "", left)


def _copy_directory(source: int, target: int, prefix: str, left: list[str]) -> int:
    files = 0
    for name in sorted(os.listdir(source)):
        path = prefix + name
        try:
            files += _copy_entry(source, target, name, path, left)
        except OSError as error:
            if error.errno in (28, 122, 30):  # no space, over quota, read-only: the next file fares no better
                raise
            left.append(f"{path!r}: {error.strerror}")
    return files


def _copy_entry(source: int, target: int, name: str, path: str, left: list[str]) -> int:
    mode = os.stat(name, dir_fd=source, follow_symlinks=False).st_mode
    if stat.S_ISREG(mode):
        _copy_file(source, target, name)
        return 1
    if stat.S_ISDIR(mode):
        if path.count("/") >= _DEEPEST:
            left.append(f"{path!r}: more than {_DEEPEST} directories deep")
            return 0
        try:
            os.mkdir(name, 0o755, dir_fd=target)
        except FileExistsError:
            pass
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        inner_source, inner_target = -1, -1
        try:
            inner_source = os.open(name, flags, dir_fd=source)
            inner_target = os.open(name, flags, dir_fd=target)
            return _copy_directory(inner_source, inner_target, f"{path}/", left)
        finally:
            for fd in (inner_source, inner_target):
                if fd >= 0:
                    os.close(fd)
    if stat.S_ISLNK(mode):
        points_to = os.readlink(name, dir_fd=source)
        if not stays_inside(path, points_to):
            left.append(f"{path!r}: a link that leads out of the outputs ({points_to!r})")
            return 0
        _unlink(target, name)
        os.symlink(points_to, name, dir_fd=target)
        return 1
    left.append(f"{path!r}: neither a file nor a directory")
    return 0


def stays_inside(path: str, points_to: str) -> bool:
    """Whether a link at ``path`` (relative to the outputs) leads to a place below the outputs."""
    if points_to.startswith("/"):
        return False
    depth = path.count("/")
    for part in points_to.split("/"):
        if part == "..":
            depth -= 1
        elif part not in ("", "."):
            depth += 1
        if depth < 0:
            return False
    return True


def _copy_file(source: int, target: int, name: str) -> None:
    # Not a FIFO that took the file's place: that open would wait for ever.
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    with open(os.open(name, flags, dir_fd=source), "rb", buffering=0) as read:
        found = os.fstat(read.fileno())
        _unlink(target, name)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with open(os.open(name, flags, 0o600, dir_fd=target), "wb", buffering=0) as write:
            while os.sendfile(write.fileno(), read.fileno(), None, _CHUNK):
                pass
            os.fchmod(write.fileno(), stat.S_IMODE(found.st_mode) & 0o777)
            os.utime(write.fileno(), ns=(found.st_atime_ns, found.st_mtime_ns))


def _unlink(folder: int, name: str) -> None:
    try:
        os.unlink(name, dir_fd=folder)
    except FileNotFoundError:
        return
