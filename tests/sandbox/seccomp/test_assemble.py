"""A program answers every call exactly as the rules it was made from."""

from __future__ import annotations

import tempfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.seccomp import policy
from sandbox.seccomp.assemble import assemble, ranges
from tests.sandbox.seccomp.programs import (
    EVERY,
    I386,
    KNOWN,
    MODES,
    PROGRAMS,
    X32_BIT,
    X86_64,
    Mode,
    call,
    expected,
    run,
    table,
)


def interesting() -> list[int]:
    values = {0, 1, 0x7FFFFFFF, 0xFFFFFFFF, 10 | 0x80800}
    pending: list[policy.Outcome] = [outcome for mode in MODES for outcome in policy.rules(*mode).values()]
    while pending:
        outcome = pending.pop()
        if isinstance(outcome, policy.Test):
            for cases, case in outcome.cases:
                values.update(cases)
                pending.append(case)
            pending.append(outcome.otherwise)
    values.update(1 << bit for bit in range(32))
    return sorted(
        values | {value | 1 << 32 for value in values} | {value | 0xFFFFFFFF << 32 for value in values}
    )


INTERESTING = interesting()


@pytest.mark.parametrize(("machine", "mode", "token"), EVERY)
def test_every_number_is_answered_as_the_rules_say(machine: str, mode: Mode, token: int) -> None:
    by_number = table(mode, KNOWN[token])
    numbers = {
        *range(1200),
        *by_number,
        *(number + 1 for number in by_number),
        X32_BIT,
        0x7FFFFFFF,
        0x80000000,
        0xFFFFFFFE,
    }
    for number in sorted(n for n in numbers if n <= 0xFFFFFFFF):
        outcome = by_number.get(number, policy.ENOSYS)
        for arguments in ((0,) * 6, (0xFFFFFFFFFFFFFFFF,) * 6):
            assert run(PROGRAMS[machine, mode], token, number, *arguments) == expected(outcome, arguments), (
                number
            )


@given(
    where=st.sampled_from(EVERY),
    name=st.sampled_from(sorted({*policy.TESTED, *policy.EMULATED, *policy.SET_ID_REFUSED})),
    arguments=st.tuples(*[st.sampled_from(INTERESTING) | st.integers(0, (1 << 64) - 1)] * 6),
)
def test_every_argument_is_judged_as_the_rules_say(
    where: tuple[str, Mode, int], name: str, arguments: tuple[int, ...]
) -> None:
    machine, mode, token = where
    number = KNOWN[token].get(name, policy.NUMBERED.get(name))
    if number is None:
        return
    outcome = policy.rules(*mode)[name]
    assert run(PROGRAMS[machine, mode], token, number, *arguments) == expected(outcome, arguments)


@given(
    table=st.dictionaries(
        st.integers(0, 2000) | st.sampled_from([0xFFFFFFFE, 0xFFFFFFFF]),
        st.sampled_from(
            [policy.ALLOW, policy.EPERM, policy.ENOSYS, policy.PRETEND, policy.IOCTL, policy.SOCKET]
        ),
        max_size=400,
    ),
    probes=st.lists(st.integers(0, 2001), max_size=20),
)
def test_any_table_assembles_to_its_own_meaning(table: dict[int, policy.Outcome], probes: list[int]) -> None:
    program = assemble([(X86_64, table), (I386, {3: policy.ALLOW})])
    for number in {*table, *probes}:
        assert run(program, X86_64, number, 1, 2, 3) == expected(
            table.get(number, policy.ENOSYS), (1, 2, 3, 0, 0, 0)
        )
    assert run(program, I386, 3) == policy.ALLOW
    assert run(program, I386, 4) == policy.ENOSYS


def test_ranges_join_equal_neighbours_and_cover_everything() -> None:
    table: dict[int, policy.Outcome] = {
        0: policy.ALLOW,
        1: policy.ALLOW,
        3: policy.EPERM,
        0xFFFFFFFF: policy.ALLOW,
    }
    assert ranges(table) == [
        (0, policy.ALLOW),
        (2, policy.ENOSYS),
        (3, policy.EPERM),
        (4, policy.ENOSYS),
        (0xFFFFFFFF, policy.ALLOW),
    ]
    assert ranges({}) == [(0, policy.ENOSYS)]


@pytest.mark.parametrize("token", [X86_64, I386])
def test_plain_rules_mean_what_libseccomp_makes_of_them(token: int) -> None:
    import pyseccomp

    plain = {
        name: outcome
        for name, outcome in policy.rules(False).items()
        if isinstance(outcome, int) and name in KNOWN[token]
    }
    theirs = pyseccomp.SyscallFilter(policy.ENOSYS)
    native = pyseccomp.system_arch()
    if token != native:
        theirs.add_arch(token)
        theirs.remove_arch(native)
    for name, outcome in plain.items():
        theirs.add_rule(outcome, pyseccomp.resolve_syscall(native, name))
    with tempfile.TemporaryFile() as file:
        theirs.export_bpf(file)
        file.seek(0)
        program = file.read()
    for name in plain:
        number = KNOWN[token][name]
        assert run(program, token, number) == call(name, token=token), name
    assert run(program, token, 600) == run(PROGRAMS["x86_64", MODES[0]], token, 600) == policy.ENOSYS
