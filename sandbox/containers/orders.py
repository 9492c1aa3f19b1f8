"""How commands are asked of a container's process 1, over one SOCK_SEQPACKET connection for each.

To process 1: ``exec`` (with the order in a file in memory, then the descriptors that it names), then ``signal N``.
From it: ``taken``, then ``terminal`` (with its master) where one was asked for, then ``started PID`` or
``unrunnable ERRNO WHERE`` (chdir or exec), and at last ``exited CODE SIGNAL UTIME STIME MAXRSS_KIB``. Who hangs up
before that has the command's process group killed.
"""

import marshal
import os
from typing import NamedTuple

from sandbox.setup import TerminalSettings


class Order(NamedTuple):
    """A command. ``environment`` adds to the container's; ``workdir`` None is the container's. ``places``: for 0, 1
    and 2 which of the descriptors that come with it; None is the terminal."""

    arguments: tuple[str, ...]
    environment: tuple[tuple[str, str], ...]
    workdir: str | None
    places: tuple[int | None, int | None, int | None]
    terminal: TerminalSettings | None


def encode(order: Order) -> bytes:
    """The order as bytes for `decode`: plain values, so that reading them runs no code."""
    return marshal.dumps((*order[:4], None if order.terminal is None else tuple(order.terminal)))


def decode(data: bytes) -> Order:
    """The order that `encode` was given."""
    arguments, environment, workdir, places, terminal = marshal.loads(data)  # noqa: S302
    settings = None if terminal is None else TerminalSettings(*terminal)
    return Order(arguments, environment, workdir, places, settings)


def in_memory(data: bytes) -> int:
    """A descriptor of a file in memory that holds ``data``, to be read from its beginning."""
    fd = os.memfd_create("order", os.MFD_CLOEXEC)
    try:
        with open(fd, "wb", closefd=False) as file:
            file.write(data)
        os.lseek(fd, 0, os.SEEK_SET)
    except BaseException:
        os.close(fd)
        raise
    return fd
