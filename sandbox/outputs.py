"""Copy out what a session left in its outputs directory.

The files are a stranger's work: nothing is followed, nothing but plain files, directories and links that stay inside
is taken, and no set-id bit survives.
"""

import errno
import os
import stat
from typing import NamedTuple

from sandbox.errors import HostError, SetupError
from sandbox.idmap import IdMap
from sandbox.inroot import Opened
from sandbox.removal import as_owner

_CHUNK = 1 << 20
# Each level holds two descriptors while it is copied.
_DEEPEST = 100


class Collected(NamedTuple):
    """How many files were copied, and what was not: "name: reason"."""

    files: int
    left_behind: list[str]


def open_target(path: str) -> Opened:
    """Open the directory ``path``, made if missing, as the target of `collect`; HostError when that is refused.

    To be called before the session runs: a session that writes to a directory above could put a link in its place.
    """
    try:
        os.makedirs(path, exist_ok=True)
        return Opened(os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
    except OSError as error:
        raise HostError(
            f"the outputs can't be copied to {path}: {error.strerror}", hint="name a directory of yours"
        ) from error


def collect(source: str, target: int, ids: IdMap) -> Collected:
    """Copy the contents of ``source`` into the directory ``target`` (see open_target), over files of the same name.

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
            if os.fstat(target).st_nlink == 0:
                raise SetupError("it was removed while the session ran")
            as_owner(ids, work)
        except (OSError, SetupError) as error:
            raise SetupError(
                f"the outputs can't be copied to their directory: {error}",
                hint="let it be, and make it writable",
            ) from error
        report.close()
        files, *left = pipe.read().decode("utf-8", "surrogateescape").split("\0")
    return Collected(int(files), left)


def _copy_all(source: str, target: int, left: list[str]) -> int:
    try:
        source_fd = os.open(source, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return 0
    return _copy_directory(source_fd, target, "", left)


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
    """Whether a link at ``path`` (relative to the outputs) leads to a place below the outputs.

    ``..`` counts at the start alone, where the directories above are known. After a name it may not stand: what has
    that name can be a link itself, and then one step up is somewhere else.
    """
    if points_to.startswith("/"):
        return False
    parts = [part for part in points_to.split("/") if part not in ("", ".")]
    ups = next((at for at, part in enumerate(parts) if part != ".."), len(parts))
    return ups <= path.count("/") and ".." not in parts[ups:]


def _copy_file(source: int, target: int, name: str) -> None:
    # Not a FIFO that took the file's place: that open would wait for ever.
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    with open(os.open(name, flags, dir_fd=source), "rb", buffering=0) as read:
        found = os.fstat(read.fileno())
        _unlink(target, name)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        # The caller's umask applies, as to every file that they make: a session gives no one else a right to it.
        mode = stat.S_IMODE(found.st_mode) & 0o777
        with open(os.open(name, flags, mode, dir_fd=target), "wb", buffering=0) as write:
            _copy_data(read.fileno(), write.fileno(), found.st_size)
            os.utime(write.fileno(), ns=(found.st_atime_ns, found.st_mtime_ns))


def _copy_data(read: int, write: int, size: int) -> None:
    """Copy what is written of a file and leave its holes out: a hole of a petabyte takes no room in the session."""
    at = 0
    while at < size:
        try:
            at = os.lseek(read, at, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            break
        end = os.lseek(read, at, os.SEEK_HOLE)
        os.lseek(read, at, os.SEEK_SET)
        os.lseek(write, at, os.SEEK_SET)
        while at < end:
            sent = os.sendfile(write, read, None, min(_CHUNK, end - at))
            if not sent:
                break
            at += sent
    os.ftruncate(write, size)


def _unlink(folder: int, name: str) -> None:
    try:
        os.unlink(name, dir_fd=folder)
    except FileNotFoundError:
        return
