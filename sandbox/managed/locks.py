"""Locks on ids, between the threads of this process and between processes, gone with whoever held them.

They are record locks (fcntl(2)) in one empty file, at a place that the id decides. Such a lock belongs to the process:
its children don't have it, and it goes when the process dies however it dies. Two ids in one place wait for each
other without need; with 2**62 places that does not happen.
"""

import fcntl
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from sandbox.errors import HostError

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.0005, 0.02


class Locks:
    """The locks in the file ``path``, which is made when it is missing. The file is opened once in a process: closing
    another descriptor of it would drop every lock (fcntl(2))."""

    def __init__(self, path: str) -> None:
        try:
            self._fd = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise HostError(f"{path} can't be opened: {error.strerror}", hint="free some space") from error
        self._held: set[int] = set()
        self._guard = threading.Lock()

    @contextmanager
    def holding(self, identifier: str, *, wait_s: float = 0.0) -> Iterator[bool]:
        """Whether the lock on ``identifier`` is ours for the block: False when somebody else has it, and keeps it for
        ``wait_s``."""
        place = _place(identifier)
        deadline, pause = time.monotonic() + wait_s, _FIRST_PAUSE_S
        ours = self._take(place)
        while not ours and time.monotonic() < deadline:
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_S)
            ours = self._take(place)
        try:
            yield ours
        finally:
            if ours:
                with self._guard:
                    self._held.discard(place)
                    fcntl.lockf(self._fd, fcntl.LOCK_UN, 1, place)

    @contextmanager
    def sharing(self, identifier: str) -> Iterator[None]:
        """Nobody else gets the lock on ``identifier`` for the block, but everybody may share it. For processes that do
        so once at a time."""
        place = _place(identifier)
        fcntl.lockf(self._fd, fcntl.LOCK_SH, 1, place)
        try:
            yield
        finally:
            fcntl.lockf(self._fd, fcntl.LOCK_UN, 1, place)

    def _take(self, place: int) -> bool:
        with self._guard:
            if place in self._held:
                return False
            try:
                fcntl.lockf(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, place)
            except BlockingIOError:
                return False
            self._held.add(place)
            return True

    def close(self) -> None:
        with self._guard:
            os.close(self._fd)


def _place(identifier: str) -> int:
    import hashlib

    return int.from_bytes(hashlib.blake2b(identifier.encode(), digest_size=8).digest()) >> 2
