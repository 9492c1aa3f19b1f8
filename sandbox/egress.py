"""A session's way out: the proxy process, started when the session first knocks, and what it reports.

Until then nothing but the listeners exists. When the proxy dies, its connections are cut and the session has no
way out; the next knock starts another.
"""

import os
import signal
import socket
import time
from types import TracebackType
from typing import Any, NamedTuple, NoReturn

from netpolicy.hostproxy import HostProxies
from netpolicy.policy import Policy
from sandbox.descriptors import close_all_but
from sandbox.errors import HostError
from sandbox.netns import Listening

_FINISH_S = 5.0
# A proxy that dies this often will not come up; the session then has no way out for good.
_MOST_DEATHS = 5


class Summary(NamedTuple):
    """What the session asked of the network, by host, each entry with its ``count``.

    ``failed``: allowed, but out of reach. ``omitted``: of each outcome, how many decisions found no room in the
    lists. ``log_error``: why the log is not complete, or empty. ``restarts``: how often the proxy had died.
    """

    denied: list[dict[str, Any]]
    allowed: list[dict[str, Any]]
    failed: list[dict[str, Any]]
    omitted: dict[str, int]
    log_error: str
    restarts: int


class Egress:
    """The listeners of one session and the proxy that serves them; both gone at the end of the ``with`` block."""

    def __init__(
        self,
        policy: Policy,
        session: str,
        log: int | None,
        data: str,
        host_proxies: HostProxies | None = None,
    ) -> None:
        self.data = data
        self.policy = policy
        self.host_proxies = host_proxies
        self.session = session
        self.log = log
        self._listening: list[Listening] = []
        self._sockets: list[socket.socket] = []
        self._control: socket.socket | None = None
        self._pid = 0
        self._deaths = 0

    def take(self, listening: list[Listening], fds: tuple[int, ...]) -> None:
        """Own the listeners that process 1 opened."""
        self._listening = listening
        self._sockets = [socket.socket(fileno=fd) for fd in fds]

    def waiting_fds(self) -> tuple[int, ...]:
        """What becomes readable when the session knocks; none while a proxy runs."""
        if self._pid:
            return ()
        heard = zip(self._listening, self._sockets, strict=False)
        return tuple(each.fileno() for entry, each in heard if entry.role != "raw")

    def control_fd(self) -> int | None:
        """Becomes readable when the running proxy dies."""
        return self._control.fileno() if self._control else None

    def start(self) -> None:
        """Start the proxy."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        pid = os.fork()
        if pid == 0:
            self._serve(theirs)
        theirs.close()
        self._control, self._pid = ours, pid

    def bury(self) -> None:
        """The running proxy died: reap it, so that the next knock starts another."""
        self._reap(signal.SIGKILL)
        self._deaths += 1
        if self._deaths >= _MOST_DEATHS:
            # Without listeners the kernel refuses at once.
            self._close_listeners()

    def _close_listeners(self) -> None:
        for each in self._sockets:
            each.close()
        self._sockets = []

    def finish(self) -> Summary:
        """Let the proxy judge what is queued, end it, and return what happened."""
        if not self._pid and self._knocking():
            self.start()
        report: dict[str, Any] = {}
        if self._control is not None:
            report = self._report(self._control)
            self._deaths += not report
        self._reap(signal.SIGKILL)
        return Summary(
            report.get("denied", []),
            report.get("allowed", []),
            report.get("failed", []),
            report.get("omitted", {}),
            report.get("log_error", ""),
            self._deaths,
        )

    def _knocking(self) -> bool:
        import select

        poll = select.poll()
        for fd in self.waiting_fds():
            poll.register(fd, select.POLLIN)
        return bool(poll.poll(0))

    def _report(self, control: socket.socket) -> dict[str, Any]:
        import json

        text = b""
        deadline = time.monotonic() + _FINISH_S
        try:
            control.sendall(b"finish")
            while (left := deadline - time.monotonic()) > 0:
                control.settimeout(left)
                piece = control.recv(65536)
                if not piece:
                    break
                text += piece
            found = json.loads(text)
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def _reap(self, number: int) -> None:
        if self._control is not None:
            self._control.close()
            self._control = None
        if self._pid:
            try:
                os.kill(self._pid, number)
            except ProcessLookupError:
                pass
            os.waitpid(self._pid, 0)
            self._pid = 0

    def _serve(self, control: socket.socket) -> NoReturn:
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            # A terminal's ^C is meant for the session; this process ends when its supervisor does.
            os.setsid()
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
                signal.signal(number, signal.SIG_IGN)
            self._close_others(control)
            from netpolicy.proxy import Listener, make_room, preload, run
            from sandbox.authority import read

            authority = read(self.data)
            if os.geteuid() == 0:
                # Root's Python may stand where nobody else may read.
                preload(authority)
                make_room()
            _lose_rights()
            listeners = [
                Listener(entry.role, entry.port, listener)  # type: ignore[arg-type]
                for entry, listener in zip(self._listening, self._sockets, strict=True)
            ]
            run(
                listeners,
                self.policy,
                control=control,
                log=self.log,
                session=self.session,
                authority=authority,
                host_proxies=self.host_proxies,
            )
            code = 0
        finally:
            os._exit(code)

    def _close_others(self, control: socket.socket) -> None:
        keep = {0, 1, 2, control.fileno(), *(each.fileno() for each in self._sockets)}
        if self.log is not None:
            keep.add(self.log)
        close_all_but(keep)
        null = os.open("/dev/null", os.O_RDWR)
        for fd in (0, 1):
            os.dup2(null, fd)

    def __enter__(self) -> "Egress":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._reap(signal.SIGKILL)
        self._close_listeners()


def _lose_rights() -> None:
    """Root's proxy parses what strangers send, so it becomes nobody."""
    from sandbox import idmap, restrict

    if os.geteuid() == 0:
        nobody = idmap.roots_proxy_id(idmap.read_host_ids())
        try:
            if idmap.root_may_drop_groups():
                os.setgroups([])
            if nobody is None:
                restrict.drop_all_capabilities()
            else:
                os.setresgid(nobody, nobody, nobody)
                os.setresuid(nobody, nobody, nobody)
        except OSError as error:
            raise HostError(f"the proxy can't give up root's rights: {error.strerror}") from error
    restrict.forbid_new_privileges()
    restrict.forbid_inspection()
    restrict.die_with_parent()
    restrict.no_core_dumps()
