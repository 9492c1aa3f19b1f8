"""Runs contenders by turns, so that what disturbs the machine disturbs all of them alike."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from benchmark.figures import Series


class Failed(Exception):
    """A contender could not run; the text says why."""


class Contender(NamedTuple):
    """``run`` gives one sample for each name in ``names``. Without ``run``, ``skipped`` says why.

    ``ours``: what this project is measured by, whose failure is the benchmark's own.
    """

    names: tuple[str, ...]
    run: Callable[[], tuple[float, ...]] | None
    skipped: str = ""
    ours: bool = False


def measure(
    contenders: Sequence[Contender], rounds: int, warm_up: int, told: Callable[[str], None]
) -> list[Series]:
    """``rounds`` samples of each, in turns whose order alternates, after ``warm_up`` that don't count.

    Raises Failed when one of ours can't run. A peer that can't is left out, with its reason.
    """
    samples: dict[str, list[float]] = {name: [] for each in contenders for name in each.names}
    skipped = {name: each.skipped for each in contenders for name in each.names}
    left = [each for each in contenders if each.run is not None]
    for turn in range(-warm_up, rounds):
        told(f"round {max(turn + 1, 0)} of {rounds}")
        for each in list(left if turn % 2 else reversed(left)):
            assert each.run is not None
            try:
                found = each.run()
            except Failed as failure:
                if each.ours:
                    raise
                left.remove(each)
                for name in each.names:
                    samples[name], skipped[name] = [], str(failure)
                continue
            if turn >= 0:
                for name, value in zip(each.names, found, strict=True):
                    samples[name].append(value)
    return [
        Series(name, tuple(samples[name]), "" if samples[name] else skipped[name])
        for each in contenders
        for name in each.names
    ]
