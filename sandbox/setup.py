"""What the supervisor tells process 1, as values and as bytes.

The bytes are marshal's: plain tuples, numbers and strings, so that reading them runs no code.
"""

import marshal
from typing import NamedTuple

from sandbox import operations
from sandbox.operations import Operation

# As in a shell: found but not runnable, not found.
NOT_RUNNABLE, NOT_FOUND = 126, 127


class Command(NamedTuple):
    """What to run. ``stdio``: for 0, 1 and 2 the place of a descriptor among those that came with the set-up; None
    is the session's terminal. ``arguments`` is empty for a container, whose commands come later."""

    arguments: tuple[str, ...]
    environment: tuple[tuple[str, str], ...]
    workdir: str
    stdio: tuple[int | None, int | None, int | None]


class TerminalSettings(NamedTuple):
    """Attributes (tcgetattr(3)) and size (struct winsize) that the session's terminal starts with."""

    attributes: list[int | list[bytes | int]] | None
    size: bytes


class Setup(NamedTuple):
    """All that process 1 needs. ``root``: an empty directory of the host's that becomes the root's mount point.
    ``file_capabilities``: the session may give files capabilities. ``window``: a directory of the session whose
    descriptor is passed out and which is then covered; empty for none. ``first_tree``: where the plan's host trees
    begin among the descriptors that come with it."""

    steps: tuple[Operation, ...]
    root: str
    network: str
    listeners: tuple[tuple[str, int], ...]
    filter: bytes
    drop_groups: bool
    file_capabilities: bool
    window: str
    command: Command
    terminal: TerminalSettings | None
    first_tree: int


def encode(setup: Setup) -> bytes:
    """The set-up as bytes for `decode`."""
    steps = [(type(step).__name__, tuple(step)) for step in setup.steps]
    terminal = None if setup.terminal is None else tuple(setup.terminal)
    rest = setup[1:8]
    return marshal.dumps((steps, rest, tuple(setup.command), terminal, setup.first_tree))


def decode(data: bytes) -> Setup:
    """The set-up that `encode` was given."""
    steps, rest, command, terminal, first_tree = marshal.loads(data)  # noqa: S302
    made = tuple(getattr(operations, name)(*fields) for name, fields in steps)
    settings = None if terminal is None else TerminalSettings(*terminal)
    return Setup._make((made, *rest, Command(*command), settings, first_tree))
