"""Look up and make paths inside a directory that is about to become a root, never outside it.

The kernel resolves every symbolic link, an absolute one too, as if ``root`` were ``/`` (openat2(2),
RESOLVE_IN_ROOT), so what a base, a layer or an earlier session left there can't point at the host.
"""

import os
from types import TracebackType

from sandbox import syscalls


class Opened:
    """A file descriptor that closes with its ``with`` block."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def __enter__(self) -> "Opened":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self.fd)


def open_in(root: str | int, path: str, flags: int, mode: int = 0) -> int:
    """Open the session's absolute ``path`` inside ``root`` (a path or a directory's descriptor)."""
    resolve = syscalls.RESOLVE_IN_ROOT | syscalls.RESOLVE_NO_MAGICLINKS
    if isinstance(root, int):
        return syscalls.openat2(root, path, flags, mode=mode, resolve=resolve)
    with Opened(os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)) as top:
        return syscalls.openat2(top.fd, path, flags, mode=mode, resolve=resolve)


def make_directory(root: str, path: str, mode: int | None = None) -> Opened:
    """Open the directory ``path`` inside ``root``, made with its parents where missing.

    ``mode`` is set on it whether it was there or not; None leaves it (0755 where it is made).
    """
    with Opened(os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)) as top:
        try:
            found = Opened(open_in(top.fd, path, os.O_PATH | os.O_DIRECTORY))
        except FileNotFoundError:
            parent = path.rstrip("/").rsplit("/", 1)
            with make_directory(root, parent[0] or "/") as above:
                try:
                    os.mkdir(parent[1], 0o755, dir_fd=above.fd)
                except FileExistsError:
                    # A dangling link stands there; the next look-up says so.
                    pass
            found = Opened(open_in(top.fd, path, os.O_PATH | os.O_DIRECTORY))
    if mode is not None:
        os.chmod(f"/proc/self/fd/{found.fd}", mode)
    return found


def make_file(root: str, path: str) -> Opened:
    """Open the file ``path`` inside ``root`` for mounting on; an empty one is made where there is none."""
    folder, name = path.rsplit("/", 1)
    with make_directory(root, folder or "/") as parent:
        try:
            return Opened(open_in(root, path, os.O_PATH))
        except FileNotFoundError:
            os.close(
                os.open(name, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_WRONLY, 0o644, dir_fd=parent.fd)
            )
    return Opened(open_in(root, path, os.O_PATH))
