"""Looking up names in threads."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import pytest

from netpolicy.reactor import Reactor
from netpolicy.resolver import FRESH, THREADS, Resolver, host_resolve
from tests.netpolicy.looping import until


def test_the_host_s_own_resolver_gives_addresses_as_text() -> None:
    assert set(host_resolve("localhost")) & {"127.0.0.1", "::1"}


def test_an_answer_comes_in_the_loop_s_thread_and_stays_fresh_for_a_moment() -> None:
    asked: list[str] = []
    answers: list[tuple[object, int]] = []

    def resolve(host: str) -> list[str]:
        asked.append(host)
        return ["203.0.113.1"]

    with Reactor() as reactor:
        resolver = Resolver(reactor, resolve)
        for count in (1, 2):
            resolver.resolve("a.test", lambda answer: answers.append((answer, threading.get_ident())))
            until(reactor, lambda count=count: len(answers) == count)  # type: ignore[misc]
        assert answers == [(["203.0.113.1"], threading.get_ident())] * 2
        assert asked == ["a.test"]
        end = reactor.now + FRESH
        reactor.after(FRESH, lambda: None)
        until(reactor, lambda: reactor.now >= end)
        resolver.resolve("a.test", lambda answer: answers.append((answer, 0)))
        until(reactor, lambda: len(answers) == 3)
        assert len(asked) == 2
        resolver.close()


def test_who_asks_while_a_name_is_looked_up_shares_the_answer() -> None:
    gate = threading.Event()
    asked: list[str] = []
    answers: list[Sequence[str] | OSError] = []

    def resolve(host: str) -> list[str]:
        asked.append(host)
        gate.wait(10)
        return ["203.0.113.1"]

    with Reactor() as reactor:
        resolver = Resolver(reactor, resolve)
        for _ in range(5):
            resolver.resolve("a.test", answers.append)
        gate.set()
        until(reactor, lambda: len(answers) == 5)
        assert asked == ["a.test"]
        resolver.close()


def test_slow_names_do_not_hold_up_others_within_the_number_of_threads() -> None:
    gate = threading.Event()
    answers: list[Sequence[str] | OSError] = []

    def resolve(host: str) -> list[str]:
        if host.startswith("slow"):
            gate.wait(10)
        return [host]

    with Reactor() as reactor:
        resolver = Resolver(reactor, resolve)
        for number in range(THREADS - 1):
            resolver.resolve(f"slow{number}.test", answers.append)
        resolver.resolve("fast.test", answers.append)
        until(reactor, lambda: answers)
        assert answers == [["fast.test"]]
        gate.set()
        until(reactor, lambda: len(answers) == THREADS)
        resolver.close()


@pytest.mark.parametrize("error", [OSError("gone"), UnicodeError("label too long")])
def test_a_failure_is_an_answer_and_is_not_kept(error: Exception) -> None:
    answers: list[Sequence[str] | OSError] = []
    results: list[Exception | list[str]] = [error, ["203.0.113.1"]]

    def resolve(_host: str) -> list[str]:
        result = results.pop(0)
        if isinstance(result, Exception):
            raise result
        return result

    with Reactor() as reactor:
        resolver = Resolver(reactor, resolve)
        for count in (1, 2):
            resolver.resolve("a.test", answers.append)
            until(reactor, lambda count=count: len(answers) == count)  # type: ignore[misc]
        assert isinstance(answers[0], OSError)
        assert answers[1] == ["203.0.113.1"]
        resolver.close()


def test_closing_ends_the_threads() -> None:
    before = {thread.ident for thread in threading.enumerate()}
    answers: list[Sequence[str] | OSError] = []
    with Reactor() as reactor:
        resolver = Resolver(reactor, lambda host: [host])
        resolver.resolve("a.test", answers.append)
        until(reactor, lambda: answers)
        ours = [thread for thread in threading.enumerate() if thread.ident not in before]
        assert len(ours) == 1
        resolver.close()
        ours[0].join(10)
        assert not ours[0].is_alive()
