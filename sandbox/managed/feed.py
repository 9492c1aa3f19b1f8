"""Wakes those who follow the events of sessions, whichever process wrote them.

A follower reads the records from where it stands; nothing is queued for it here, so that a slow one costs nothing.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sandbox.managed.database import Database

# Other processes' writes are noticed after this; our own at once.
_LOOK_S = 0.05

Wake = Callable[[], None]


class Feed:
    """Followers of one database, with a thread that looks at it while there are any."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._followers: dict[str, set[Wake]] = {}
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self.closed = False

    @contextmanager
    def follow(self, session_id: str, wake: Wake) -> Iterator[None]:
        """Call ``wake`` after each change of the session's events, from any thread; and when this ends (``closed``)."""
        with self._changed:
            self._followers.setdefault(session_id, set()).add(wake)
            if self._thread is None and not self.closed:
                seen = last_event(self._database)
                self._thread = threading.Thread(target=self._look, args=(seen,), name="feed", daemon=True)
                self._thread.start()
            self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._followers[session_id].discard(wake)
                if not self._followers[session_id]:
                    del self._followers[session_id]

    def tell(self, session_id: str) -> None:
        """The session's events have changed."""
        with self._changed:
            for wake in self._followers.get(session_id, ()):
                wake()

    def end(self) -> None:
        """Wake everybody for the last time."""
        with self._changed:
            self.closed = True
            self._changed.notify_all()
            for followers in self._followers.values():
                for wake in followers:
                    wake()

    def close(self) -> None:
        """Wait until nothing looks at the database any more."""
        self.end()
        if self._thread is not None:
            self._thread.join()

    def _look(self, seen: int) -> None:
        version = 0
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self.closed or bool(self._followers))
                if self._changed.wait_for(lambda: self.closed, _LOOK_S):
                    return
            now = self._database.version()
            if now == version:
                continue
            version = now
            with self._database.read() as connection:
                rows = connection.execute(
                    "SELECT session_id, MAX(seq) FROM events WHERE seq > ? GROUP BY session_id", (seen,)
                ).fetchall()
            for session_id, number in rows:
                seen = max(seen, number)
                self.tell(session_id)


def last_event(database: Database) -> int:
    """The number of the newest event of all."""
    with database.read() as connection:
        (number,) = connection.execute("SELECT MAX(seq) FROM events").fetchone()
    return number or 0
