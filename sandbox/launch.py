"""Start a session: from its specification to a running process 1, with nothing left behind when that fails."""

import os
import select
import signal
import socket
from types import TracebackType
from typing import NamedTuple

from sandbox import channel as channel_
from sandbox import ground, hostview, idmap, seccomp
from sandbox import syscalls as sys_
from sandbox.directory import SessionDirectory
from sandbox.errors import HostError, InputError, SetupError
from sandbox.idmap import IdMap
from sandbox.operations import Operation
from sandbox.plan import HostTree, Layout, Plan, ground_steps, make_plan
from sandbox.process1 import Command, Setup, TerminalSettings, run
from sandbox.spec import RunSpec
from sandbox.stdio import Stdio

NAMESPACES = (
    sys_.CLONE_NEWUSER
    | sys_.CLONE_NEWNS
    | sys_.CLONE_NEWPID
    | sys_.CLONE_NEWNET
    | sys_.CLONE_NEWIPC
    | sys_.CLONE_NEWUTS
    | sys_.CLONE_NEWCGROUP
)
# tty is group 5 on every Debian; a single id has no such group.
_TTY_GROUP = 5


class Prepared(NamedTuple):
    """A plan, and the ground that it stands on: where, and its steps (none when a base is written in place)."""

    plan: Plan
    ground: str
    steps: tuple[Operation, ...]


def prepare(
    spec: RunSpec, ids: IdMap, data: str, layout: Layout, files: tuple[tuple[str, str], ...] = ()
) -> Prepared:
    """The plan of a session on this machine; makes nothing. ``layout.ground`` is filled in.

    InputError when a host directory can't be shown as asked.
    """
    host = hostview.read_host(spec.root.layers) if spec.root.base is None else None
    if spec.workspace is not None and not spec.workspace.writable:
        _check_workspace(spec.workspace.source, layout)
    steps = ground_steps(spec, host)
    path = ground.path_of(data, ids, steps)
    plan = make_plan(
        spec,
        layout._replace(ground=path),
        host=host,
        translate_ids=os.geteuid() == 0,
        tty_group=sum(extent.size for extent in ids.gids) > _TTY_GROUP,
        files=files,
    )
    return Prepared(plan, path, steps)


def _check_workspace(source: str, layout: Layout) -> None:
    inside = hostview.mounts_below(source, hostview.read_mounts())
    if inside:
        raise InputError(
            f"--workspace {source} has file systems mounted below it ({inside[0]}), which can't be copied on write",
            hint="name a directory without them, or use --workspace-rw",
        )
    if layout.upper.startswith(source.rstrip("/") + "/"):
        raise InputError(
            f"--workspace {source} contains sandboxsh's own data directory, where this session's changes go",
            hint="name a directory further down, or put the data elsewhere with --data",
        )


class Running:
    """A session's process 1, as its supervisor holds it. The ``with`` block ends it and everything in it."""

    def __init__(self, pid: int, channel: socket.socket) -> None:
        self.pid = pid
        self.channel = channel
        self.pidfd = os.pidfd_open(pid)

    def kill(self) -> None:
        """Kill process 1 and, with its namespace, all others; wait until they are gone."""
        if self.pid:
            try:
                signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)
            except ProcessLookupError:
                pass
            os.waitpid(self.pid, 0)
            self.pid = 0

    def ended(self) -> bool:
        """Whether process 1 is gone, its whole process-id namespace with it."""
        poll = select.poll()
        poll.register(self.pidfd, select.POLLIN)
        return bool(poll.poll(0))

    def __enter__(self) -> "Running":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        self.channel.close()
        os.close(self.pidfd)


def start(
    spec: RunSpec,
    ids: IdMap,
    directory: SessionDirectory,
    plan: Plan,
    *,
    filter_: bytes,
    stdio: Stdio,
    terminal: TerminalSettings | None,
) -> Running:
    """Start process 1, give it its ids and its host trees, and let it go on. It reports on its channel."""
    setup = Setup(
        plan=plan,
        root=directory.root,
        network=spec.network,
        listeners=spec.listeners,
        filter=filter_,
        drop_groups=ids.helper or os.geteuid() == 0,
        command=Command(spec.command, spec.environment, spec.workdir, stdio.inside),
        terminal=terminal,
    )
    ours, theirs = channel_.pair()
    try:
        pid = sys_.clone(NAMESPACES)
    except OSError as error:
        raise HostError(
            f"this machine refuses new namespaces: {error.strerror}",
            hint="sandboxctl doctor says why and prints the remedy",
        ) from error
    if pid == 0:
        run(setup, theirs)
    theirs.close()
    running = Running(pid, ours)
    try:
        idmap.write_maps(pid, ids)
        trees = _open_trees(plan.trees, pid)
        try:
            channel_.say(ours, "mapped", trees)
        finally:
            for tree in trees:
                os.close(tree)
    except OSError as error:
        running.__exit__(None, None, None)
        raise SetupError(f"process 1 of the session ended before it was set up: {error.strerror}") from error
    except BaseException:
        running.__exit__(None, None, None)
        raise
    return running


def _open_trees(wanted: tuple[HostTree, ...], pid: int) -> tuple[int, ...]:
    """Open host trees as root, their owners translated to the session's ids (idmapped mounts)."""
    if not wanted:
        return ()
    opened: list[int] = []
    userns = os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    try:
        for tree in wanted:
            flags = sys_.OPEN_TREE_CLONE | sys_.OPEN_TREE_CLOEXEC
            fd = sys_.open_tree(tree.source, flags | (sys_.AT_RECURSIVE if tree.recursive else 0))
            opened.append(fd)
            sys_.mount_setattr(
                fd, attributes=sys_.MOUNT_ATTR_IDMAP, recursive=tree.recursive, userns_fd=userns
            )
    except OSError as error:
        for fd in opened:
            os.close(fd)
        raise HostError(
            f"{tree.source} can't be shown in the session: {error.strerror}",
            hint="its file system must support id-mapped mounts (ext4, xfs, btrfs, tmpfs and others do)",
        ) from error
    finally:
        os.close(userns)
    return tuple(opened)


def load_filter(data: str, ids: IdMap) -> bytes:
    """The system call filter for sessions with these ids, kept in the data directory."""
    return seccomp.program(ids.mode == idmap.SINGLE, os.path.join(data, "seccomp"))
