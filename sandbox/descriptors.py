"""Close what a forked copy of the supervisor must not hold."""

import os
import resource
from collections.abc import Iterable


def close_all_but(keep: Iterable[int]) -> None:
    """Close every descriptor of this process that is not in ``keep``."""
    start = 0
    for fd in sorted(set(keep)):
        # os.closerange(n, n) of Python 3.11 is not empty: for 0 it closes everything.
        if fd > start:
            os.closerange(start, fd)
        start = fd + 1
    end = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if end > start:
        os.closerange(start, end)


def hold_standard_streams() -> None:
    """Open /dev/null where 0, 1 or 2 is closed: what is opened later must not be taken for a standard stream."""
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
