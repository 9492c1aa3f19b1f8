"""Signals are collected for as long as a session runs, and are the caller's again afterwards."""

import os
import signal

from sandbox.caught import PASSED_ON, Signals


def test_signals_are_collected_in_their_order() -> None:
    with Signals() as signals:
        assert signals.take() == []
        for number in (signal.SIGTERM, signal.SIGWINCH, signal.SIGINT):
            os.kill(os.getpid(), number)
            assert signals.take() == [number]


def test_everything_that_is_passed_on_is_caught() -> None:
    with Signals() as signals:
        for number in PASSED_ON:
            os.kill(os.getpid(), number)
        assert sorted(signals.take()) == sorted(PASSED_ON)


def test_the_callers_handlers_come_back() -> None:
    heard: list[int] = []
    before = signal.signal(signal.SIGUSR1, lambda number, _: heard.append(number))
    try:
        with Signals():
            os.kill(os.getpid(), signal.SIGUSR1)
        assert heard == []
        os.kill(os.getpid(), signal.SIGUSR1)
        assert heard == [signal.SIGUSR1]
    finally:
        signal.signal(signal.SIGUSR1, before)
