"""Keep running containers, on the host's side: make each one's process 1 and stay until its end.

For each, the lock is held, what it stands on, its way out, and a handle on its namespaces for what is changed while it
runs. One process keeps them all (sandbox.containers.starter): a process for each would keep 2 MB for each. So nothing
here waits: what takes time is done by children (sandbox.containers.jobs). Tokens pass through as files in memory, and
are never read here. When it dies, the kernel kills every process 1, and with it everything in its container.

Orders come over connections to the socket ``keeper`` in the container's directory, a word each: ``wait`` is answered
``serving``; ``attach`` and ``detach`` (with the name, then the target) ``done`` or ``failed``, and so ``credentials``,
with a file in memory (netpolicy.credentials.encode); ``stop SECONDS`` ``stopped``, when all processes are gone and the
lock is free. A connection that ends without an answer tells of the keeper's death.
"""

import fcntl
import os
import select
import signal
import socket
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from typing import NamedTuple

from sandbox import entering, launch
from sandbox.begin import Begun
from sandbox.channel import hear, say
from sandbox.containers import attach, building, directory, requests
from sandbox.containers.changing import Changing, Message, Order, close_all, outcome
from sandbox.containers.directory import Folder, Place
from sandbox.containers.wayout import WayOut
from sandbox.errors import SetupError
from sandbox.netns import Listening

_BACKLOG = 512
_FINISH_S = 5.0


class BusyError(Exception):
    """Another keeper has the container, or it is just ending."""


class Options(NamedTuple):
    """``environment``: that of whoever asks, for certificates and the proxy that the host gets out by. ``linger_s``:
    how long the container runs with no process in it; None for ever. ``credentials``: a file in memory with what is
    attached to hosts (netpolicy.credentials.encode), which may be empty; the container's to close."""

    environment: Mapping[str, str]
    linger_s: float | None
    credentials: int


class Kept:
    """A container that is being started, runs, or ends. ``over``: it has ended, and nothing of it is left here.

    ``ask`` has process 1 made, which then comes by `given`. ``reply`` gets ``serving`` once it takes commands, or why
    it does not; it is this object's, and ``options.credentials`` too. BusyError and InputError when it can't begin.
    """

    def __init__(
        self, place: Place, options: Options, reply: socket.socket, ask: Callable[["Kept"], None]
    ) -> None:
        self.over = False
        self.poll = select.epoll()
        self._place = place
        self._options = options
        self._reply: socket.socket | None = reply
        self._failure = ""
        self._running: launch.Running | None = None
        self._egress = WayOut(place, options.environment)
        self._changing = Changing(place, options.environment, self._egress)
        self._secret = options.credentials
        self._clients: dict[int, socket.socket] = {}
        self._waiting: list[socket.socket] = []
        # Before commands are taken.
        self._missing = {"built", "serving"}
        self._namespaces: entering.Namespaces | None = None
        self._window = -1
        self._idle_since: float | None = None
        self._deadline: float | None = None
        self._finishing: float | None = None
        self._ending = False
        self._stack = ExitStack()
        try:
            self._begin()
            ask(self)
        except BaseException:
            self._reply = None
            self._close()
            raise
        if not self.over:
            self._arm()

    def _begin(self) -> None:
        place, stack = self._place, self._stack
        stack.callback(self._drop_secret)
        lock = directory.lock(place, patience_s=0)
        if lock is None:
            raise BusyError
        # What is opened last goes first, the lock almost at the end: who is told that it stopped finds it free.
        stack.callback(_answer_all, self._waiting)
        stack.callback(_unlock, lock)
        stack.callback(directory.note_process1, lock, 0)
        self._lock = lock
        folder = stack.enter_context(Folder(place))
        self._control = stack.enter_context(_listen(folder, "keeper"))
        self._taking = stack.enter_context(_listen(folder, "exec"))
        stack.callback(_unlink, folder, "keeper", "exec")

    def given(self, begun: Begun) -> None:
        """Take process 1, and tell it what to become."""
        try:
            with begun:
                if self._ending or self.over:
                    return
                running = self._running = self._stack.enter_context(launch.taken(begun))
            self._stack.enter_context(self._egress)
            directory.note_process1(self._lock, running.pid)
            taking = self._taking
            environment = self._options.environment
            self._changing.begin(
                lambda told: building.build(self._place, running, taking, environment, told),
                (taking.fileno(), running.channel.fileno(), running.pidfd),
                self._take_built,
            )
            taking.close()
            if os.fstat(self._secret).st_size:
                self._missing.add("keys")
                self._changing.attach_credentials(self._secret, lambda: self._have("keys"))
            self._drop_secret()
        except Exception as error:
            self._fail(error)
        self._settle()

    def pids(self) -> tuple[int, ...]:
        """The children of this process that are the container's, dead or alive."""
        own = 0 if self._running is None else self._running.pid
        return (own, self._egress.pid, *(job.pid for job in self._changing.jobs))

    def wait_s(self) -> float | None:
        """How long until something is due, None when nothing is."""
        ends = [end for end in (self._deadline, self._finishing, self._lingers_until()) if end is not None]
        return max(0.0, min(ends) - time.monotonic()) if ends else None

    def _lingers_until(self) -> float | None:
        linger_s = self._options.linger_s
        if linger_s is None or self._idle_since is None or self._reply is not None or self._ending:
            return None
        return self._idle_since + linger_s

    def turn(self) -> None:
        """Do what is to be done now. What goes wrong in one container ends that container alone."""
        try:
            self._turn()
        except Exception as error:
            self._fail(error)
        self._settle()

    def _settle(self) -> None:
        try:
            if self._ending and not self.over:
                self._finish()
            if not self.over:
                self._arm()
        except Exception as error:
            self._fail(error)
            self._close()

    def _turn(self) -> None:
        # What is closed on the way gives its number to what is opened.
        ready = {fd for fd, _ in self.poll.poll(0)}
        jobs = self._changing.ready(ready)
        clients = [self._clients[fd] for fd in ready.intersection(self._clients)]
        died = self._egress.control_fd() in ready
        knocked = bool(ready.intersection(self._egress.waiting_fds()))
        running = self._running
        if running is not None and not self._ending:
            if running.channel.fileno() in ready:
                self._hear(running.channel)
            elif running.pidfd in ready:
                self._end_early()
        self._changing.turn(jobs)
        if self._ending:
            return
        if died:
            self._egress.bury()
        elif knocked and self._reply is None:
            self._egress.start()
        if self._control.fileno() in ready:
            client, _ = self._control.accept()
            # Who asks and takes no answer waits alone.
            client.setblocking(False)
            self._clients[client.fileno()] = client
        for client in clients:
            self._serve(client)
        self._changing.obey()
        self._keep_time()

    def _hear(self, channel: socket.socket) -> None:
        with suppress(BlockingIOError):
            message = hear(channel)
            if message is None:
                self._end_early()
            else:
                self._heed(*message)

    def _end_early(self) -> None:
        if self._reply is not None:
            raise SetupError("the container ended while it was being set up")
        self.end()

    def _fail(self, error: Exception) -> None:
        told = requests.told(error)
        self._failure = self._failure or told
        self.end()

    def end(self) -> None:
        """Kill what runs in it; `turn` finds it gone."""
        self._ending = True
        self._deadline = None
        self._changing.end()
        if self._running is not None and self._running.pid:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._running.pidfd, signal.SIGKILL)

    def abandon(self) -> None:
        """End it now."""
        self.end()
        if not self.over:
            self._close()

    def _finish(self) -> None:
        """Let go of everything, if all processes are gone."""
        if self._running is not None and self._running.pid:
            if not _is_readable(self._running.pidfd):
                return
            self._running.kill()
        if not self._changing.gone():
            return
        if self._finishing is None:
            self._finishing = time.monotonic() + _FINISH_S
            if "serving" not in self._missing:
                self._egress.begin_finish()
        if self._egress.finished() or time.monotonic() >= self._finishing:
            self._close()

    def _close(self) -> None:
        self.over = True
        self.poll.close()
        for client in self._clients.values():
            client.close()
        try:
            with self._stack:
                if self._changing.inside is None and self._window >= 0:
                    os.close(self._window)
                self._changing.close()
        except Exception as error:
            self._failure = self._failure or requests.told(error)
        if self._reply is not None:
            with self._reply, suppress(OSError):
                if self._failure:
                    say(self._reply, self._failure)

    def _arm(self) -> None:
        """Wait for what can come now. Anew each time: a closed descriptor's number may be another's."""
        fds = self._changing.fds()
        running = self._running
        if running is not None and running.pid:
            fds.append(running.pidfd)
        proxy = self._egress.control_fd()
        if proxy is not None and (not self._ending or self._finishing is not None):
            fds.append(proxy)
        if not self._ending and running is not None:
            fds.append(running.channel.fileno())
            if self._reply is None:
                fds += [self._control.fileno(), *self._clients, *self._egress.waiting_fds()]
        self.poll.close()
        self.poll = select.epoll()
        for fd in fds:
            self.poll.register(fd, select.EPOLLIN)

    def _take_built(self, message: Message) -> bool:
        user, mount, *held = outcome(message)[1]
        self._namespaces = self._stack.enter_context(entering.Namespaces(user, mount))
        for fd in held:
            self._stack.callback(os.close, fd)
        self._have("built")
        return True

    def _heed(self, words: str, fds: tuple[int, ...]) -> None:
        """Take one message of process 1's: text, by a process that shares its namespace with strangers."""
        kind, _, rest = words.partition(" ")
        serving = "serving" not in self._missing
        if kind == "listening" and not serving:
            entries = [word.split(":") for word in rest.split()]
            listening = [Listening(role, int(port), int(family)) for role, port, family in entries]
            self._egress.take(listening, fds)
            return
        if kind == "window" and self._window < 0 and len(fds) == 1 and not serving:
            self._window = fds[0]
            return
        for fd in fds:
            os.close(fd)
        if kind == "serving" and not serving:
            assert self._running is not None
            # The rest is said by a process that may be stopped, or say too much.
            self._running.channel.setblocking(False)
            self._have("serving")
        elif kind == "busy":
            self._idle_since = None
        elif kind == "idle":
            self._idle_since = time.monotonic()
        elif kind == "failed":
            raise SetupError(f"setting up the container failed: {rest.partition(' ')[2]}")

    def _have(self, what: str) -> None:
        """One thing less is missing; with the last one, whoever asked is told that commands are taken."""
        self._missing.discard(what)
        if self._missing or self._reply is None:
            return
        if self._changing.inside is None:
            assert self._namespaces is not None and self._window >= 0
            self._changing.inside = attach.Inside(self._namespaces, self._window)
            if directory.has_attached(self._place):
                self._missing.add("attached")
                self._changing.show(directory.read_attached(self._place), lambda: self._have("attached"))
                return
        reply, self._reply = self._reply, None
        with reply, suppress(OSError):
            say(reply, "serving")

    def _keep_time(self) -> None:
        now = time.monotonic()
        if self._deadline is not None and now >= self._deadline:
            self._deadline = None
            self.end()
        until = self._lingers_until()
        if until is not None and now >= until:
            self._idle_since = None
            self._tell_process1("leave")

    def _tell_process1(self, words: str) -> None:
        assert self._running is not None
        with suppress(OSError):
            say(self._running.channel, words)

    def _serve(self, client: socket.socket) -> None:
        try:
            message = hear(client)
        except BlockingIOError:
            return
        number = client.fileno()
        if message is None:
            del self._clients[number]
            client.close()
            return
        words, fds = message
        kind, _, rest = words.partition(" ")
        if kind == "wait":
            close_all(message)
            with suppress(OSError):
                say(client, "serving")
            return
        # One order for each connection.
        del self._clients[number]
        if kind == "stop":
            close_all(message)
            grace_s = float(rest)
            self._waiting.append(client)
            self._begin_end(grace_s)
        else:
            self._changing.take(Order(client, kind, rest, fds))

    def _begin_end(self, grace_s: float) -> None:
        """End the container: at once, or as soon as its processes did as SIGTERM asks."""
        if grace_s > 0:
            self._tell_process1("end")
            self._deadline = time.monotonic() + grace_s
        else:
            self.end()

    def _drop_secret(self) -> None:
        if self._secret >= 0:
            os.close(self._secret)
            self._secret = -1


def _answer_all(waiting: list[socket.socket]) -> None:
    for each in waiting:
        with suppress(OSError):
            say(each, "stopped")
        each.close()


def _unlock(lock: int) -> None:
    # A child that was just forked may have a copy.
    fcntl.flock(lock, fcntl.LOCK_UN)
    os.close(lock)


def _listen(folder: Folder, name: str) -> socket.socket:
    _unlink(folder, name)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
    listener.bind(folder.short(name))
    os.chmod(folder.short(name), 0o600)
    listener.listen(_BACKLOG)
    return listener


def _unlink(folder: Folder, *names: str) -> None:
    for name in names:
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=folder.fd)


def _is_readable(fd: int) -> bool:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(0))
