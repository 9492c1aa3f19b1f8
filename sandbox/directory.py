"""The directories of sessions: one each, locked by the supervisor while it lives, swept when it is gone.

``<data>/sessions/<ids>/<id>`` holds ``upper`` (what the session changed), ``work`` (overlayfs's own; host trees are
attached there too), ``root`` (the empty mount point), ``outputs``, and ``files`` (copies for ``--file``).
"""

import fcntl
import os
from types import TracebackType

from sandbox.errors import HostError
from sandbox.idmap import IdMap
from sandbox.paths import directory_for
from sandbox.plan import Layout
from sandbox.removal import remove_tree

FOLDERS = ("upper", "work", "root", "outputs")


def layout(path: str) -> Layout:
    """The directories below ``path`` for the planner, which knows the ground."""
    return Layout(f"{path}/upper", f"{path}/work", f"{path}/work/stage", f"{path}/outputs", "")


def make_folder(path: str, ids: IdMap) -> None:
    """Make the directory ``path``, if it is missing, owned by the user 0 of sessions with ``ids``."""
    try:
        os.mkdir(path, 0o755)
    except FileExistsError:
        return
    if os.geteuid() == 0:
        os.chown(path, ids.root_uid, ids.root_gid)


class SessionDirectory:
    """A new session's directory; gone at the end of the ``with`` block. OSError becomes HostError."""

    def __init__(self, data: str, ids: IdMap) -> None:
        self.data = data
        self.ids = ids
        self.parent = os.path.join(data, "sessions", ids.name)
        self.path = ""
        self._lock = -1
        self._held: list[int] = []

    def __enter__(self) -> "SessionDirectory":
        try:
            self._make()
        except OSError as error:
            self.close()
            raise HostError(
                f"the session's directory can't be made in {self.parent}: {error.strerror}",
                hint="free some space, or name another data directory with --data",
            ) from error
        return self

    def _make(self) -> None:
        directory_for(self.data, "sessions", self.ids)
        # Root's sessions run as other ids, which have to pass through to their own directory.
        mode = 0o711 if os.geteuid() == 0 else 0o700
        while not self._claim(os.path.join(self.parent, os.urandom(6).hex()), mode):
            pass
        for name in FOLDERS:
            self.make(f"{self.path}/{name}")

    def _claim(self, path: str, mode: int) -> bool:
        """Make and lock ``path``; False when a sweep took it for a dead session's in between."""
        os.mkdir(path, mode)
        try:
            lock = os.open(f"{path}/lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:
            return False
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not os.path.exists(f"{path}/lock"):
            os.close(lock)
            return False
        self.path, self._lock = path, lock
        return True

    def make(self, path: str) -> None:
        """Make the directory ``path``, if it is missing, owned by the session's user 0."""
        make_folder(path, self.ids)

    @property
    def upper(self) -> str:
        """Where the session's changes are, laid out as seen in the session."""
        return f"{self.path}/upper"

    @property
    def outputs(self) -> str:
        """What the session leaves in /mnt/session/outputs."""
        return f"{self.path}/outputs"

    @property
    def root(self) -> str:
        """The mount point of the session's root; empty on the host."""
        return f"{self.path}/root"

    def layout(self) -> Layout:
        """The same directories for the planner, which knows the ground."""
        return layout(self.path)

    def copy_in(self, sources: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
        """Copy each (file of the host, target) in; returns (copy, target). HostError names what can't be copied."""
        if sources:
            self.make(f"{self.path}/files")
        return tuple(
            (self._copy(source, f"{self.path}/files/{number}"), target)
            for number, (source, target) in enumerate(sources)
        )

    def _copy(self, source: str, copy: str) -> str:
        try:
            with open(source, "rb") as read, open(copy, "xb") as write:
                os.fchmod(write.fileno(), 0o444)
                size = os.fstat(read.fileno()).st_size
                done = 0
                while done < size:
                    sent = os.sendfile(write.fileno(), read.fileno(), done, size - done)
                    if sent == 0:
                        break
                    done += sent
        except OSError as error:
            raise HostError(f"{source} can't be copied into the session: {error.strerror}") from error
        return copy

    def keep_open(self, fd: int) -> None:
        """Hold what the session stands on as long as the session's own directory."""
        self._held.append(fd)

    def close(self) -> None:
        """Remove everything. SetupError when something stays."""
        while self._held:
            os.close(self._held.pop())
        if self.path:
            path, self.path = self.path, ""
            try:
                _remove(path, self.ids)
            finally:
                os.close(self._lock)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def sweep(data: str, ids: IdMap) -> int:
    """Remove what sessions left whose supervisor is dead; returns how many there were."""
    parent = os.path.join(data, "sessions", ids.name)
    try:
        names = os.listdir(parent)
    except FileNotFoundError:
        return 0
    return sum(_sweep(os.path.join(parent, name), ids) for name in names)


def _sweep(path: str, ids: IdMap) -> bool:
    try:
        lock = os.open(f"{path}/lock", os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        # Just being made, or left between two steps of its making: only an empty one can go without a lock.
        try:
            os.rmdir(path)
        except OSError:
            return False
        return True
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        _remove(path, ids)
        return True
    finally:
        os.close(lock)


def _remove(path: str, ids: IdMap) -> None:
    forget_overlays(f"{path}/work")
    # The lock file goes last: a removal that is cut short is taken up again by the next sweep.
    for name in os.listdir(path):
        if name != "lock":
            remove_tree(os.path.join(path, name), ids)
    try:
        os.unlink(f"{path}/lock")
        os.rmdir(path)
    except FileNotFoundError:
        return


def forget_overlays(work: str) -> None:
    """Remove what overlayfs leaves in its work directories, in the shape that it always has.

    No session sees these, so there is nothing to beware of, and the walk through trees of any shape takes ten times as
    long. It takes what is left here.
    """
    for name in os.listdir(work) if os.path.isdir(work) else ():
        inner = f"{work}/{name}/work"
        try:
            for closed in (inner, f"{inner}/incompat", f"{inner}/incompat/volatile"):
                os.chmod(closed, 0o700)
            os.unlink(f"{inner}/incompat/volatile/dirty")
            for empty in (f"{inner}/incompat/volatile", f"{inner}/incompat", inner, f"{work}/{name}"):
                os.rmdir(empty)
        except OSError:
            continue
