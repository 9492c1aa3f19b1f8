"""The programs under test, and a reading of them that is independent of the assembler's."""

from __future__ import annotations

import struct
from typing import NamedTuple

from sandbox.seccomp import policy
from sandbox.seccomp.build import TOKENS, build, known_calls

I386 = 0x40000003
X86_64 = 0xC000003E
X32_BIT = 0x40000000


class Mode(NamedTuple):
    """The switches that the rules know."""

    emulate_root: bool
    refuse_set_id: bool


MACHINES = sorted(TOKENS)
MODES = tuple(Mode(root, refuse) for root in (False, True) for refuse in (False, True))
PROGRAMS = {
    (machine, mode): build(mode.emulate_root, machine, mode.refuse_set_id)
    for machine in MACHINES
    for mode in MODES
}
KNOWN = {token: known_calls(token) for tokens in TOKENS.values() for token in tokens}
EVERY = [(machine, mode, token) for machine in MACHINES for mode in MODES for token in TOKENS[machine]]


def run(program: bytes, token: int, number: int, *arguments: int) -> int:
    """What the kernel's interpreter would return; independent of the assembler's own reading of BPF."""
    padded = (*arguments, 0, 0, 0, 0, 0, 0)[:6]
    data = struct.pack("<IIQ6Q", number & 0xFFFFFFFF, token, 0, *(a & (1 << 64) - 1 for a in padded))
    code = list(struct.iter_unpack("<HBBI", program))
    accumulator = position = 0
    while True:
        operation, if_true, if_false, k = code[position]
        position += 1
        match operation:
            case 0x20:
                assert k % 4 == 0
                accumulator = int.from_bytes(data[k : k + 4], "little")
            case 0x54:
                accumulator &= k
            case 0x05:
                position += k
            case 0x15:
                position += if_true if accumulator == k else if_false
            case 0x25:
                position += if_true if accumulator > k else if_false
            case 0x35:
                position += if_true if accumulator >= k else if_false
            case 0x06:
                return int(k)
            case _:
                raise AssertionError(
                    f"an operation the kernel would refuse or the test does not know: {operation:#x}"
                )


def expected(outcome: policy.Outcome, arguments: tuple[int, ...]) -> int:
    while isinstance(outcome, policy.Test):
        value = arguments[outcome.index] & 0xFFFFFFFF & outcome.mask
        matches = [case for values, case in outcome.cases if value in values]
        assert len(matches) <= 1
        outcome = matches[0] if matches else outcome.otherwise
    return outcome


def table(mode: Mode, known: dict[str, int]) -> dict[int, policy.Outcome]:
    return policy.numbered(mode.emulate_root, known, mode.refuse_set_id)


def call(name: str, *arguments: int, token: int = X86_64, mode: Mode = MODES[0]) -> int:
    machine = next(machine for machine, tokens in TOKENS.items() if token in tokens)
    number = KNOWN[token].get(name, policy.NUMBERED.get(name))
    assert number is not None, name
    return run(PROGRAMS[machine, mode], token, number, *arguments)
