"""Looks names up outside the session, in a few threads, because the C library's resolver only blocks."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from netpolicy.reactor import Reactor

if TYPE_CHECKING:
    from queue import SimpleQueue

THREADS = 4
FRESH = 1.0  # seconds for which an answer is used again; every use is vetted anew
MAX_FRESH = 256

Resolve = Callable[[str], Sequence[str]]
Answer = Callable[[Sequence[str] | OSError], None]


def host_resolve(host: str) -> list[str]:
    """The addresses of a name as the host sees it, in its order of preference; OSError if it has none."""
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return [str(each[4][0]) for each in found if each[0] in (socket.AF_INET, socket.AF_INET6)]


class Resolver:
    """Threads start when names are asked for, and end with `close` or the process.

    Callers that ask for a name that is being looked up share its answer.
    """

    def __init__(self, reactor: Reactor, resolve: Resolve) -> None:
        self._reactor = reactor
        self._resolve = resolve
        self._waiting: dict[str, list[Answer]] = {}
        self._fresh: dict[str, tuple[float, Sequence[str]]] = {}
        self._jobs: SimpleQueue[str | None] | None = None
        self._threads = 0

    def resolve(self, host: str, answer: Answer) -> None:
        """Call `answer` later, in the loop's thread, with addresses as text or the error."""
        answer = self._reactor.owned(answer)
        fresh = self._fresh.get(host)
        if fresh is not None and fresh[0] > self._reactor.now:
            addresses = fresh[1]
            self._reactor.after(0, lambda: answer(addresses))
        elif host in self._waiting:
            self._waiting[host].append(answer)
        else:
            self._waiting[host] = [answer]
            self._submit(host)

    def close(self) -> None:
        """Let every thread end when its present look-up does; waits for none."""
        if self._jobs is not None:
            for _ in range(self._threads):
                self._jobs.put(None)

    def _submit(self, host: str) -> None:
        import queue
        import threading

        if self._jobs is None:
            self._jobs = queue.SimpleQueue()
        if self._threads < min(THREADS, len(self._waiting)):
            self._threads += 1
            threading.Thread(target=self._work, args=(self._jobs,), name="resolver", daemon=True).start()
        self._jobs.put(host)

    def _work(self, jobs: SimpleQueue[str | None]) -> None:
        while (host := jobs.get()) is not None:
            result: Sequence[str] | OSError
            try:
                result = self._resolve(host)
            except OSError as error:
                result = error
            except UnicodeError as error:
                result = OSError(f"the host's resolver does not take the name ({error})")
            self._reactor.hand_in(lambda host=host, result=result: self._deliver(host, result))  # type: ignore[misc]

    def _deliver(self, host: str, result: Sequence[str] | OSError) -> None:
        self._fresh.pop(host, None)
        if not isinstance(result, OSError):
            if len(self._fresh) >= MAX_FRESH:
                del self._fresh[next(iter(self._fresh))]
            self._fresh[host] = (self._reactor.now + FRESH, result)
        for answer in self._waiting.pop(host):
            answer(result)
