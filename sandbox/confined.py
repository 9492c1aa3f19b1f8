"""Work of this program's own on a tree that others filled, in a process that sees nothing but that tree.

No program of the tree runs, so this needs no session: a child with the session's ids, in namespaces of its own, whose
root directory is the tree. Links in the tree lead to the tree. What the work reads or writes elsewhere was opened
before.
"""

import os
import resource
import sys
from collections.abc import Callable
from importlib.machinery import BuiltinImporter, FrozenImporter

import prctl

from sandbox import syscalls as sys_
from sandbox.idmap import IdMap
from sandbox.removal import as_session_root

_NAMESPACES = sys_.CLONE_NEWNS | sys_.CLONE_NEWNET | sys_.CLONE_NEWIPC | sys_.CLONE_NEWUTS
# A page of text in a pipe that nobody reads until the work is done.
_LONGEST_ANSWER = 32768
# What a small file that unpacks to a huge header can take of the machine.
_MEMORY = 1 << 30


def inside(ids: IdMap, root: str, work: Callable[[], str]) -> str:
    """What ``work`` returns, run as the root of sessions with ``ids`` with the directory ``root`` as its /.

    Root's own ``root`` becomes the session's. The answer is cut at 32 KiB. SetupError carries what was raised.
    """
    folder = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    answer, tell = os.pipe2(os.O_CLOEXEC)
    try:
        if os.geteuid() == 0:
            os.fchown(folder, ids.root_uid, ids.root_gid)

        def confined() -> None:
            _confine(folder)
            os.write(tell, work().encode("utf-8", "backslashreplace")[:_LONGEST_ANSWER])

        as_session_root(ids, confined)
        os.close(tell)
        tell = -1
        with open(answer, "rb", closefd=False) as pipe:
            return pipe.read().decode("utf-8", "replace")
    finally:
        os.close(folder)
        os.close(answer)
        if tell >= 0:
            os.close(tell)


def _confine(folder: int) -> None:
    prctl.set_pdeathsig(9)
    sys_.unshare(_NAMESPACES)
    os.fchdir(folder)
    os.chroot(".")
    os.chdir("/")
    os.umask(0o022)
    prctl.set_no_new_privs(1)
    # From here on a module that Python looks for would be the tree's.
    sys.path.clear()
    sys.meta_path[:] = [BuiltinImporter, FrozenImporter]
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    limit = _MEMORY if most == resource.RLIM_INFINITY else min(_MEMORY, most)
    resource.setrlimit(resource.RLIMIT_AS, (limit, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
