"""Work on a container's files that only their owner may do: those of subordinate ids can be closed to everybody else.

Each chore takes the container's place and plain values, prepares with the caller's rights, and returns the work itself.
That runs in a process of its own, as the user 0 of the container's ids, follows no link of the container's, and gives a
plain value with descriptors.
"""

import errno
import os
import resource
from collections.abc import Callable
from typing import Any

from sandbox import launch
from sandbox.containers import changes, outputs, usage
from sandbox.containers.building import run_spec
from sandbox.containers.directory import Place, read_attached, read_spec
from sandbox.directory import layout
from sandbox.removal import remove_own

Work = Callable[[], tuple[Any, tuple[int, ...]]]
Chore = Callable[[Place, tuple[Any, ...]], Work]
# What a session that made millions of files can take of the machine by being looked at.
_MEMORY = 1 << 30


def bounded(work: Work) -> Work:
    """``work`` with a limit on the memory of its process; OSError when that is not enough."""

    def within() -> tuple[Any, tuple[int, ...]]:
        _, most = resource.getrlimit(resource.RLIMIT_AS)
        limit = _MEMORY if most == resource.RLIM_INFINITY else min(_MEMORY, most)
        resource.setrlimit(resource.RLIMIT_AS, (limit, most))
        try:
            return work()
        except MemoryError as error:
            raise OSError(errno.ENOMEM, "the container left more files than can be looked at") from error

    return within


def _remove(_place: Place, values: tuple[Any, ...]) -> Work:
    (path,) = values

    def work() -> tuple[Any, tuple[int, ...]]:
        remove_own(path)
        return None, ()

    return work


def _changes(place: Place, values: tuple[Any, ...]) -> Work:
    (limit,) = values
    session = run_spec(place, read_spec(place), os.environ)
    steps = launch.prepare(session, place.ids, place.data, layout(place.path)).plan.root
    view = changes.view(steps, tuple(each.target for each in read_attached(place)))

    def work() -> tuple[Any, tuple[int, ...]]:
        return [tuple(each) for each in changes.changes(f"{place.path}/upper", view, limit)], ()

    return bounded(work)


def _disk(place: Place, _values: tuple[Any, ...]) -> Work:
    def work() -> tuple[Any, tuple[int, ...]]:
        return usage.disk(*(f"{place.path}/{name}" for name in ("upper", "outputs", "repositories"))), ()

    return bounded(work)


def _outputs(place: Place, values: tuple[Any, ...]) -> Work:
    (limit,) = values

    def work() -> tuple[Any, tuple[int, ...]]:
        return [tuple(each) for each in outputs.listed(f"{place.path}/outputs", limit)], ()

    return bounded(work)


def _open_output(place: Place, values: tuple[Any, ...]) -> Work:
    (path,) = values

    def work() -> tuple[Any, tuple[int, ...]]:
        try:
            return None, (outputs.opened(f"{place.path}/outputs", path),)
        except FileNotFoundError:
            return None, ()

    return work


CHORES: dict[str, Chore] = {
    "changes": _changes,
    "disk": _disk,
    "open-output": _open_output,
    "outputs": _outputs,
    "remove": _remove,
}
