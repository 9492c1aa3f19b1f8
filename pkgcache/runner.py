"""How a build is run, said in types only: whoever calls this package brings the isolation.

A runner executes one job in a session of its own and returns when the command has ended. Inside, the
command is uid 0 with HOME=/root, works in /workspace, and has neither a terminal nor standard input.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple


class Endpoint(NamedTuple):
    """A server that a package manager talks to.

    `scheme` is "http" or "https"; `source` says where it was read: a file, or "built-in default".
    """

    manager: str
    scheme: str
    host: str
    port: int
    source: str


class Mount(NamedTuple):
    """The host's file or directory `source`, seen at the absolute path `target` inside. `private`: once it is sealed it
    is no longer there."""

    source: str
    target: str
    writable: bool = False
    private: bool = False


class Root(NamedTuple):
    """A root file system: `layers`, topmost first, over `base`; None is the machine's own /usr, /etc and /opt."""

    base: str | None
    layers: tuple[str, ...] = ()


class Job(NamedTuple):
    """One command, and the world that it sees.

    `scratch` is a directory of the caller's. The changes are found in `<scratch>/upper` afterwards, which is a
    valid layer, and a further job with the same scratch goes on from there. None: they are thrown away.
    `in_place`: the command writes to `root.base` itself. With neither `endpoints` nor `allowed_hosts` there is
    no network. A mount that is writable can be written by uid 0 inside, whoever made its source.
    `output` gets standard output and standard error, merged, in pieces of any size.
    `sealing` gets, before the command runs, a function that makes all mounts read-only for good while it runs, with
    what is mounted in them. It raises an exception when a process still writes to one; those before that are closed.
    """

    root: Root
    argv: tuple[str, ...]
    environment: Mapping[str, str] = MappingProxyType({})
    scratch: str | None = None
    in_place: bool = False
    endpoints: tuple[Endpoint, ...] = ()
    allowed_hosts: tuple[str, ...] = ()
    mounts: tuple[Mount, ...] = ()
    timeout_s: float | None = None
    output: Callable[[bytes], None] = lambda _: None
    sealing: Callable[[Callable[[], None]], None] | None = None


class Result(NamedTuple):
    """`exit_code` is as a shell reports it (128+n after signal n), 124 after the time limit.

    `denied` are the hosts that the network policy refused.
    """

    exit_code: int
    denied: tuple[str, ...] = ()


Runner = Callable[[Job], Result]
"""Raises an exception with `.hint` and `.exit_code` 125 when the isolation can't be set up."""

Inside = Callable[[str, Callable[[], str]], str]
"""Runs a function of ours in a process whose root directory is the given one and that has the session's ids; returns
what it returned (up to 32 KiB). Nothing but that directory and what was opened before can be reached there. Raises as a
Runner does."""

Remove = Callable[[str], None]
"""Removes a tree whose files may belong to other ids; a path that is not there is no error."""

AsOwner = Callable[[Callable[[], None]], None]
"""Does work in a process that may read what sessions made, and sees the ids that sessions see."""
