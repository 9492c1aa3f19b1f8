"""Remove directory trees whose files may belong to a session's ids, and do other work as their owner."""

import errno
import os
import stat
from collections.abc import Callable

from sandbox import idmap
from sandbox import syscalls as sys_
from sandbox.errors import SetupError
from sandbox.idmap import IdMap


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
    finally:
        os.close(go_write)
        with open(told, "rb") as pipe:
            message = pipe.read().decode()
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


def _remove_directory(parent: int, name: str) -> None:
    try:
        os.rmdir(name, dir_fd=parent)
        return
    except OSError as error:
        if error.errno != errno.ENOTEMPTY:
            raise
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        folder = os.open(name, flags, dir_fd=parent)
    except PermissionError:
        # overlayfs leaves its work directory without any permission, and so may a session.
        os.chmod(name, 0o700, dir_fd=parent)
        folder = os.open(name, flags, dir_fd=parent)
    try:
        with os.scandir(folder) as entries:
            items = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
        for item, is_folder in items:
            try:
                _remove_entry(folder, item, is_folder)
            except PermissionError:
                os.fchmod(folder, 0o700)
                _remove_entry(folder, item, is_folder)
    finally:
        os.close(folder)
    os.rmdir(name, dir_fd=parent)


def _remove_entry(folder: int, item: str, is_folder: bool) -> None:
    if is_folder:
        _remove_directory(folder, item)
    else:
        os.unlink(item, dir_fd=folder)
