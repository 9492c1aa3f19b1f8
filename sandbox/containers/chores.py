"""Work on a container's files that only their owner may do: those of subordinate ids can be closed to everybody else.

Each chore takes the container's place and plain values and gives a plain value, with descriptors. It runs in a process
of its own, as the user 0 of the container's ids, and follows no link of the container's.
"""

from collections.abc import Callable
from typing import Any

from sandbox.containers.directory import Place
from sandbox.removal import remove_own

Chore = Callable[[Place, tuple[Any, ...]], tuple[Any, tuple[int, ...]]]


def _remove(_place: Place, values: tuple[Any, ...]) -> tuple[Any, tuple[int, ...]]:
    (path,) = values
    remove_own(path)
    return None, ()


CHORES: dict[str, Chore] = {"remove": _remove}
