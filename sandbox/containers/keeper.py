"""The keeper of a running container, on the host's side: it makes process 1 and stays until the end.

It holds the container's lock, what the container stands on, its way out, and a handle on its namespaces for what is
changed while it runs. When it dies, the kernel kills process 1 and with it everything in the container.

Orders come over connections to the socket ``keeper`` in the container's directory, a word each: ``wait`` is answered
``serving``; ``attach`` and ``detach`` (with the name, then the target) ``done`` or ``failed``, and so ``credentials``,
with a file in memory (netpolicy.credentials.encode); ``stop SECONDS`` ``stopped``, when all processes are gone and the
lock is free. A connection that ends without an answer tells of the keeper's death.
"""

import gc
import os
import select
import signal
import socket
import time
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from typing import NamedTuple

from netpolicy.errors import InputError
from sandbox import launch, restrict
from sandbox.begin import begin
from sandbox.channel import hear, say
from sandbox.containers import attach, building, directory, serve
from sandbox.containers.directory import Folder, Place
from sandbox.containers.spec import Attachment
from sandbox.containers.wayout import WayOut
from sandbox.errors import HostError, SetupError
from sandbox.netns import Listening

_BACKLOG = 512


class BusyError(Exception):
    """Another keeper has the container."""


class Options(NamedTuple):
    """``environment``: that of whoever asks, for certificates and the proxy that the host gets out by. ``linger_s``:
    how long the container runs with no process in it; None for ever. ``credentials``: a file in memory with what is
    attached to hosts (netpolicy.credentials.encode), which may be empty. It is read when process 1 is there, which
    began as a copy of this process."""

    environment: Mapping[str, str]
    linger_s: float | None
    credentials: int


class _Keeper:
    """The state of one running container between two turns of the loop."""

    def __init__(
        self, place: Place, running: launch.Running, egress: WayOut, control: socket.socket, wake: int
    ) -> None:
        self.place = place
        self.running = running
        self.egress = egress
        self.control = control
        self.wake = wake
        self.inside: attach.Inside | None = None
        self.clients: dict[int, socket.socket] = {}
        self.waiting: list[socket.socket] = []
        self.serving = False
        self.idle_since: float | None = None
        self.deadline: float | None = None
        self.gone = False


def keep(place: Place, options: Options, reply: socket.socket) -> None:
    """Run the container until it ends. ``reply`` gets ``serving`` once it takes commands.

    BusyError when another keeper has it; HostError, SetupError or InputError when it can't be started.
    """
    lock = directory.lock(place)
    if lock is None:
        raise BusyError
    with ExitStack() as stack:
        # What is opened last goes first, the lock almost at the end: who is told that it stopped finds it free.
        waiting: list[socket.socket] = []
        stack.callback(_answer_all, waiting, "stopped")
        stack.callback(os.close, lock)
        stack.callback(directory.note_process1, lock, 0)
        folder = stack.enter_context(Folder(place))
        control = stack.enter_context(_listen(folder, "keeper"))
        orders = stack.enter_context(_listen(folder, "exec"))
        stack.callback(_unlink, folder, "keeper", "exec")
        # Of those that last, each is made as early as possible: they share what memory the others never change.
        begun = stack.enter_context(begin(serve.become))
        running = stack.enter_context(launch.taken(begun))
        directory.note_process1(lock, running.pid)
        built = building.build(place, running, orders, options.environment)
        namespaces = stack.enter_context(built.namespaces)
        for fd in built.held:
            stack.callback(os.close, fd)
        orders.close()
        egress = stack.enter_context(WayOut(place, options.environment))
        wake = stack.enter_context(_Terminated())
        keeper = _Keeper(place, running, egress, control, wake.read)
        keeper.waiting = waiting
        restrict.forbid_inspection()
        restrict.no_core_dumps()
        credentials = _content(options.credentials)
        if credentials:
            egress.set_credentials(credentials)
        _await_serving(keeper, namespaces)
        stack.callback(_close_inside, keeper)
        assert keeper.inside is not None
        if directory.has_attached(place):
            attach.attach(keeper.inside, directory.read_attached(place))
        say(reply, "serving")
        reply.close()
        _settle(options)
        while not keeper.gone:
            _turn(keeper, options.linger_s)
        running.kill()
        egress.finish()


def _answer_all(waiting: list[socket.socket], words: str) -> None:
    for each in waiting:
        with suppress(OSError):
            say(each, words)
        each.close()


def _listen(folder: Folder, name: str) -> socket.socket:
    _unlink(folder, name)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
    listener.bind(folder.short(name))
    os.chmod(folder.short(name), 0o600)
    listener.listen(_BACKLOG)
    return listener


def _content(fd: int) -> bytes:
    """What a file in memory holds; the file is closed."""
    with open(fd, "rb") as file:
        return os.pread(file.fileno(), os.fstat(file.fileno()).st_size, 0)


def _unlink(folder: Folder, *names: str) -> None:
    for name in names:
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=folder.fd)


class _Terminated:
    """SIGTERM, which asks for an end in good order, as a descriptor that becomes readable."""

    def __init__(self) -> None:
        self.read, self._write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)

    def __enter__(self) -> "_Terminated":
        signal.signal(signal.SIGTERM, lambda *_: None)
        signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        return self

    def __exit__(self, *_: object) -> None:
        signal.set_wakeup_fd(-1)
        os.close(self.read)
        os.close(self._write)


def _await_serving(keeper: _Keeper, namespaces: attach.Namespaces) -> None:
    while not keeper.serving:
        message = hear(keeper.running.channel)
        if message is None:
            raise SetupError("the container ended while it was being set up")
        _heed(keeper, message, namespaces)


def _heed(
    keeper: _Keeper, message: tuple[str, tuple[int, ...]], namespaces: attach.Namespaces | None = None
) -> None:
    """Take one message of process 1's: text, by a process that shares its namespace with strangers."""
    words, fds = message
    kind, _, rest = words.partition(" ")
    if kind == "listening" and not keeper.serving:
        entries = [word.split(":") for word in rest.split()]
        listening = [Listening(role, int(port), int(family)) for role, port, family in entries]
        keeper.egress.take(listening, fds)
        return
    if kind == "window" and namespaces is not None and keeper.inside is None:
        keeper.inside = attach.Inside(namespaces, fds[0])
        return
    for fd in fds:
        os.close(fd)
    if kind == "serving":
        keeper.serving = True
    elif kind == "busy":
        keeper.idle_since = None
    elif kind == "idle":
        keeper.idle_since = time.monotonic()
    elif kind == "failed":
        raise SetupError(f"setting up the container failed: {rest.partition(' ')[2]}")


def _settle(options: Options) -> None:
    """What was needed to start is not needed to wait: let the parent's pages be shared as long as possible."""
    del options
    gc.collect()
    gc.freeze()


def _close_inside(keeper: _Keeper) -> None:
    if keeper.inside is not None:
        keeper.inside.close()


def _turn(keeper: _Keeper, linger_s: float | None) -> None:
    poll = select.poll()
    for fd in (keeper.wake, keeper.running.pidfd, keeper.running.channel.fileno(), keeper.control.fileno()):
        poll.register(fd, select.POLLIN)
    for fd in (*keeper.clients, *keeper.egress.waiting_fds()):
        poll.register(fd, select.POLLIN)
    proxy = keeper.egress.control_fd()
    if proxy is not None:
        poll.register(proxy, select.POLLIN)
    ready = {fd for fd, _ in poll.poll(_wait_ms(keeper, linger_s))}
    if proxy is not None and proxy in ready:
        keeper.egress.bury()
    elif ready.intersection(keeper.egress.waiting_fds()):
        keeper.egress.start()
    if keeper.running.channel.fileno() in ready:
        message = hear(keeper.running.channel)
        if message is None:
            keeper.gone = True
            return
        _heed(keeper, message)
    if keeper.wake in ready or keeper.running.pidfd in ready:
        keeper.gone = True
        return
    if keeper.control.fileno() in ready:
        client, _ = keeper.control.accept()
        keeper.clients[client.fileno()] = client
    for fd in ready.intersection(keeper.clients):
        _serve(keeper, keeper.clients[fd])
    _keep_time(keeper, linger_s)


def _wait_ms(keeper: _Keeper, linger_s: float | None) -> float | None:
    ends = [keeper.deadline] if keeper.deadline is not None else []
    if linger_s is not None and keeper.idle_since is not None:
        ends.append(keeper.idle_since + linger_s)
    return max(0.0, min(ends) - time.monotonic()) * 1000 + 1 if ends else None


def _keep_time(keeper: _Keeper, linger_s: float | None) -> None:
    now = time.monotonic()
    if keeper.deadline is not None and now >= keeper.deadline:
        keeper.gone = True
    if linger_s is not None and keeper.idle_since is not None and now >= keeper.idle_since + linger_s:
        keeper.idle_since = None
        with suppress(OSError):
            say(keeper.running.channel, "leave")


def _serve(keeper: _Keeper, client: socket.socket) -> None:
    message = hear(client)
    if message is None:
        del keeper.clients[client.fileno()]
        client.close()
        return
    words, fds = message
    kind, _, rest = words.partition(" ")
    given = b""
    for fd in fds:
        given = _content(fd)
    with suppress(OSError):
        if kind == "credentials":
            say(client, _attach_credentials(keeper, given))
        elif kind == "wait":
            say(client, "serving")
        elif kind == "stop":
            _begin_end(keeper, client, float(rest))
        elif kind in ("attach", "detach"):
            say(client, _change(keeper, kind, *rest.split(" ", 1)))


def _change(keeper: _Keeper, kind: str, name: str, target: str) -> str:
    assert keeper.inside is not None
    try:
        if kind == "attach":
            attach.attach(keeper.inside, (Attachment(name, target),))
        else:
            attach.detach(keeper.inside, Attachment(name, target))
    except SetupError as error:
        return f"failed {error}"
    return "done"


def _attach_credentials(keeper: _Keeper, given: bytes) -> str:
    try:
        keeper.egress.set_credentials(given)
    except (InputError, HostError) as error:
        return f"failed {error}"
    return "done"


def _begin_end(keeper: _Keeper, client: socket.socket, grace_s: float) -> None:
    """End the container: at once, or as soon as its processes did as SIGTERM asks."""
    del keeper.clients[client.fileno()]
    keeper.waiting.append(client)
    if grace_s > 0:
        say(keeper.running.channel, "end")
        keeper.deadline = time.monotonic() + grace_s
    else:
        keeper.gone = True
