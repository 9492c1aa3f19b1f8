"""One thread's event loop: file descriptors, timers, and results that other threads hand in."""

from __future__ import annotations

import heapq
import os
import select
from _thread import allocate_lock
from collections import deque
from collections.abc import Callable
from time import monotonic
from types import TracebackType

READ = select.EPOLLIN
WRITE = select.EPOLLOUT

Handler = Callable[[int], None]
Callback = Callable[[], None]


class Timer:
    """A callback that is still to come; `cancel` makes it never come."""

    __slots__ = ("callback",)

    def __init__(self, callback: Callback) -> None:
        self.callback: Callback | None = callback

    def cancel(self) -> None:
        self.callback = None


class Reactor:
    """Calls handlers with the events that epoll reports. `now` is the monotonic time of the current turn.

    A handler must bear an event that is not there: within one turn a descriptor's number can change hands.
    """

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._handlers: dict[int, Handler] = {}
        self._interest: dict[int, int] = {}
        self._timers: list[tuple[float, int, Timer]] = []
        self._order = 0
        self._inbox: deque[Callback] = deque()
        # Held by whoever writes to the descriptor, so that it is never closed, and its number reused, meanwhile.
        self._lock = allocate_lock()
        self._open = True
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.now = monotonic()
        self.watch(self._wake, READ, self._empty_inbox)

    def __enter__(self) -> Reactor:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._open = False
        self._epoll.close()
        os.close(self._wake)

    def watch(self, fd: int, events: int, handler: Handler) -> None:
        self._handlers[fd] = handler
        self._interest[fd] = 0
        self.change(fd, events)

    def change(self, fd: int, events: int) -> None:
        """Set what is awaited. Nothing at all means out of epoll, which else reports hang-ups without end."""
        before = self._interest[fd]
        if events == before:
            return
        self._interest[fd] = events
        if not before:
            self._epoll.register(fd, events)
        elif events:
            self._epoll.modify(fd, events)
        else:
            self._epoll.unregister(fd)

    def forget(self, fd: int) -> None:
        """Stop watching; call it before the descriptor is closed."""
        if self._handlers.pop(fd, None) is not None and self._interest.pop(fd):
            self._epoll.unregister(fd)

    def after(self, seconds: float, callback: Callback) -> Timer:
        timer = Timer(callback)
        self._order += 1
        heapq.heappush(self._timers, (self.now + seconds, self._order, timer))
        return timer

    def hand_in(self, callback: Callback) -> None:
        """From any thread: run `callback` in this loop's thread; never, once the loop has ended."""
        with self._lock:
            if self._open:
                self._inbox.append(callback)
                os.eventfd_write(self._wake, 1)

    def turn(self, longest: float | None = None) -> int:
        """Wait for events, at most `longest` seconds, and handle them; returns how many there were."""
        wait = longest
        if self._timers:
            due = max(0.0, self._timers[0][0] - monotonic())
            wait = due if wait is None else min(wait, due)
        events = self._epoll.poll(-1 if wait is None else wait)
        self.now = monotonic()
        for fd, event in events:
            handler = self._handlers.get(fd)
            if handler is not None:
                handler(event)
        self._run_timers()
        return len(events)

    def _run_timers(self) -> None:
        timers = self._timers
        while timers and (timers[0][0] <= self.now or timers[0][2].callback is None):
            callback = heapq.heappop(timers)[2].callback
            if callback is not None:
                callback()

    def _empty_inbox(self, _event: int) -> None:
        os.eventfd_read(self._wake)
        while self._inbox:
            self._inbox.popleft()()
