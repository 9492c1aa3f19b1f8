"""Work of this program's own in the namespaces of a session that runs.

A forked child enters its user and mount namespaces. Paths are looked up as the session's own root there, so that its
code can at most lead the work to another place of its own.
"""

import os
import socket
from collections.abc import Callable, Sequence
from types import TracebackType

from sandbox import restrict
from sandbox import syscalls as sys_
from sandbox.channel import hear, say


class Namespaces:
    """The user and mount namespace of process 1, as descriptors."""

    def __init__(self, user: int, mount: int) -> None:
        self.user = user
        self.mount = mount

    def __enter__(self) -> "Namespaces":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self.user)
        os.close(self.mount)


def open_namespaces(pid: int) -> Namespaces:
    """Those of the process ``pid``, which has to let others look."""
    flags = os.O_RDONLY | os.O_CLOEXEC
    return Namespaces(os.open(f"/proc/{pid}/ns/user", flags), os.open(f"/proc/{pid}/ns/mnt", flags))


def open_proc() -> int:
    """The host's /proc, for `unmount`."""
    return os.open("/proc", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def unmount(mount: int, proc: int) -> None:
    """Take away the mount at a descriptor. The host's ``proc`` knows this process; the session's doesn't."""
    os.fchdir(proc)
    sys_.umount2(f"self/fd/{mount}", sys_.MNT_DETACH)


Work = Callable[[], int | None]


def do(namespaces: Namespaces, works: Sequence[Work]) -> list[tuple[str, tuple[int, ...]]]:
    """Do ``works`` in the namespaces, as their user 0 with every capability there, up to the first that fails: for each
    ``done``, with the descriptor that it returned, or why not. The calling process may have many threads."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        _be_inside(namespaces, works, theirs)
    theirs.close()
    answers: list[tuple[str, tuple[int, ...]]] = []
    with ours:
        while (answer := hear(ours)) is not None:
            answers.append(answer)
    os.waitpid(pid, 0)
    if len(answers) < len(works) and (not answers or answers[-1][0] == "done"):
        answers.append(("a helper process ended", ()))
    return answers


def _be_inside(namespaces: Namespaces, works: Sequence[Work], told: socket.socket) -> None:
    try:
        restrict.forbid_inspection()
        sys_.setns(namespaces.user, sys_.CLONE_NEWUSER)
        os.setresgid(0, 0, 0)
        os.setresuid(0, 0, 0)
        restrict.forbid_inspection()
        restrict.load_nothing()
        restrict.die_with_parent()
        sys_.setns(namespaces.mount, sys_.CLONE_NEWNS)
        os.umask(0o022)
        for work in works:
            fd = work()
            say(told, "done", () if fd is None else (fd,))
            if fd is not None:
                os.close(fd)
    except OSError as error:
        say(told, f"{error.strerror or error}")
    except Exception as error:  # told to the parent, which raises it
        say(told, f"{type(error).__name__}: {error}")
    finally:
        os._exit(0)
