"""What is done, step by step, to make a session's file system: each step can be printed and executed.

Steps run in process 1 of the session, as its user 0, before it enters the new root. ``root`` is the directory that
becomes ``/``; targets are absolute paths in the session and are looked up inside ``root`` only, so that no symbolic
link of a base or a layer leads outside.
"""

import errno
import os
import stat
from contextlib import ExitStack
from typing import NamedTuple

from sandbox import syscalls as sys_
from sandbox.inroot import Opened, make_directory, make_file, open_in

_FD = "/proc/self/fd"

# Mount trees that the supervisor opened and passed in; a plan names them by their place.
Trees = tuple[int, ...]


class Overlay(NamedTuple):
    """An overlay at ``target``: ``lowers`` topmost first, changes below ``upper`` at the same path.

    The kernel writes nothing of it to the disk on purpose (``volatile``): what a crash of the machine interrupts is
    thrown away, and who keeps the changes flushes them.
    """

    target: str
    lowers: tuple[str, ...]
    upper: str
    work: str

    def describe(self) -> str:
        return f"overlay {self.target}: {' over '.join(self.lowers)}"

    def execute(self, root: str, trees: Trees = ()) -> None:
        os.makedirs(self.work, mode=0o700, exist_ok=True)
        with ExitStack() as opened:
            # By descriptor, the session's /proc/self/mountinfo tells nothing of where things are on the host, and
            # many layers fit the page of options that mount(2) takes.
            lowers = ":".join(_descriptor(opened, lower) for lower in self.lowers)
            upper = opened.enter_context(make_directory(self.upper, self.target))
            work = _descriptor(opened, self.work)
            data = f"lowerdir={lowers},upperdir={_FD}/{upper.fd},workdir={work},userxattr,volatile"
            if self.target == "/":
                sys_.mount("overlay", root, "overlay", sys_.MS_NODEV, data)
            else:
                with make_directory(root, self.target) as target:
                    check_place(root, target.fd)
                    sys_.mount("overlay", f"{_FD}/{target.fd}", "overlay", sys_.MS_NODEV, data)


class InPlaceRoot(NamedTuple):
    """The base directory itself as the root, written directly: how a base is made."""

    base: str

    def describe(self) -> str:
        return f"root: {self.base} (written in place)"

    def execute(self, root: str, trees: Trees = ()) -> None:
        sys_.mount(self.base, root, None, sys_.MS_BIND)


class Attach(NamedTuple):
    """A tree that the supervisor opened, attached at the host's ``path`` for an overlay to find."""

    tree: int
    path: str
    source: str

    def describe(self) -> str:
        return f"open {self.source} with the session's ids"

    def execute(self, root: str, trees: Trees = ()) -> None:
        os.makedirs(self.path, mode=0o700, exist_ok=True)
        with Opened(os.open(self.path, os.O_PATH | os.O_CLOEXEC)) as target:
            sys_.move_mount(trees[self.tree], target.fd)


class Bind(NamedTuple):
    """``source`` of the host at ``target``, with what is mounted below it; devices and set-id programs are inert.

    ``tree``: the number of a tree that the supervisor opened (see Trees), instead of looking ``source`` up.
    """

    source: str
    target: str
    writable: bool
    tree: int | None = None

    def describe(self) -> str:
        return f"bind {self.target}: {self.source} ({'read-write' if self.writable else 'read-only'})"

    def execute(self, root: str, trees: Trees = ()) -> None:
        with Opened(_clone_tree(self.source) if self.tree is None else trees[self.tree]) as tree:
            attributes = sys_.MOUNT_ATTR_NOSUID | sys_.MOUNT_ATTR_NODEV
            if not self.writable:
                attributes |= sys_.MOUNT_ATTR_RDONLY
            sys_.mount_setattr(tree.fd, attributes=attributes, recursive=True)
            make = make_directory if _is_directory(tree.fd) else make_file
            with make(root, self.target) as target:
                check_place(root, target.fd)
                sys_.move_mount(tree.fd, target.fd)


class Tmpfs(NamedTuple):
    """An empty file system in memory at ``target``."""

    target: str
    options: str

    def describe(self) -> str:
        return f"tmpfs {self.target} ({self.options})"

    def execute(self, root: str, trees: Trees = ()) -> None:
        flags = sys_.MS_NOSUID | sys_.MS_NODEV
        _mount_at(root, self.target, "tmpfs", "tmpfs", flags, self.options)


class Proc(NamedTuple):
    """The session's own /proc."""

    def describe(self) -> str:
        return "proc /proc"

    def execute(self, root: str, trees: Trees = ()) -> None:
        _mount_at(root, "/proc", "proc", "proc", sys_.MS_NOSUID | sys_.MS_NODEV | sys_.MS_NOEXEC)


class Sys(NamedTuple):
    """/sys, read-only, of the session's own network namespace; absent where the kernel refuses to mount it anew."""

    def describe(self) -> str:
        return "sysfs /sys (read-only; absent where the host hides parts of its own)"

    def execute(self, root: str, trees: Trees = ()) -> None:
        flags = sys_.MS_NOSUID | sys_.MS_NODEV | sys_.MS_NOEXEC | sys_.MS_RDONLY
        try:
            _mount_at(root, "/sys", "sysfs", "sysfs", flags)
        except PermissionError:
            return


class Pts(NamedTuple):
    """The session's own pseudo-terminals at /dev/pts. ``tty_group``: group 5 exists in the session."""

    tty_group: bool

    def describe(self) -> str:
        return "devpts /dev/pts (a new instance)"

    def execute(self, root: str, trees: Trees = ()) -> None:
        group = ",gid=5" if self.tty_group else ""
        flags = sys_.MS_NOSUID | sys_.MS_NOEXEC
        _mount_at(root, "/dev/pts", "devpts", "devpts", flags, f"newinstance,ptmxmode=0666,mode=0620{group}")


class Device(NamedTuple):
    """The host's device node /dev/``name``, whose access is the kernel's and the same for everybody."""

    name: str

    def describe(self) -> str:
        return f"device /dev/{self.name}"

    def execute(self, root: str, trees: Trees = ()) -> None:
        with make_file(root, f"/dev/{self.name}") as target:
            path = f"{_FD}/{target.fd}"
            sys_.mount(f"/dev/{self.name}", path, None, sys_.MS_BIND)


class Masked(NamedTuple):
    """Nothing can be seen at ``target``, where it exists."""

    target: str

    def describe(self) -> str:
        return f"mask {self.target}"

    def execute(self, root: str, trees: Trees = ()) -> None:
        found = _open_existing(root, self.target)
        if found is None:
            return
        with found as target:
            path = f"{_FD}/{target.fd}"
            if _is_directory(target.fd):
                flags = sys_.MS_RDONLY | sys_.MS_NOSUID | sys_.MS_NODEV
                sys_.mount("tmpfs", path, "tmpfs", flags, "size=0")
            else:
                sys_.mount("/dev/null", path, None, sys_.MS_BIND)


class ReadOnly(NamedTuple):
    """``target``, where it exists, can be read and not written."""

    target: str

    def describe(self) -> str:
        return f"read-only {self.target}"

    def execute(self, root: str, trees: Trees = ()) -> None:
        found = _open_existing(root, self.target)
        if found is None:
            return
        with found as target, Opened(_clone_tree(f"{_FD}/{target.fd}")) as tree:
            sys_.mount_setattr(tree.fd, attributes=sys_.MOUNT_ATTR_RDONLY, recursive=True)
            sys_.move_mount(tree.fd, target.fd)


class Setting(NamedTuple):
    """A kernel setting of the session's own namespaces, below /proc/sys; ``optional`` where the kernel lacks it."""

    name: str
    value: str
    optional: bool = False

    def describe(self) -> str:
        return f"setting {self.name} = {self.value}"

    def execute(self, root: str, trees: Trees = ()) -> None:
        try:
            fd = open_in(root, f"/proc/sys/{self.name}", os.O_WRONLY)
        except FileNotFoundError:
            if self.optional:
                return
            raise
        try:
            os.write(fd, self.value.encode())
        finally:
            os.close(fd)


class Directory(NamedTuple):
    """A directory at ``target`` with ``mode``, and its parents."""

    target: str
    mode: int = 0o755

    def describe(self) -> str:
        return f"directory {self.target} ({self.mode:04o})"

    def execute(self, root: str, trees: Trees = ()) -> None:
        with make_directory(root, self.target, self.mode):
            pass


class Symlink(NamedTuple):
    """A symbolic link at ``target``, unless something stands there."""

    target: str
    points_to: str

    def describe(self) -> str:
        return f"symlink {self.target} → {self.points_to}"

    def execute(self, root: str, trees: Trees = ()) -> None:
        folder, name = self.target.rsplit("/", 1)
        with make_directory(root, folder or "/") as parent:
            try:
                os.symlink(self.points_to, name, dir_fd=parent.fd)
            except FileExistsError:
                return


class WriteFile(NamedTuple):
    """A file of the session's own at ``target``, in place of what stands there."""

    target: str
    content: bytes
    mode: int = 0o644

    def describe(self) -> str:
        return f"file {self.target} ({len(self.content)} bytes)"

    def execute(self, root: str, trees: Trees = ()) -> None:
        folder, name = self.target.rsplit("/", 1)
        with make_directory(root, folder or "/") as parent:
            try:
                os.unlink(name, dir_fd=parent.fd)
            except FileNotFoundError:
                pass
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            fd = os.open(name, flags, self.mode, dir_fd=parent.fd)
            with open(fd, "wb") as file:
                os.fchmod(fd, self.mode)
                file.write(self.content)


class JavaTrust(NamedTuple):
    """A store of certificates as Java reads it at ``target``, made of a ``bundle`` (PEM)."""

    target: str
    bundle: bytes

    def describe(self) -> str:
        return f"file {self.target} (certificates for Java)"

    def execute(self, root: str, trees: Trees = ()) -> None:
        from sandbox.javatrust import keystore

        WriteFile(self.target, keystore(self.bundle)).execute(root)


class Hidden(NamedTuple):
    """A whiteout at ``target`` of an upper directory: what the layers below have there is not seen."""

    target: str

    def describe(self) -> str:
        return f"hide {self.target}"

    def execute(self, root: str, trees: Trees = ()) -> None:
        folder, name = self.target.rsplit("/", 1)
        with make_directory(root, folder or "/") as parent:
            # Since Linux 5.8 anybody may make the character device 0:0, overlayfs's whiteout.
            try:
                os.mknod(name, 0o020000, 0, dir_fd=parent.fd)
            except FileExistsError:
                return


Operation = (
    Overlay
    | InPlaceRoot
    | Attach
    | Bind
    | Tmpfs
    | Proc
    | Sys
    | Pts
    | Device
    | Masked
    | ReadOnly
    | Setting
    | Directory
    | Symlink
    | WriteFile
    | JavaTrust
    | Hidden
)


def check_place(root: str, target: int) -> None:
    """OSError when a link leads what is mounted at the descriptor ``target`` to where nothing of a session's may stand:
    its root, or the kernel's own file systems, whose files process 1 reads and whose covers hide what they cover."""
    with Opened(os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)) as top:
        own, found = os.fstat(top.fd), os.fstat(target)
        kernels = set()
        for path in ("/dev", "/dev/pts", "/proc", "/sys"):
            try:
                with Opened(open_in(top.fd, path, os.O_PATH)) as place:
                    kernels.add(os.fstat(place.fd).st_dev)
            except OSError:
                continue
    if os.path.samestat(own, found) or found.st_dev in kernels - {own.st_dev}:
        raise OSError(errno.EBUSY, "a link leads to where nothing may be mounted")


def _mount_at(root: str, target: str, fstype: str, source: str, flags: int, data: str = "") -> None:
    with make_directory(root, target) as directory:
        sys_.mount(source, f"{_FD}/{directory.fd}", fstype, flags, data)


def _clone_tree(path: str) -> int:
    return sys_.open_tree(path, sys_.OPEN_TREE_CLONE | sys_.OPEN_TREE_CLOEXEC | sys_.AT_RECURSIVE)


def _is_directory(fd: int) -> bool:
    return stat.S_ISDIR(os.stat(fd).st_mode)


def _open_existing(root: str, target: str) -> Opened | None:
    try:
        return Opened(open_in(root, target, os.O_PATH))
    except FileNotFoundError:
        return None


def _descriptor(opened: ExitStack, path: str) -> str:
    flags = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
    return f"{_FD}/{opened.enter_context(Opened(os.open(path, flags))).fd}"
