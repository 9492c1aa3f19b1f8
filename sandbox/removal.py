"""Remove directory trees whose files may belong to a session's ids, and do other work as their owner."""

import errno
import os
import signal
import stat
from collections.abc import Callable
from typing import TypeVar

from sandbox import idmap
from sandbox import syscalls as sys_
from sandbox.errors import SetupError
from sandbox.idmap import IdMap

T = TypeVar("T")


def remove_tree(path: str, ids: IdMap) -> None:
    """Remove ``path`` and all below it; nothing happens when it is gone. SetupError when something stays.

    Symbolic links are removed, never followed. Where the caller may not (files of subordinate ids), the work is
    done as the owner, in a user namespace with ``ids``.
    """
    try:
        _remove(path)
    except FileNotFoundError:
        return
    except PermissionError:
        as_owner(ids, lambda: _remove(path))


def remove_own(path: str) -> None:
    """As remove_tree, in this process alone: PermissionError where the files belong to others, OSError when something
    stays."""
    try:
        _remove(path)
    except FileNotFoundError:
        return


def as_owner(ids: IdMap, work: Callable[[], None]) -> None:
    """Run ``work`` in a child that may do what the owners of ``ids`` may, and the caller too.

    Root may do that as it is; everybody else becomes the session's root. SetupError carries the child's error.
    """
    _in_child(ids, work, translated=os.geteuid() != 0)


def as_session_root(ids: IdMap, work: Callable[[], None]) -> None:
    """Run ``work`` in a child as the root of sessions with ``ids``: what it makes is theirs."""
    _in_child(ids, work, translated=True)


def _in_child(ids: IdMap, work: Callable[[], None], *, translated: bool) -> None:
    told, tell = os.pipe2(os.O_CLOEXEC)
    go_read, go_write = os.pipe2(os.O_CLOEXEC)
    pid = sys_.clone(sys_.CLONE_NEWUSER if translated else 0)
    if pid == 0:
        code = 1
        try:
            os.close(go_write)
            if os.read(go_read, 1) == b"g":
                if translated:
                    os.setresgid(0, 0, 0)
                    os.setresuid(0, 0, 0)
                work()
                code = 0
        except Exception as error:  # told to the parent, which raises it
            os.write(tell, f"{error}".encode(errors="replace")[:4096])
        finally:
            os._exit(code)
    os.close(tell)
    os.close(go_read)
    try:
        if translated:
            idmap.write_maps(pid, ids)
        os.write(go_write, b"g")
        with open(told, "rb", closefd=False) as pipe:
            message = pipe.read().decode()
    except BaseException:
        # Interrupted: the work must not go on in a place that the caller now tidies up.
        os.kill(pid, signal.SIGKILL)
        raise
    finally:
        os.close(go_write)
        os.close(told)
        status = os.waitpid(pid, 0)[1]
    if status != 0:
        raise SetupError(message or f"a helper process ended with status {status}")


def _remove(path: str) -> None:
    parent, name = os.path.split(os.path.abspath(path))
    folder = os.open(parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        mode = os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
        if stat.S_ISDIR(mode):
            _remove_directory(folder, name)
        else:
            os.unlink(name, dir_fd=folder)
    finally:
        os.close(folder)


_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def _remove_directory(parent: int, name: str) -> None:
    """Remove a directory of any depth: one descriptor at a time, and no recursion."""
    if _rmdir(name, parent):
        return
    here = _enter(parent, name)
    try:
        trail = [(name, _identity(here))]
        waiting = [_clear(here)]
        while True:
            if waiting[-1]:
                item = waiting[-1].pop()
                if _permitted(here, lambda here=here, item=item: _rmdir(item, here)):  # type: ignore[misc]
                    continue
                inner = _enter(here, item)
                os.close(here)
                here = inner
                trail.append((item, _identity(here)))
                waiting.append(_clear(here))
                continue
            waiting.pop()
            done, _ = trail.pop()
            if not trail:
                break
            above = _permitted(here, lambda here=here: os.open("..", _FOLDER, dir_fd=here))  # type: ignore[misc]
            os.close(here)
            here = above
            # A process that is not quite dead yet may have moved the directory to lead this one astray.
            if _identity(here) != trail[-1][1]:
                raise OSError(errno.EXDEV, "a directory was moved while it was being removed", done)
            os.rmdir(done, dir_fd=here)
    finally:
        os.close(here)
    os.rmdir(name, dir_fd=parent)


def _rmdir(name: str, parent: int) -> bool:
    try:
        os.rmdir(name, dir_fd=parent)
    except OSError as error:
        if error.errno != errno.ENOTEMPTY:
            raise
        return False
    return True


def _enter(parent: int, name: str) -> int:
    try:
        return os.open(name, _FOLDER, dir_fd=parent)
    except PermissionError:
        # overlayfs leaves its work directory without any permission, and so may a session. By descriptor: what has
        # that name could be a link to elsewhere by now.
        fd = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
        try:
            os.chmod(f"/proc/self/fd/{fd}", 0o700)
        finally:
            os.close(fd)
        return os.open(name, _FOLDER, dir_fd=parent)


def _identity(folder: int) -> tuple[int, int]:
    found = os.fstat(folder)
    return found.st_dev, found.st_ino


def _clear(folder: int) -> list[str]:
    """Unlink all that is no directory; the names of the directories that stay."""
    with os.scandir(folder) as entries:
        items = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
    for item, is_folder in items:
        if not is_folder:
            _permitted(folder, lambda item=item: os.unlink(item, dir_fd=folder))  # type: ignore[misc]
    return [item for item, is_folder in items if is_folder]


def _permitted(folder: int, work: Callable[[], T]) -> T:
    """Do ``work`` in ``folder``, whose owner may have taken the permission to do so away."""
    try:
        return work()
    except PermissionError:
        os.fchmod(folder, 0o700)
        return work()
