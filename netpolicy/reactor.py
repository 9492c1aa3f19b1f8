"""One thread's event loop: file descriptors, timers, and results that other threads hand in."""

from __future__ import annotations

import heapq
import os
import select
from _thread import allocate_lock
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from time import monotonic
from types import TracebackType
from typing import TypeVar

READ = select.EPOLLIN
WRITE = select.EPOLLOUT

_FEW_TIMERS = 1_024  # so many may be kept, cancelled or not; beyond that, as many cancelled ones as others

Handler = Callable[[int], None]
Callback = Callable[[], None]
Value = TypeVar("Value")


class Timer:
    """A callback that is still to come; `cancel` makes it never come."""

    __slots__ = ("callback", "owner")

    def __init__(self, callback: Callback, owner: object) -> None:
        self.callback: Callback | None = callback
        self.owner = owner

    def cancel(self) -> None:
        self.callback = None
        self.owner = None


class Reactor:
    """Calls handlers with the events that epoll reports. `now` is the monotonic time of the current turn.

    A handler must bear an event that is not there: within one turn a descriptor's number can change hands.

    Whatever is watched or awaited on behalf of an owner (see `run_as`) belongs to it as well. An exception out of
    an owner's callback ends that owner alone: nothing more is called for it, and `broken` is told. Without an owner
    it ends the loop.
    """

    def __init__(self, broken: Callable[[object, Exception], None] | None = None) -> None:
        self._broken = broken
        self._owner: object = None
        self._epoll = select.epoll()
        self._handlers: dict[int, tuple[Handler, object]] = {}
        self._interest: dict[int, int] = {}
        self._timers: list[tuple[float, int, Timer]] = []
        self._many_timers = _FEW_TIMERS
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
        self._handlers[fd] = handler, self._owner
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
        timer = Timer(callback, self._owner)
        self._order += 1
        heapq.heappush(self._timers, (self.now + seconds, self._order, timer))
        if len(self._timers) > self._many_timers:
            self._sweep_timers()
        return timer

    def _sweep_timers(self) -> None:
        """Drop what was cancelled: connections that come and go would leave theirs here until they are due."""
        self._timers[:] = [each for each in self._timers if each[2].callback is not None]
        heapq.heapify(self._timers)
        self._many_timers = max(_FEW_TIMERS, 2 * len(self._timers))

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
            found = self._handlers.get(fd)
            if found is None:
                continue
            handler, self._owner = found
            try:
                handler(event)
            except Exception as error:
                self._break(error)
        self._owner = None
        self._run_timers()
        return len(events)

    def run_as(self, owner: object, callback: Callback) -> None:
        """Call back on behalf of an owner, and of nobody else until it returns."""
        before, self._owner = self._owner, owner
        try:
            callback()
        except Exception as error:
            self._break(error)
        finally:
            self._owner = before

    def owned(self, callback: Callable[[Value], None]) -> Callable[[Value], None]:
        """The same callback, on behalf of the present owner whenever it is called."""
        owner = self._owner
        return lambda value: self.run_as(owner, lambda: callback(value))

    def disown(self, owner: object) -> None:
        """Call nothing more for an owner. Its descriptors stay open."""
        for fd in [fd for fd, (_, each) in self._handlers.items() if each is owner]:
            with suppress(OSError):
                self.forget(fd)
        for _, _, timer in self._timers:
            if timer.owner is owner:
                timer.cancel()

    def _break(self, error: Exception) -> None:
        owner = self._owner
        if owner is None or self._broken is None:
            raise error
        self.disown(owner)
        self._owner = None
        self._broken(owner, error)

    def _run_timers(self) -> None:
        timers = self._timers
        while timers and (timers[0][0] <= self.now or timers[0][2].callback is None):
            timer = heapq.heappop(timers)[2]
            if timer.callback is not None:
                self.run_as(timer.owner, timer.callback)

    def _empty_inbox(self, _event: int) -> None:
        os.eventfd_read(self._wake)
        while self._inbox:
            self._inbox.popleft()()
