"""What a container is to be, and what it answers with. Plain values, no effects."""

import re
from typing import NamedTuple

from netpolicy.policy import Policy
from sandbox.spec import WORKSPACE, HostMount, RootFs

# Where the files to attach stand in a session, covered; see sandbox.setup.Setup.
WINDOW = "/mnt/session/.attached"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")


class Repository(NamedTuple):
    """A directory of the container's own, seen writable at ``target``. ``name``: see is_name."""

    name: str
    target: str


class ContainerSpec(NamedTuple):
    """One container, as it is kept beside its files.

    ``environment``: all variables that its commands get (see sandbox.spec.session_environment). ``held``: the
    directories of the package store that it stands on (see pkgcache.image.Image), which no prune removes while the
    container exists. ``mounts``: directories and files of the host. It trusts the host's certificates and the
    installation's authority, as they are when it starts.
    """

    root: RootFs
    policy: Policy
    environment: tuple[tuple[str, str], ...]
    workdir: str = WORKSPACE
    held: tuple[str, ...] = ()
    mounts: tuple[HostMount, ...] = ()
    repositories: tuple[Repository, ...] = ()


class Attachment(NamedTuple):
    """A file that is seen read-only at ``target`` of the session. ``name``: what the caller calls it."""

    name: str
    target: str


class Size(NamedTuple):
    """The window size of a terminal."""

    rows: int
    columns: int


class Ended(NamedTuple):
    """How a command ended. ``code``: as a shell gives it (128+n for signal n, 126 and 127 when it could not be run,
    with the reason in ``message``). ``max_rss_kib`` of the largest process that it waited for."""

    code: int
    signal: int = 0
    user_s: float = 0.0
    system_s: float = 0.0
    max_rss_kib: int = 0
    message: str = ""


class Completed(NamedTuple):
    """A command that ran to its end, or to its time limit. ``output``: what was kept of standard output and error
    (see Containers.run); ``omitted``: how many bytes of it were not."""

    ended: Ended
    output: bytes
    errors: bytes
    timed_out: bool
    omitted: int


class Change(NamedTuple):
    """What a session did to ``path``: A added, C changed, D deleted."""

    kind: str
    path: str


class Process(NamedTuple):
    """A process of a container: its id on the host and in the container, its command, seconds of processor time,
    bytes of memory (resident)."""

    host_pid: int
    pid: int
    parent: int
    command: str
    cpu_s: float
    rss: int


class Stats(NamedTuple):
    """``cpu_s``: processor time since the container was last started. ``memory``: proportional, in bytes.
    ``disk``: bytes of what the session wrote. ``sent`` and ``received``: bytes over the network, of finished
    connections, since it was created. Without processes, the first three are 0."""

    running: bool
    cpu_s: float
    memory: int
    processes: int
    disk: int
    sent: int
    received: int


class Output(NamedTuple):
    """A file in /mnt/session/outputs. ``path`` below it, ``size`` in bytes, ``modified_ns`` since the epoch.
    ``identity``: other content has another (device, inode, time of change)."""

    path: str
    size: int
    modified_ns: int
    identity: tuple[int, int, int]


def is_name(text: str) -> bool:
    """Whether ``text`` may name a container, a repository or an attachment: it becomes the name of a file."""
    return _NAME.fullmatch(text) is not None
