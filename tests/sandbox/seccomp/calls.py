"""Calls made for real under a filter, natively and as 32-bit programs make them.

Each body runs in a child that is root of its own user namespace. Two ways tell the filter's refusal from
the kernel's: an unfiltered twin in which the call succeeds, or a marked program whose every error number
is MARK higher, which no kernel returns.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import json
import mmap
import os
import platform
import struct
import sys
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sandbox import seccomp
from sandbox.seccomp import policy
from sandbox.seccomp.build import TOKENS, build, known_calls

MARK = 1000
# User, mount, network, ipc, uts, cgroup. Without an init, a process namespace could fork only once.
NAMESPACES = 0x5E020000
KNOWN = known_calls(TOKENS["x86_64"][0])
KNOWN_32 = known_calls(TOKENS["x86_64"][1])
X32_BIT = 0x40000000

libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long

# int 0x80 with (number, five arguments), for a caller by the System V convention of x86-64.
INT_80 = bytes.fromhex(
    "5355"  # push rbx; push rbp
    "89f8"  # mov eax, edi
    "89f3"  # mov ebx, esi
    "87d1"  # xchg ecx, edx
    "4489c6"  # mov esi, r8d
    "4489cf"  # mov edi, r9d
    "31ed"  # xor ebp, ebp
    "cd80"  # int 0x80
    "4898"  # cdqe
    "5d5bc3"  # pop rbp; pop rbx; ret
)

Call = Callable[..., int]


@functools.cache
def low_memory() -> int:
    """The address of a page that 32-bit calls can reach."""
    libc.mmap.restype = ctypes.c_void_p
    map_32bit = 0x40
    address = libc.mmap(
        None,
        ctypes.c_size_t(4096),
        mmap.PROT_READ | mmap.PROT_WRITE,
        mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | map_32bit,
        -1,
        ctypes.c_long(0),
    )
    assert 0 < address < 1 << 32
    return int(address)


def low(*parts: bytes) -> tuple[int, ...]:
    """The addresses of copies of `parts`, each followed by a zero byte, in 32-bit memory."""
    base = low_memory()
    addresses = []
    for part in parts:
        ctypes.memmove(base, part + b"\0", len(part) + 1)
        addresses.append(base)
        base += len(part) + 1 + (-(len(part) + 1) % 8)
    return tuple(addresses)


def native(number: int, *arguments: int) -> int:
    """The result, or the negative error number."""
    padded = [ctypes.c_ulong(a & (1 << 64) - 1) for a in (*arguments, 0, 0, 0, 0, 0, 0)[:6]]
    result = int(libc.syscall(ctypes.c_long(number), *padded))
    return -ctypes.get_errno() if result == -1 else result


@functools.cache
def stub() -> Any:
    code = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    code.write(INT_80)
    address = ctypes.addressof(ctypes.c_char.from_buffer(code))
    function = ctypes.CFUNCTYPE(ctypes.c_long, *[ctypes.c_uint] * 6)(address)
    return code, function


def compat(number: int, *arguments: int) -> int:
    padded = [a & 0xFFFFFFFF for a in (*arguments, 0, 0, 0, 0, 0)[:5]]
    return int(stub()[1](number, *padded))


def by_name(name: str, *arguments: int) -> int:
    return native(KNOWN.get(name, policy.NUMBERED.get(name, -1)), *arguments)


def by_name_32(name: str, *arguments: int) -> int:
    return compat(KNOWN_32.get(name, policy.NUMBERED.get(name, -1)), *arguments)


ABIS: dict[str, Call] = {"64": by_name, "32": by_name_32}


def become_root(namespaces: int) -> None:
    uid, gid = os.geteuid(), os.getegid()
    assert libc.unshare(namespaces) == 0, os.strerror(ctypes.get_errno())
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"0 {uid} 1")
    Path("/proc/self/gid_map").write_text(f"0 {gid} 1")


def forked(body: Callable[[], Any]) -> Any:
    """What `body` returns, as JSON carries it, when it runs in a child; a child that dies is an error."""
    sys.stdout.flush()
    read, write = os.pipe()
    with warnings.catch_warnings():
        # The child of a process with threads only makes system calls here.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        code = 1
        try:
            os.close(read)
            told = json.dumps(body()).encode()
            while told:
                told = told[os.write(write, told) :]
            code = 0
        except BaseException:
            os.write(2, traceback.format_exc().encode())
        finally:
            os._exit(code)
    os.close(write)
    with open(read, "rb") as pipe:
        told = pipe.read()
    _, status = os.waitpid(child, 0)
    if status != 0:
        raise ChildProcessError(os.waitstatus_to_exitcode(status))
    return json.loads(told)


def in_session(body: Callable[[], Any], program: bytes | None) -> Any:
    def run() -> Any:
        become_root(NAMESPACES)
        # Made before the filter: the page and the code are set up by calls that it also judges.
        low_memory()
        stub()
        if program is not None:
            seccomp.install(program)
        return body()

    return forked(run)


def marked(program: bytes) -> bytes:
    out = b""
    for code, if_true, if_false, k in struct.iter_unpack("=HBBI", program):
        marked_k = k + MARK if code == 6 and k & 0xFFFF0000 == 0x00050000 else k
        out += struct.pack("=HBBI", code, if_true, if_false, marked_k)
    return out


NATIVE = platform.machine() == "x86_64"
"""Whether this machine runs the stubs, which are x86 machine code."""
PLAIN = build(False, "x86_64") if NATIVE else b""
ROOT = build(True, "x86_64") if NATIVE else b""
MARKED = marked(PLAIN)
MARKED_ROOT = marked(ROOT)
MARKED_EPERM = -(errno.EPERM + MARK)
MARKED_ENOSYS = -(errno.ENOSYS + MARK)
MARKED_FAMILY = -(errno.EAFNOSUPPORT + MARK)
MARKED_PROTOCOL = -(errno.EPROTONOSUPPORT + MARK)


@functools.cache
def runs_32_bit_calls() -> bool:
    def body() -> int:
        stub()
        return by_name_32("getpid") - os.getpid()

    try:
        return bool(forked(body) == 0)
    except ChildProcessError:
        return False
