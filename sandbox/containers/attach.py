"""Change what a running container sees: show one of its resources at a path, and take it away again.

A forked child enters the container's user and mount namespaces and mounts there what stands in the window, the
directory that process 1 passed out before it covered it. Paths are looked up as the container's own root, so that its
code can at most lead a mount to another place of its own. What is to be taken away is named by its descriptor.
"""

import os
import resource
import socket
import stat
from contextlib import suppress

from sandbox import syscalls as sys_
from sandbox.channel import say
from sandbox.containers.spec import Attachment
from sandbox.entering import Namespaces, do, open_proc, unmount
from sandbox.errors import SetupError
from sandbox.inroot import Opened, make_file, open_in
from sandbox.operations import check_place


class Inside:
    """A container's namespaces, its window, and what is attached: by name, the descriptor of its mount."""

    def __init__(self, namespaces: Namespaces, window: int) -> None:
        self.namespaces = namespaces
        self.window = window
        self.mounts: dict[str, int] = {}

    def fds(self) -> tuple[int, int, int]:
        """What it takes to change something."""
        return self.namespaces.user, self.namespaces.mount, self.window

    def close(self) -> None:
        """Let go of everything."""
        for fd in (self.window, *self.mounts.values()):
            os.close(fd)
        self.mounts.clear()


def show(inside: Inside, wanted: tuple[Attachment, ...], told: socket.socket) -> None:
    """`attach` for another process's copy of ``inside``, by way of ``told``: ``mounted NAME`` with the descriptor, for
    each, and ``done``."""
    before = frozenset(inside.mounts)
    attach(inside, wanted)
    for name, fd in inside.mounts.items():
        if name not in before:
            say(told, f"mounted {name}", (fd,))
    say(told, "done")


def take_away(inside: Inside, attachment: Attachment, told: socket.socket) -> None:
    """`detach` for another process's copy of ``inside``; ``told`` gets ``done``."""
    detach(inside, attachment)
    say(told, "done")


def attach(inside: Inside, wanted: tuple[Attachment, ...]) -> None:
    """Show resources read-only at their targets, whose parents are made; those that are attached are passed over.

    SetupError names the first that can't be shown; those before it are.
    """
    new = [each for each in wanted if each.name not in inside.mounts]
    if not new:
        return
    # A descriptor for each.
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard and len(inside.mounts) + len(new) + 100 > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    works = [lambda each=each: _show(inside, each) for each in new]
    answers = do(inside.namespaces, works)
    for each, (words, fds) in zip(new, answers, strict=False):
        if words != "done":
            raise SetupError(f"{each.target} can't be shown in the session: {words}")
        inside.mounts[each.name] = fds[0]


def _show(inside: Inside, attachment: Attachment) -> int:
    flags = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
    with Opened(os.open(attachment.name, flags, dir_fd=inside.window)) as file:
        if not stat.S_ISREG(os.fstat(file.fd).st_mode):
            raise OSError(22, "it is no plain file")
        cloned = sys_.OPEN_TREE_CLONE | sys_.OPEN_TREE_CLOEXEC | sys_.AT_EMPTY_PATH
        tree = sys_.open_tree("", cloned, file.fd)
    attributes = sys_.MOUNT_ATTR_RDONLY | sys_.MOUNT_ATTR_NOSUID | sys_.MOUNT_ATTR_NODEV
    sys_.mount_setattr(tree, attributes=attributes, recursive=False)
    with make_file("/", attachment.target) as place:
        check_place("/", place.fd)
        sys_.move_mount(tree, place.fd)
    return tree


def detach(inside: Inside, attachment: Attachment) -> None:
    """Take a resource away, and the empty file at its target that it was mounted on. SetupError when that fails."""
    fd = inside.mounts.get(attachment.name)
    if fd is None:
        return

    def work() -> None:
        unmount(fd, proc)
        folder, _, last = attachment.target.rpartition("/")
        with suppress(OSError), Opened(open_in("/", folder or "/", os.O_PATH | os.O_DIRECTORY)) as parent:
            left = os.stat(last, dir_fd=parent.fd, follow_symlinks=False)
            if stat.S_ISREG(left.st_mode) and left.st_size == 0:
                os.unlink(last, dir_fd=parent.fd)

    proc = open_proc()
    try:
        ((words, _),) = do(inside.namespaces, [work])
    finally:
        os.close(proc)
    if words != "done":
        raise SetupError(f"{attachment.target} can't be taken away: {words}")
    os.close(inside.mounts.pop(attachment.name))
