"""Builds a filter's program; only reached when no cached one fits."""

from __future__ import annotations

from sandbox.errors import HostError
from sandbox.seccomp.assemble import assemble
from sandbox.seccomp.policy import numbered

# linux/audit.h: what a kernel of that machine runs besides its own calls. x32 is left out on purpose.
TOKENS = {
    "x86_64": (0xC000003E, 0x40000003),
    "aarch64": (0xC00000B7, 0x40000028),
}

# The arm calls that no other architecture has start at __ARM_NR_BASE.
CANDIDATES = (*range(1024), *range(0x0F0000, 0x0F0010))


def known_calls(token: int) -> dict[str, int]:
    """Names and numbers of an architecture's system calls, from libseccomp's tables.

    Looked up by number: by name, libseccomp gives i386's direct socket calls the number of a
    stand-in for socketcall, whose rules would open that multiplexer.
    """
    import pyseccomp

    known: dict[str, int] = {}
    for number in CANDIDATES:
        try:
            name = pyseccomp.resolve_syscall(token, number)
        except ValueError:
            continue
        known[name.decode("ascii")] = number
    return known


def build(emulate_root: bool, machine: str, refuse_set_id: bool = False) -> bytes:
    """The program for `machine` (as uname names it). Raises HostError."""
    tokens = TOKENS.get(machine)
    if tokens is None:
        raise HostError(
            f"there is no system call filter for the machine type {machine!r}",
            hint=f"run on one of: {', '.join(sorted(TOKENS))}",
        )
    try:
        calls = [(token, known_calls(token)) for token in tokens]
    except (ImportError, RuntimeError) as error:
        raise HostError(
            f"the system call filter can't be built: {error}",
            hint="install libseccomp (the package libseccomp2 on Debian and Ubuntu)",
        ) from error
    return assemble([(token, numbered(emulate_root, known, refuse_set_id)) for token, known in calls])
