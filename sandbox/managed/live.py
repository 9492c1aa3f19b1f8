"""What is alive in this process for the sessions of one data directory: turns, shells, containers' processes."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING

from sandbox.errors import Failure
from sandbox.idmap import IdMap
from sandbox.managed.database import Database
from sandbox.managed.feed import Feed
from sandbox.managed.locks import Locks

if TYPE_CHECKING:
    from netpolicy.credentials import Credential
    from sandbox.containers.containers import Containers
    from sandbox.containers.starting import Starter
    from sandbox.managed.shell import Shell

IDLE_S = 300.0
"""A session's processes are stopped after this time without a command; its files stay."""

# The lock that servers share.
_SERVING = "serving"
_LOOK_S, _MOMENT_S = 60.0, 0.02


class Live:
    """``lasting``: this process serves, so that processes of sessions stay as long as it does, or until they were idle
    for ``idle_s``. Otherwise they are nobody's and end by themselves soon after the last command.

    ``credentials``: what a session's proxy attaches to hosts, asked whenever its processes start.
    """

    def __init__(
        self, data: str, ids: IdMap, folder: str, database: Database, *, lasting: bool, idle_s: float = IDLE_S
    ) -> None:
        self.feed = Feed(database)
        self.locks = Locks(f"{folder}/locks")
        self.stopping = threading.Event()
        self.credentials: Callable[[str], Sequence[Credential]] = lambda _: ()
        self.idle_s = idle_s
        self._data, self._ids, self._lasting = data, ids, lasting
        self._guard = threading.Condition()
        self._starter: Starter | None = None
        self._containers: Containers | None = None
        self._turns: dict[str, threading.Thread] = {}
        self._again: set[str] = set()
        self._shells: dict[str, Shell] = {}
        self._users: dict[str, int] = {}
        self._idle_since: dict[str, float] = {}
        self._reaper: threading.Thread | None = None
        self._watcher: threading.Thread | None = None
        self._serving = ExitStack()
        if lasting:
            self._serving.enter_context(self.locks.sharing(_SERVING))

    @property
    def beside_a_server(self) -> bool:
        """Whether another process serves the sessions, and does their turns with shells that last."""
        if self._lasting:
            return False
        with self.locks.holding(_SERVING) as nobody:
            return not nobody

    @property
    def containers(self) -> "Containers":
        """The containers of the data directory."""
        with self._guard:
            if self._containers is None:
                from sandbox.containers.containers import Containers
                from sandbox.containers.starting import Starter

                if self._lasting:
                    self._starter = Starter().__enter__()
                self._containers = Containers(
                    self._data, self._ids, self._starter, credentials=lambda each: self.credentials(each)
                )
            return self._containers

    @property
    def starter_pid(self) -> int:
        """The process that containers' processes are children of; 0 when there is none."""
        return self._starter.pid if self._starter is not None else 0

    def begin(self, session_id: str, work: Callable[[], None]) -> None:
        """Do ``work`` for the session on a thread of its own; once more afterwards when it is at it already."""
        with self._guard:
            if self.stopping.is_set():
                return
            if session_id in self._turns:
                self._again.add(session_id)
                return
            thread = threading.Thread(
                target=self._work, args=(session_id, work), name=f"turn {session_id}", daemon=True
            )
            self._turns[session_id] = thread
            thread.start()

    def watch(self, look: Callable[[], None], every_s: float) -> None:
        """Do ``look`` now and then until the end, on a thread of its own."""

        def work() -> None:
            while not self.stopping.wait(every_s):
                look()

        self._watcher = threading.Thread(target=work, name="watch", daemon=True)
        self._watcher.start()

    def is_busy(self, session_id: str) -> bool:
        """Whether a thread of this process is at the session's turns."""
        with self._guard:
            return session_id in self._turns

    def _work(self, session_id: str, work: Callable[[], None]) -> None:
        while True:
            try:
                work()
            finally:
                with self._guard:
                    again = session_id in self._again and not self.stopping.is_set()
                    self._again.discard(session_id)
                    if not again:
                        del self._turns[session_id]
                        self._guard.notify_all()
            if not again:
                return

    def await_turns(self) -> None:
        """Wait until no turn is being done here."""
        with self._guard:
            self._guard.wait_for(lambda: not self._turns)

    @contextmanager
    def using(self, session_id: str) -> Iterator[None]:
        """The session's processes are needed for the block."""
        if not self._lasting:
            # A server beside us does not know otherwise, and would stop what it finds idle.
            with self.locks.sharing(_used(session_id)):
                yield
            return
        with self._guard:
            self._users[session_id] = self._users.get(session_id, 0) + 1
            self._idle_since.pop(session_id, None)
        try:
            yield
        finally:
            with self._guard:
                self._users[session_id] -= 1
                if not self._users[session_id]:
                    del self._users[session_id]
                    self._idle_since[session_id] = time.monotonic()
                    if self._reaper is None and not self.stopping.is_set():
                        self._reaper = threading.Thread(target=self._reap, name="idle sessions", daemon=True)
                        self._reaper.start()

    def shell(self, session_id: str, make: Callable[[], "Shell"]) -> "Shell":
        """The session's shell that lasts from command to command; made anew when it has ended."""
        with self._guard:
            found = self._shells.get(session_id)
        if found is not None and not found.ended:
            return found
        if found is not None:
            found.close()
        made = make()
        with self._guard:
            self._shells[session_id] = made
        return made

    def forget(self, session_id: str) -> None:
        """End the session's shell."""
        with self._guard:
            shell = self._shells.pop(session_id, None)
            if session_id not in self._users:
                self._idle_since.pop(session_id, None)
        if shell is not None:
            shell.close()

    def _reap(self) -> None:
        while not self.stopping.is_set():
            with self._guard:
                now = time.monotonic()
                ends = {each: since + self.idle_s for each, since in self._idle_since.items()}
                due = [each for each, end in ends.items() if end <= now]
                if not due:
                    # One that becomes idle in the meantime is due after idle_s at the earliest.
                    first = min(ends.values(), default=now + _LOOK_S)
                    self._guard.wait(max(_MOMENT_S, min(_LOOK_S, self.idle_s, first - now)))
                    continue
                for session_id in due:
                    del self._idle_since[session_id]
            for session_id in due:
                self._stop_idle(session_id)

    def _stop_idle(self, session_id: str) -> None:
        # A turn has this lock, and a command that begins now starts the processes again.
        with (
            self.locks.holding(session_id) as ours,
            self.locks.holding(_used(session_id)) as unused,
        ):
            if not ours or not unused:
                with self._guard:
                    self._idle_since.setdefault(session_id, time.monotonic())
                return
            if session_id in self._users:
                return
            self.forget(session_id)
            with suppress(Failure):
                self.containers.stop(session_id)

    def end(self) -> None:
        """Begin no more turns, have those that there are end in good order, and let followers go."""
        self.stopping.set()
        with self._guard:
            self._guard.notify_all()
        self.feed.end()

    def close(self) -> None:
        """Wait until that is done, and end all processes."""
        self.end()
        self.await_turns()
        for session_id in list(self._shells):
            self.forget(session_id)
        for thread in (self._reaper, self._watcher):
            if thread is not None:
                thread.join()
        self.feed.close()
        if self._starter is not None:
            self._starter.close()
        self._serving.close()
        self.locks.close()


def _used(session_id: str) -> str:
    """The lock that commands share which use a session without serving."""
    return f"{session_id}/used"
