"""A container's way out, of which nothing but the listeners exists until it is needed."""

import os
from collections.abc import Mapping
from types import TracebackType

from netpolicy.credentials import decode
from netpolicy.hostproxy import read_proxies
from sandbox.containers import directory
from sandbox.containers.directory import Place
from sandbox.egress import Egress
from sandbox.netns import Listening


class WayOut:
    """The listeners that process 1 opened; from the first knock on, or once there are credentials, an Egress."""

    def __init__(self, place: Place, environment: Mapping[str, str]) -> None:
        self._place = place
        self._environment = environment
        self._listening: list[Listening] = []
        self._fds: tuple[int, ...] = ()
        self._log = -1
        self._egress: Egress | None = None

    def take(self, listening: list[Listening], fds: tuple[int, ...]) -> None:
        """Own the listeners that process 1 opened."""
        if self._egress is not None:
            self._egress.take(listening, fds)
        else:
            self._listening, self._fds = listening, fds

    def waiting_fds(self) -> tuple[int, ...]:
        """See Egress.waiting_fds."""
        if self._egress is not None:
            return self._egress.waiting_fds()
        heard = zip(self._listening, self._fds, strict=False)
        return tuple(fd for entry, fd in heard if entry.role != "raw")

    def control_fd(self) -> int | None:
        """See Egress.control_fd."""
        return None if self._egress is None else self._egress.control_fd()

    def start(self) -> None:
        """Start the proxy."""
        self._made().start()

    def bury(self) -> None:
        """The running proxy died."""
        self._made().bury()

    def set_credentials(self, encoded: bytes) -> None:
        """Attach these and no others to hosts (netpolicy.credentials.encode); see Egress.set_credentials."""
        self._made().set_credentials(decode(encoded)[0])

    def finish(self) -> None:
        """Let the proxy judge what is queued, and end it."""
        if self._egress is None and any(_knocks(fd) for fd in self.waiting_fds()):
            self._made()
        if self._egress is not None:
            self._egress.finish()

    def _made(self) -> Egress:
        if self._egress is None:
            spec = directory.read_spec(self._place)
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            self._log = os.open(f"{self._place.path}/egress.jsonl", flags, 0o600)
            self._egress = Egress(
                spec.policy,
                self._place.id,
                self._log,
                self._place.data,
                read_proxies(self._environment),
                self._environment,
            )
            self._egress.take(self._listening, self._fds)
            self._listening, self._fds = [], ()
        return self._egress

    def __enter__(self) -> "WayOut":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._egress is not None:
            self._egress.__exit__(kind, error, trace)
        for fd in self._fds:
            os.close(fd)
        if self._log >= 0:
            os.close(self._log)


def _knocks(fd: int) -> bool:
    import select

    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(0))
