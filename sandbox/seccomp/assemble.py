"""Turns rule sets by number into a classic BPF program for seccomp.

The numbers of each architecture are joined into ranges with the same outcome, and a binary search
over the ranges finds the outcome. That keeps a program to a few hundred instructions, which matters at
each session's start: the kernel checks and compiles them all, then runs them for every number it knows.

Classic BPF jumps forward only, so code is laid down from its end: whatever an instruction jumps to has its
place already.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sandbox.seccomp.policy import ENOSYS, EVERY_BIT, Outcome, Test

# linux/bpf_common.h
LOAD = 0x20  # BPF_LD | BPF_W | BPF_ABS
AND = 0x54  # BPF_ALU | BPF_AND | BPF_K
JUMP = 0x05  # BPF_JMP | BPF_JA
IF_EQUAL = 0x15  # BPF_JMP | BPF_JEQ | BPF_K
IF_AT_LEAST = 0x35  # BPF_JMP | BPF_JGE | BPF_K
RETURN = 0x06  # BPF_RET | BPF_K

# struct seccomp_data, little-endian: int nr; u32 arch; u64 instruction_pointer; u64 args[6]
NUMBER = 0
ARCHITECTURE = 4
ARGUMENTS = 16

LIMIT = 4096  # BPF_MAXINSNS
FARTHEST = 255  # a conditional jump's offset is one byte


@dataclass
class Code:
    """Instructions from the last to the first, each (code, jump if true, jump if false, k).

    `placed` has the latest place of each outcome's code. A place is an index into `backwards`.
    """

    backwards: list[tuple[int, int, int, int]] = field(default_factory=list)
    placed: dict[Outcome, int] = field(default_factory=dict)


def ranges(table: Mapping[int, Outcome]) -> list[tuple[int, Outcome]]:
    """The first number of each run of equal outcomes, from 0 up; what has no entry is ENOSYS."""
    found: list[tuple[int, Outcome]] = [(0, ENOSYS)]

    def begin(number: int, outcome: Outcome) -> None:
        if found[-1][0] == number:
            found.pop()
        if not found or found[-1][1] != outcome:
            found.append((number, outcome))

    for number in sorted(table):
        begin(number, table[number])
        if number < EVERY_BIT:
            begin(number + 1, ENOSYS)
    return found


def add(code: Code, operation: int, k: int, if_true: int = 0, if_false: int = 0) -> int:
    code.backwards.append((operation, if_true, if_false, k))
    return len(code.backwards) - 1


def distance(code: Code, target: int) -> int:
    """The offset of a jump to `target` from the instruction that would be added next."""
    return len(code.backwards) - target - 1


def add_branch(code: Code, operation: int, k: int, if_true: int, if_false: int) -> int:
    # Bringing the second target nearer moves the first one instruction away.
    if distance(code, if_true) >= FARTHEST:
        if_true = add(code, JUMP, distance(code, if_true))
    if distance(code, if_false) > FARTHEST:
        if_false = add(code, JUMP, distance(code, if_false))
    return add(code, operation, k, distance(code, if_true), distance(code, if_false))


def add_outcome(code: Code, outcome: Outcome) -> int:
    place = code.placed.get(outcome)
    if place is not None and (isinstance(outcome, Test) or distance(code, place) < FARTHEST // 2):
        return place
    place = add_test(code, outcome) if isinstance(outcome, Test) else add(code, RETURN, outcome)
    code.placed[outcome] = place
    return place


def add_test(code: Code, test: Test) -> int:
    place = add_outcome(code, test.otherwise)
    targets = [(value, add_outcome(code, case)) for values, case in test.cases for value in values]
    for value, target in reversed(targets):
        place = add_branch(code, IF_EQUAL, value, target, place)
    if test.mask != EVERY_BIT:
        add(code, AND, test.mask)
    return add(code, LOAD, ARGUMENTS + 8 * test.index)


def add_search(code: Code, found: Sequence[tuple[int, Outcome]]) -> int:
    if len(found) == 1:
        return add_outcome(code, found[0][1])
    middle = len(found) // 2
    above = add_search(code, found[middle:])
    below = add_search(code, found[:middle])
    return add_branch(code, IF_AT_LEAST, found[middle][0], above, below)


def assemble(tables: Sequence[tuple[int, Mapping[int, Outcome]]]) -> bytes:
    """An array of struct sock_filter from rule sets by (AUDIT_ARCH token, rules by number).

    A call by an architecture that has no table is answered ENOSYS, and so is a call that carries the
    x32 bit: it lies beyond every number that x86-64 has a rule for.
    """
    code = Code()
    place = add_outcome(code, ENOSYS)
    for token, table in reversed(tables):
        search = add_search(code, ranges(table))
        add(code, JUMP, distance(code, search))
        search = add(code, LOAD, NUMBER)
        place = add_branch(code, IF_EQUAL, token, search, place)
    add(code, LOAD, ARCHITECTURE)
    if len(code.backwards) > LIMIT:
        raise ValueError(f"{len(code.backwards)} instructions; the kernel takes {LIMIT}")
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in reversed(code.backwards))
