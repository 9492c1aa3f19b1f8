"""Puts a filter on the calling thread."""

from __future__ import annotations

import ctypes
import os

PR_SET_SECCOMP = 22
SECCOMP_MODE_FILTER = 2

_libc = ctypes.CDLL(None, use_errno=True)


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def install(program: bytes) -> None:
    """Filters every later system call of the calling thread and of its children, for good.

    `program` is an array of struct sock_filter. The thread needs no_new_privs, or CAP_SYS_ADMIN in
    its user namespace. Raises OSError: EINVAL when the kernel refuses the program, EACCES without
    that privilege.
    """
    array = _Program(len(program) // 8, program)
    if _libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(array), 0, 0) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"the system call filter can't be installed: {os.strerror(error)}")
