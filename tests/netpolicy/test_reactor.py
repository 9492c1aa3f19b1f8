"""The event loop."""

from __future__ import annotations

import gc
import socket
import threading
import weakref

from netpolicy.reactor import READ, WRITE, Reactor
from tests.netpolicy.looping import settle, until


def test_handlers_get_the_events_they_await_and_no_others() -> None:
    ours, theirs = socket.socketpair()
    events: list[int] = []
    with ours, theirs, Reactor() as reactor:
        reactor.watch(ours.fileno(), READ, events.append)
        settle(reactor)
        assert events == []
        theirs.send(b"x")
        reactor.turn(1)
        assert events == [READ]
        reactor.change(ours.fileno(), WRITE)
        reactor.turn(1)
        assert events == [READ, WRITE]
        reactor.forget(ours.fileno())
        assert reactor.turn(0) == 0


def test_a_hang_up_that_nobody_awaits_does_not_spin_the_loop() -> None:
    ours, theirs = socket.socketpair()
    with ours, Reactor() as reactor:
        reactor.watch(ours.fileno(), 0, lambda _event: None)
        theirs.close()
        assert reactor.turn(0) == 0
        reactor.change(ours.fileno(), READ)
        assert reactor.turn(1) == 1
        reactor.change(ours.fileno(), 0)
        assert reactor.turn(0) == 0
        reactor.forget(ours.fileno())
        reactor.forget(ours.fileno())


def test_a_handler_forgotten_within_a_turn_is_not_called_in_it() -> None:
    with Reactor() as reactor:
        pairs = [socket.socketpair() for _ in range(2)]
        called: list[int] = []

        def handle(number: int) -> None:
            called.append(number)
            for ours, _ in pairs:
                reactor.forget(ours.fileno())

        for number, (ours, theirs) in enumerate(pairs):
            theirs.send(b"x")
            reactor.watch(ours.fileno(), READ, lambda _event, number=number: handle(number))  # type: ignore[misc]
        reactor.turn(1)
        assert len(called) == 1
        for pair in pairs:
            for end in pair:
                end.close()


def test_timers_come_in_order_and_cancelled_ones_never() -> None:
    came: list[str] = []
    with Reactor() as reactor:
        reactor.after(0.02, lambda: came.append("later"))
        reactor.after(0.01, lambda: came.append("soon"))
        reactor.after(0.0, lambda: came.append("never")).cancel()
        reactor.after(30, lambda: came.append("much later")).cancel()
        reactor.after(0.0, lambda: reactor.after(0.0, lambda: came.append("nested")) and None)
        until(reactor, lambda: len(came) == 3)
        assert came == ["nested", "soon", "later"]


def test_other_threads_hand_in_work_that_runs_here() -> None:
    ran: list[int] = []
    with Reactor() as reactor:
        here = threading.get_ident()

        def work() -> None:
            for _ in range(100):
                reactor.hand_in(lambda: ran.append(threading.get_ident()))

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        until(reactor, lambda: len(ran) == 400)
        for thread in threads:
            thread.join()
        assert set(ran) == {here}


def test_work_handed_in_after_the_end_is_dropped() -> None:
    with Reactor() as reactor:
        pass
    reactor.hand_in(lambda: None)


def test_what_was_cancelled_is_not_kept_until_it_would_be_due() -> None:
    """An hour's limit on each of a million short connections must not hold a million connections for an hour."""

    class Owner:
        pass

    called: list[int] = []
    with Reactor() as reactor:
        kept = [reactor.after(0.02, lambda number=number: called.append(number)) for number in range(3)]  # type: ignore[misc]
        owner = Owner()
        gone = weakref.ref(owner)
        reactor.run_as(owner, lambda: reactor.after(3600, called.clear).cancel())
        del owner
        gc.collect()
        assert gone() is None
        for _ in range(100_000):
            reactor.after(3600, called.clear).cancel()
        assert len(reactor._timers) < 3_000
        until(reactor, lambda: len(called) == len(kept))
    assert called == [0, 1, 2]


def test_many_timers_that_still_count_are_all_kept() -> None:
    called: list[int] = []
    with Reactor() as reactor:
        for number in range(5_000):
            reactor.after(0.0, lambda number=number: called.append(number))  # type: ignore[misc]
        until(reactor, lambda: len(called) == 5_000)
    assert called == sorted(called)
