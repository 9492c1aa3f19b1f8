"""Start a session: from its specification to a running process 1, with nothing left behind when that fails."""

import os
import signal
import socket
from collections.abc import Callable
from types import TracebackType
from typing import NamedTuple

from sandbox import channel as channel_
from sandbox import ground, hostview, idmap, javatrust, seccomp
from sandbox import syscalls as sys_
from sandbox.begin import Begun
from sandbox.errors import HostError, InputError, SetupError
from sandbox.idmap import IdMap
from sandbox.operations import Operation
from sandbox.plan import HostTree, Layout, Plan, ground_steps, make_plan
from sandbox.setup import Command, Setup, TerminalSettings, encode
from sandbox.spec import CALLER, RunSpec

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
        _check_workspace(spec.workspace.source, data)
    for option, source in _written_through(spec):
        from sandbox.given import holds

        if holds(source, data):
            raise InputError(
                f"{option} {source} contains sandboxsh's own data directory, which no session may write to",
                hint="name a directory further down, or put the data elsewhere with --data",
            )
    if spec.ca_bundle and not spec.root.in_place:
        spec = spec._replace(java_stores=javatrust.find(spec.root))
    steps = ground_steps(spec, host)
    path = ground.path_of(data, ids, steps)
    plan = make_plan(
        spec,
        layout._replace(ground=path),
        host=host,
        translate_ids=os.geteuid() == 0,
        tty_group=sum(extent.size for extent in ids.gids) > _TTY_GROUP,
        files=files,
        hidden=_own_data(spec, data),
    )
    return Prepared(plan, path, steps)


def _own_data(spec: RunSpec, data: str) -> tuple[str, ...]:
    """Where the session would see the data directory in what it is given to read: whoever reaches that speaks to other
    sessions' processes, for a socket needs no mount that can be written."""
    if not spec.mounts:
        return ()
    from sandbox.given import holds

    return tuple(
        os.path.normpath(
            f"{each.target}/{os.path.relpath(os.path.realpath(data), os.path.realpath(each.source))}"
        )
        for each in spec.mounts
        if each.owner == CALLER and not each.writable and holds(each.source, data)
    )


def _check_workspace(source: str, data: str) -> None:
    from sandbox.given import holds

    inside = hostview.mounts_below(source, hostview.read_mounts())
    if inside:
        raise InputError(
            f"--workspace {source} has file systems mounted below it ({inside[0]}), which can't be copied on write",
            hint="name a directory without them, or use --workspace-rw",
        )
    if holds(source, data):
        raise InputError(
            f"--workspace {source} contains sandboxsh's own data directory, where this session's changes go",
            hint="name a directory further down, or put the data elsewhere with --data",
        )


def _written_through(spec: RunSpec) -> list[tuple[str, str]]:
    """The host directories that the session may write to, each with the option that gave it."""
    given = [("--mount", each.source) for each in spec.mounts if each.writable and each.owner == CALLER]
    if spec.workspace is not None and spec.workspace.writable:
        given.append(("--workspace-rw", spec.workspace.source))
    return given


class Running:
    """A session's process 1, as its supervisor holds it. The ``with`` block ends it and everything in it."""

    def __init__(self, pid: int, channel: socket.socket, mapped: Callable[[], None] | None) -> None:
        self.pid = pid
        self.channel = channel
        self.pidfd = os.pidfd_open(pid)
        self._mapped = mapped

    def wait_for_ids(self) -> None:
        """Wait until process 1 has its ids; HostError when that was refused."""
        if self._mapped is not None:
            mapped, self._mapped = self._mapped, None
            mapped()

    def kill(self) -> None:
        """Kill process 1 and, with its namespace, all others; wait until they are gone."""
        if self.pid:
            try:
                signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)
            except ProcessLookupError:
                pass
            os.waitpid(self.pid, 0)
            self.pid = 0

    def __enter__(self) -> "Running":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            # While process 1 is there: the helper programs would complain that it is not.
            self.wait_for_ids()
        except HostError:
            # What ended the session is being raised already.
            pass
        self.kill()
        self.channel.close()
        os.close(self.pidfd)


def claim(begun: Begun, ids: IdMap) -> Running:
    """Take over the waiting process 1 and begin to give it its ids. HostError when the kernel refused to make it."""
    _check(begun)
    begun.give_ids(lambda pid: idmap.begin_maps(pid, ids))
    return taken(begun)


def taken(begun: Begun) -> Running:
    """As claim, without giving it ids."""
    _check(begun)
    pid, channel, mapped = begun.take()
    return Running(pid, socket.socket(fileno=channel), mapped)


def _check(begun: Begun) -> None:
    if begun.error is not None:
        raise HostError(
            f"this machine refuses new namespaces: {begun.error.strerror}",
            hint="sandboxctl doctor says why and prints the remedy",
        ) from begun.error


def set_up(
    running: Running,
    spec: RunSpec,
    ids: IdMap,
    root: str,
    plan: Plan,
    *,
    filter_: bytes,
    given: tuple[int, ...],
    places: tuple[int | None, int | None, int | None] = (None, None, None),
    terminal: TerminalSettings | None = None,
    window: str = "",
) -> None:
    """Send process 1 its host trees and its set-up. It reports on its channel how that went.

    ``root``: an empty directory, the root's mount point. ``given``: descriptors for the session, ``places`` those of
    the command's standard streams among them. ``window``: see sandbox.setup.Setup.
    """
    running.wait_for_ids()
    trees = _open_trees(plan.trees, running.pid)
    setup = Setup(
        steps=plan.root,
        root=root,
        network=spec.network,
        listeners=spec.listeners,
        filter=filter_,
        drop_groups=ids.helper or idmap.root_may_drop_groups(),
        file_capabilities=not _writes_as_root(spec),
        window=window,
        command=Command(spec.command, spec.environment, spec.workdir, places),
        terminal=terminal,
        first_tree=len(given),
    )
    try:
        with open(os.memfd_create("setup", os.MFD_CLOEXEC), "w+b") as file:
            file.write(encode(setup))
            file.flush()
            file.seek(0)
            channel_.say(running.channel, "setup", (file.fileno(), *given, *trees))
    except BrokenPipeError:
        # Process 1 has ended; its last word is on the channel.
        return
    except OSError as error:
        raise SetupError(f"the set-up can't be passed to the session: {error.strerror}") from error
    finally:
        for tree in trees:
            os.close(tree)


def _open_trees(wanted: tuple[HostTree, ...], pid: int) -> tuple[int, ...]:
    """Open host trees as root, the owners of some translated to the session's ids (idmapped mounts)."""
    if not wanted:
        return ()
    opened: list[int] = []
    userns = os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    try:
        for tree in wanted:
            flags = sys_.OPEN_TREE_CLONE | sys_.OPEN_TREE_CLOEXEC
            fd = sys_.open_tree(tree.source, flags | (sys_.AT_RECURSIVE if tree.recursive else 0))
            opened.append(fd)
            if tree.translated:
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


def load_filter(data: str, ids: IdMap, spec: RunSpec) -> bytes:
    """The system call filter for ``spec`` with these ids, kept in the data directory."""
    return seccomp.program(
        ids.mode == idmap.SINGLE, os.path.join(data, "seccomp"), refuse_set_id=_writes_as_root(spec)
    )


def _writes_as_root(spec: RunSpec) -> bool:
    """Whether files that the session writes are root's on the host, where they could carry root's rights to others."""
    return os.geteuid() == 0 and spec.writes_for_caller
