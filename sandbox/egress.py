"""A session's way out: the proxy process, started when the session first knocks, and what it reports.

Until then nothing but the listeners exists. When the proxy dies, its connections are cut and the session has no
way out; the next knock starts another.
"""

import os
import signal
import socket
import time
from _thread import allocate_lock
from collections.abc import Mapping, Sequence
from contextlib import suppress
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from netpolicy.errors import InputError
from netpolicy.hostproxy import HostProxies
from netpolicy.policy import Policy, listening_ports
from sandbox.descriptors import close_all_but
from sandbox.errors import HostError
from sandbox.netns import Listening

if TYPE_CHECKING:
    from netpolicy.credentials import Credential

_FINISH_S = 5.0
# One that the last request of a session has started loads its modules first, on a machine that may be busy.
_REPORT_S = 20.0
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
    """The listeners of one session and the proxy that serves them; both gone at the end of the ``with`` block.

    ``at_once``: the proxy is started as soon as there is something to listen on, for what is known to connect.
    """

    def __init__(
        self,
        policy: Policy,
        session: str,
        log: int | None,
        data: str,
        host_proxies: HostProxies | None = None,
        environment: Mapping[str, str] = MappingProxyType({}),
        *,
        at_once: bool = False,
    ) -> None:
        self._at_once = at_once
        self.data = data
        self.environment = environment
        # A file in memory, for the proxy alone to read.
        self._keys = -1
        # Held while the proxy changes or is told something: credentials may come from another thread.
        self._lock = allocate_lock()
        self._words: socket.socket | None = None
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
        if self._at_once:
            self.start()

    def waiting_fds(self) -> tuple[int, ...]:
        """What becomes readable when the session knocks; none while a proxy runs."""
        if self._pid:
            return ()
        heard = zip(self._listening, self._sockets, strict=False)
        return tuple(each.fileno() for entry, each in heard if entry.role != "raw")

    def control_fd(self) -> int | None:
        """Becomes readable when the running proxy dies."""
        return self._control.fileno() if self._control else None

    def set_credentials(self, credentials: "Sequence[Credential]") -> None:
        """From now on these and no others are attached, be the session about to start or at work.

        When this returns, no request that is judged later gets what is no longer among them; requests under way end
        as they began. Make them with `netpolicy.credentials.repository`. A port other than 443 must be one that the
        session listens to from its start (`netpolicy.credentials.with_ports`). InputError names a credential that
        can't be used; the ones before stay then. HostError when the session has lost its way out over it.
        """
        memory = in_memory(prepared(self.policy, credentials, self.data, self.environment))
        with self._lock:
            self._own_keys(memory)
            if self._words is not None and not told(self._words, memory):
                self._lose_proxy()

    def take_keys(self, memory: int) -> tuple[int, int] | None:
        """As set_credentials, of what `prepared` made, in a file in memory that this owns from now on. Nothing of it
        comes into this process's memory. When a proxy runs: what it is told on (see `told`), and its process id."""
        self._own_keys(memory)
        return None if self._words is None else (self._words.fileno(), self._pid)

    def distrust(self, pid: int) -> None:
        """End the proxy if it still is the process ``pid``, which could not be told."""
        if self._pid == pid and self._words is not None:
            self._lose_proxy()

    @property
    def keys(self) -> int:
        """The file in memory with what is attached, or -1."""
        return self._keys

    def _own_keys(self, memory: int) -> None:
        if self._keys >= 0:
            os.close(self._keys)
        self._keys = memory

    def _lose_proxy(self) -> None:
        # Nobody knows what it holds. Its end shows on the control socket, and the next knock starts another.
        assert self._words is not None
        os.kill(self._pid, signal.SIGKILL)
        self._words.close()
        self._words = None

    @property
    def pid(self) -> int:
        """The running proxy, 0 when there is none."""
        return self._pid

    def start(self) -> None:
        """Start the proxy."""
        kind = socket.SOCK_STREAM | socket.SOCK_CLOEXEC
        with self._lock:
            ours, theirs = socket.socketpair(socket.AF_UNIX, kind)
            words, heard = socket.socketpair(socket.AF_UNIX, kind)
            pid = os.fork()
            if pid == 0:
                self._serve(theirs, heard)
            theirs.close()
            heard.close()
            self._control, self._words, self._pid = ours, words, pid

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

    def begin_finish(self) -> None:
        """As finish, without waiting: `finished` tells when what is queued is judged."""
        if not self._pid and self._knocking():
            self.start()
        if self._control is not None:
            self._control.setblocking(False)
            with suppress(OSError):
                self._control.sendall(b"finish")

    def finished(self) -> bool:
        """Whether no proxy is at it any more. What it reports is let go."""
        if self._control is None:
            return True
        try:
            while self._control.recv(65536):
                pass
        except BlockingIOError:
            return False
        except OSError:
            pass
        return True

    def _knocking(self) -> bool:
        import select

        poll = select.poll()
        for fd in self.waiting_fds():
            poll.register(fd, select.POLLIN)
        return bool(poll.poll(0))

    def _report(self, control: socket.socket) -> dict[str, Any]:
        import json

        text = b""
        deadline = time.monotonic() + _REPORT_S
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
        with self._lock:
            self._end(number)

    def _end(self, number: int) -> None:
        if self._words is not None:
            self._words.close()
            self._words = None
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

    def _serve(self, control: socket.socket, words: socket.socket) -> NoReturn:
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            # A terminal's ^C is meant for the session; this process ends when its supervisor does.
            os.setsid()
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
                signal.signal(number, signal.SIG_IGN)
            self._close_others(control, words)
            from netpolicy.proxy import Listener, make_room, preload, run
            from sandbox.authority import read

            authority = read(self.data)
            if os.geteuid() == 0:
                # Root's Python may stand where nobody else may read.
                preload(authority)
                make_room()
            _lose_rights()
            credentials, roots = _attached(self._keys)
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
                credentials=credentials,
                roots=roots,
                words=words,
            )
            code = 0
        finally:
            os._exit(code)

    def _close_others(self, *ours: socket.socket) -> None:
        keep = {0, 1, 2, *(each.fileno() for each in ours), *(each.fileno() for each in self._sockets)}
        if self.log is not None:
            keep.add(self.log)
        if self._keys >= 0:
            keep.add(self._keys)
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
        if self._keys >= 0:
            os.close(self._keys)
            self._keys = -1


def prepared(
    policy: Policy, credentials: "Sequence[Credential]", data: str, environment: Mapping[str, str]
) -> bytes:
    """What a proxy has to know to attach these: a line of netpolicy.credentials.encode. InputError and HostError as
    Egress.set_credentials."""
    from netpolicy.credentials import checked, encode

    found = tuple(checked(each) for each in credentials)
    ports = {port for _, port in listening_ports(policy)}
    for each in found:
        if policy.mode == "none":
            raise InputError(f"{each.origin} can't be attached: the session has no network")
        if policy.mode == "limited" and not ports & {each.port, 0}:
            raise InputError(
                f"{each.origin} can't be attached: the session does not listen on port {each.port}",
                "attach it before the session starts",
            )
    if not found:
        return encode((), b"")
    from sandbox import authority
    from sandbox.trust import host_bundle

    roots = host_bundle(environment)
    authority.ensure(data)
    return encode(found, roots)


def in_memory(data: bytes) -> int:
    """A descriptor of a file in memory that holds ``data``."""
    fd = os.memfd_create("attached", os.MFD_CLOEXEC)
    try:
        with open(fd, "wb", closefd=False) as file:
            file.write(data)
    except BaseException:
        os.close(fd)
        raise
    return fd


def content(memory: int) -> bytes:
    """What a file in memory holds, wherever others stand in it."""
    return os.pread(memory, os.fstat(memory).st_size, 0)


def _attached(memory: int) -> "tuple[tuple[Credential, ...], bytes]":
    if memory < 0:
        return (), b""
    from netpolicy.credentials import decode

    found = decode(content(memory))
    os.close(memory)
    return found


def told(words: socket.socket, memory: int) -> bool:
    """Whether the running proxy took what a file in memory says, over the socket for that."""
    words.settimeout(_FINISH_S)
    try:
        words.sendall(content(memory))
        return words.recv(64) == b"ok\n"
    except OSError:
        return False


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
