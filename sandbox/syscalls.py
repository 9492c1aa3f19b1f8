"""System calls that the standard library of Python 3.11 lacks, under the kernel's own names.

Each wrapper translates errno to OSError and nothing else. Numbers above 423 are the same on every architecture.
"""

import ctypes
import os

CLONE_PARENT = 0x00008000
CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

MS_RDONLY = 0x1
MS_NOSUID = 0x2
MS_NODEV = 0x4
MS_NOEXEC = 0x8
MS_REMOUNT = 0x20
MS_BIND = 0x1000
MS_REC = 0x4000
MS_PRIVATE = 0x40000
MNT_DETACH = 0x2

MOUNT_ATTR_RDONLY = 0x1
MOUNT_ATTR_NOSUID = 0x2
MOUNT_ATTR_NODEV = 0x4
MOUNT_ATTR_NOEXEC = 0x8
MOUNT_ATTR_IDMAP = 0x100000

AT_FDCWD = -100
AT_EMPTY_PATH = 0x1000
AT_RECURSIVE = 0x8000
OPEN_TREE_CLONE = 0x1
OPEN_TREE_CLOEXEC = os.O_CLOEXEC
MOVE_MOUNT_F_EMPTY_PATH = 0x4
MOVE_MOUNT_T_EMPTY_PATH = 0x40

RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_NO_SYMLINKS = 0x04
RESOLVE_BENEATH = 0x08
RESOLVE_IN_ROOT = 0x10

_CLONE = {"x86_64": 56, "aarch64": 220, "riscv64": 220}
_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41, "riscv64": 41}
_OPEN_TREE, _MOVE_MOUNT, _OPENAT2, _MOUNT_SETATTR = 428, 429, 437, 442

_PR_CAPBSET_READ = 23

_libc = ctypes.CDLL(None, use_errno=True)
# PyDLL keeps the interpreter lock over the call, as os.fork() does.
_libc_locked = ctypes.PyDLL(None, use_errno=True)


class _OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


class _MountAttr(ctypes.Structure):
    _fields_ = (
        ("attr_set", ctypes.c_uint64),
        ("attr_clr", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("userns_fd", ctypes.c_uint64),
    )


def _checked(result: int, name: str) -> int:
    if result < 0:
        errno = ctypes.get_errno()
        raise OSError(errno, f"{name}: {os.strerror(errno)}")
    return result


def _syscall(name: str, number: int, *arguments: object) -> int:
    return _checked(_libc.syscall(ctypes.c_long(number), *arguments), name)


def clone(namespaces: int) -> int:
    """Fork into new ``namespaces`` (CLONE_NEW… flags): 0 in the child, its process id in the parent.

    The calling process must have one thread only. One clone(2) makes the child process 1 of its process-id
    namespace and a direct child of the caller, which unshare(2) and a second fork can't give.
    """
    number = _CLONE[os.uname().machine]
    sigchld = 17
    api = ctypes.pythonapi
    api.PyOS_BeforeFork()
    pid: int = _libc_locked.syscall(
        ctypes.c_long(number), ctypes.c_ulong(namespaces | sigchld), None, None, None, None
    )
    if pid == 0:
        api.PyOS_AfterFork_Child()
        return 0
    api.PyOS_AfterFork_Parent()
    return _checked(pid, "clone")


def tee(source: int, target: int, length: int, flags: int) -> int:
    """Copy from one pipe to another without taking anything out of the first; how much, 0 at its end."""
    return _checked(
        _libc.tee(ctypes.c_int(source), ctypes.c_int(target), ctypes.c_size_t(length), ctypes.c_uint(flags)),
        "tee",
    )


def last_capability() -> int:
    """The highest capability that the kernel knows. It is asked itself: what stands at /proc may be a session's."""
    number = 0
    while _libc.prctl(_PR_CAPBSET_READ, ctypes.c_ulong(number), 0, 0, 0) >= 0:
        number += 1
    return number - 1


def unshare(flags: int) -> None:
    _checked(_libc.unshare(ctypes.c_int(flags)), "unshare")


def setns(fd: int, flags: int) -> None:
    _checked(_libc.setns(ctypes.c_int(fd), ctypes.c_int(flags)), "setns")


def mount(source: str, target: str, fstype: str | None, flags: int, data: str = "") -> None:
    _checked(
        _libc.mount(
            os.fsencode(source),
            os.fsencode(target),
            fstype.encode() if fstype else None,
            ctypes.c_ulong(flags),
            os.fsencode(data) if data else None,
        ),
        "mount",
    )


def umount2(target: str, flags: int) -> None:
    _checked(_libc.umount2(os.fsencode(target), ctypes.c_int(flags)), "umount2")


def pivot_root(new_root: str, put_old: str) -> None:
    _syscall("pivot_root", _PIVOT_ROOT[os.uname().machine], os.fsencode(new_root), os.fsencode(put_old))


def openat2(dirfd: int, path: str, flags: int, *, mode: int = 0, resolve: int = 0) -> int:
    how = _OpenHow(flags | os.O_CLOEXEC, mode, resolve)
    return _syscall(
        "openat2",
        _OPENAT2,
        ctypes.c_int(dirfd),
        os.fsencode(path),
        ctypes.byref(how),
        ctypes.c_size_t(ctypes.sizeof(how)),
    )


def open_tree(path: str, flags: int, dirfd: int = AT_FDCWD) -> int:
    return _syscall("open_tree", _OPEN_TREE, ctypes.c_int(dirfd), os.fsencode(path), ctypes.c_uint(flags))


def move_mount(from_fd: int, to_fd: int) -> None:
    flags = MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH
    _syscall(
        "move_mount",
        _MOVE_MOUNT,
        ctypes.c_int(from_fd),
        b"",
        ctypes.c_int(to_fd),
        b"",
        ctypes.c_uint(flags),
    )


def mount_setattr(fd: int, *, attributes: int, recursive: bool, userns_fd: int = 0) -> None:
    """Set mount attributes on the mount that ``fd`` refers to, and on those below it when ``recursive``."""
    attr = _MountAttr(attributes, 0, 0, userns_fd)
    _syscall(
        "mount_setattr",
        _MOUNT_SETATTR,
        ctypes.c_int(fd),
        b"",
        ctypes.c_uint(AT_EMPTY_PATH | (AT_RECURSIVE if recursive else 0)),
        ctypes.byref(attr),
        ctypes.c_size_t(ctypes.sizeof(attr)),
    )
