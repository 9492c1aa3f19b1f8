"""What is changed of one container by children of whoever keeps it: orders are obeyed one after the other."""

import os
import socket
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import NamedTuple

from sandbox.channel import say
from sandbox.containers import attach, requests, wayout
from sandbox.containers.directory import Place
from sandbox.containers.jobs import Job
from sandbox.containers.spec import Attachment
from sandbox.errors import SetupError

Message = tuple[str, tuple[int, ...]] | None


class Order(NamedTuple):
    """What a client wants: ``kind`` is ``attach``, ``detach`` or ``credentials``. All descriptors are owned."""

    client: socket.socket
    kind: str
    rest: str
    fds: tuple[int, ...]


class Changing:
    """The children at work for a container, and what is to be done next. ``inside``: set once it runs."""

    def __init__(self, place: Place, environment: Mapping[str, str], egress: wayout.WayOut) -> None:
        self.inside: attach.Inside | None = None
        self.jobs: list[Job] = []
        self._place = place
        self._environment = environment
        self._egress = egress
        self._orders: deque[Order] = deque()
        self._order: Order | None = None
        self._ending = False

    def fds(self) -> list[int]:
        """Become readable when `turn` has something to do, in the order of ``jobs``."""
        return [fd for job in self.jobs for fd in job.fds()]

    def ready(self, readable: set[int]) -> list[Job]:
        """The children that have something to say."""
        return [job for job in self.jobs if readable.intersection(job.fds())]

    def turn(self, jobs: list[Job]) -> None:
        """Take what these children say. What goes wrong while an order is obeyed is told to whoever gave it; anything
        else is raised."""
        for job in jobs:
            job.turn()
        self.jobs = [job for job in self.jobs if job.fds()]

    def take(self, order: Order) -> None:
        """Obey it when those before it are done (see `obey`)."""
        self._orders.append(order)

    def obey(self) -> None:
        """Begin with the next order, if none is under way."""
        while self._orders and self._order is None and not self._ending:
            order = self._order = self._orders.popleft()
            name, _, target = order.rest.partition(" ")
            try:
                if order.kind == "credentials" and order.fds:
                    self.attach_credentials(order.fds[-1], self._done)
                elif order.kind == "attach":
                    self.show((Attachment(name, target),), self._done)
                elif order.kind == "detach":
                    self._take_away(Attachment(name, target))
                else:
                    self._answer("failed no such order")
            except OSError as error:
                self._answer(f"failed {error.strerror}")
            finally:
                for fd in order.fds:
                    os.close(fd)

    def begin(
        self, work: Callable[[socket.socket], None], keep: tuple[int, ...], then: Callable[[Message], bool]
    ) -> None:
        """Have a child do ``work``; see Job. ``then`` is not called any more once this is ending."""

        def guarded(message: Message) -> bool:
            if self._ending:
                close_all(message)
                return True
            try:
                return then(message)
            except Exception as error:
                if self._order is None:
                    raise
                requests.told(error)
                self._answer(f"failed {error}")
                return True

        self.jobs.append(Job(work, keep, guarded))

    def show(self, wanted: tuple[Attachment, ...], done: Callable[[], None]) -> None:
        """Show resources; see attach.attach."""
        assert self.inside is not None
        inside = self.inside

        def then(message: Message) -> bool:
            words, fds = outcome(message)
            if words == "done":
                done()
                return True
            inside.mounts[words.removeprefix("mounted ")] = fds[0]
            return False

        self.begin(lambda told: attach.show(inside, wanted, told), inside.fds(), then)

    def _take_away(self, wanted: Attachment) -> None:
        assert self.inside is not None
        inside = self.inside

        def then(message: Message) -> bool:
            outcome(message)
            fd = inside.mounts.pop(wanted.name, None)
            if fd is not None:
                os.close(fd)
            self._done()
            return True

        keep = (*inside.fds(), inside.mounts.get(wanted.name, 0))
        self.begin(lambda told: attach.take_away(inside, wanted, told), keep, then)

    def attach_credentials(self, given: int, done: Callable[[], None]) -> None:
        """Attach those in a file in memory (netpolicy.credentials.encode) and no others: a child makes what the proxy
        is to read, and another one tells the proxy, if it runs. This process reads neither."""

        def then(message: Message) -> bool:
            proxy = self._egress.take_keys(outcome(message)[1][0])
            if proxy is None:
                done()
            else:
                self._tell_proxy(*proxy, done)
            return True

        self.begin(lambda told: wayout.prepare(self._place, self._environment, given, told), (given,), then)

    def _tell_proxy(self, words: int, proxy: int, done: Callable[[], None]) -> None:
        keys = self._egress.keys

        def then(message: Message) -> bool:
            if message is None or message[0] != "told":
                self._egress.distrust(proxy)
            done()
            return True

        self.begin(lambda told: wayout.tell(words, keys, told), (words, keys), then)

    def _done(self) -> None:
        self._answer("done")

    def _answer(self, words: str) -> None:
        order, self._order = self._order, None
        if order is not None:
            with order.client, suppress(OSError):
                say(order.client, words)

    def end(self) -> None:
        """Let nothing go on. `gone` tells when the children are dead."""
        self._ending = True
        for job in self.jobs:
            job.kill()

    def gone(self, how: int = os.WNOHANG) -> bool:
        """Whether no child is left."""
        self.jobs = [job for job in self.jobs if not job.reap(how)]
        return not self.jobs

    def close(self) -> None:
        """Let go of everything. Who waits for an answer sees the connection end."""
        self.end()
        self.gone(0)
        for order in self._orders:
            order.client.close()
            for fd in order.fds:
                os.close(fd)
        if self._order is not None:
            self._order.client.close()
        if self.inside is not None:
            self.inside.close()


def outcome(message: Message) -> tuple[str, tuple[int, ...]]:
    """What a child said. SetupError when it died first; else the error that it told of."""
    if message is None:
        raise SetupError("a process that works for the container ended")
    if message[0].startswith("failed "):
        raise requests.raised(message[0])
    return message


def close_all(message: Message) -> None:
    """Close the descriptors of a message that is of no use."""
    for fd in message[1] if message is not None else ():
        os.close(fd)
