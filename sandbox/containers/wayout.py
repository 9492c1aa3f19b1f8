"""A container's way out, of which nothing but the listeners exists until it is needed."""

import os
import socket
from collections.abc import Mapping
from types import TracebackType

from netpolicy.hostproxy import read_proxies
from sandbox import restrict
from sandbox.channel import say
from sandbox.containers import directory
from sandbox.containers.directory import Place
from sandbox.egress import Egress, content, in_memory, prepared, told
from sandbox.netns import Listening


class WayOut:
    """The listeners that process 1 opened; from the first knock on, or once there are credentials, an Egress."""

    def __init__(self, place: Place, environment: Mapping[str, str]) -> None:
        self._place = place
        self._environment = environment
        self._listening: list[Listening] = []
        self._fds: tuple[int, ...] = ()
        self._log = -1
        self._keys = -1
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

    @property
    def pid(self) -> int:
        """The running proxy, 0 when there is none."""
        return 0 if self._egress is None else self._egress.pid

    def start(self) -> None:
        """Start the proxy."""
        self._made().start()

    def bury(self) -> None:
        """The running proxy died."""
        self._made().bury()

    def take_keys(self, memory: int) -> tuple[int, int] | None:
        """See Egress.take_keys; `prepare` makes the file."""
        if self._egress is not None:
            return self._egress.take_keys(memory)
        if self._keys >= 0:
            os.close(self._keys)
        self._keys = memory
        return None

    @property
    def keys(self) -> int:
        """The file in memory with what is attached, or -1."""
        return self._keys if self._egress is None else self._egress.keys

    def distrust(self, pid: int) -> None:
        """See Egress.distrust."""
        if self._egress is not None:
            self._egress.distrust(pid)

    def begin_finish(self) -> None:
        """Let the proxy judge what is queued; `finished` tells when it has."""
        if self._egress is None and any(_knocks(fd) for fd in self.waiting_fds()):
            self._made()
        if self._egress is not None:
            self._egress.begin_finish()

    def finished(self) -> bool:
        """See Egress.finished."""
        return self._egress is None or self._egress.finished()

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
            if self._keys >= 0:
                self._egress.take_keys(self._keys)
                self._keys = -1
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
        for fd in (self._log, self._keys):
            if fd >= 0:
                os.close(fd)


def prepare(place: Place, environment: Mapping[str, str], given: int, channel: socket.socket) -> None:
    """Make what the proxy is to read of credentials in a file in memory (netpolicy.credentials.encode), for a process
    that must not have them: ``channel`` gets ``keys`` with a file in memory. InputError and HostError as
    Egress.set_credentials."""
    from netpolicy.credentials import decode

    restrict.forbid_inspection()
    restrict.no_core_dumps()
    policy = directory.read_spec(place).policy
    memory = in_memory(prepared(policy, decode(content(given))[0], place.data, environment))
    say(channel, "keys", (memory,))


def tell(words: int, memory: int, channel: socket.socket) -> None:
    """Tell the running proxy what a file in memory says; ``channel`` gets ``told`` or ``untold``."""
    restrict.forbid_inspection()
    restrict.no_core_dumps()
    say(channel, "told" if told(socket.socket(fileno=words), memory) else "untold")


def _knocks(fd: int) -> bool:
    import select

    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(0))
