"""Programs come out the same every time, with the numbers that libseccomp knows."""

from __future__ import annotations

import pytest

from sandbox.errors import HostError
from sandbox.seccomp import policy
from sandbox.seccomp.build import build
from tests.sandbox.seccomp.programs import KNOWN, MACHINES, MODES, PROGRAMS


def test_every_name_is_known_to_some_architecture() -> None:
    names = {name for known in KNOWN.values() for name in known} | set(policy.NUMBERED)
    # ppc and arm's older spelling of a call that aarch64 knows by another name
    assert (policy.ALLOWED | policy.REFUSED | set(policy.TESTED)) - names <= {"sync_file_range2"}


@pytest.mark.parametrize("name", sorted(policy.NUMBERED))
def test_a_number_written_down_agrees_with_libseccomp(name: str) -> None:
    for known in KNOWN.values():
        assert known.get(name, policy.NUMBERED[name]) == policy.NUMBERED[name]
        assert [n for n, number in known.items() if number == policy.NUMBERED[name]] in ([], [name])


@pytest.mark.parametrize("machine", MACHINES)
def test_a_program_is_small_and_the_same_every_time(machine: str) -> None:
    for mode in MODES:
        program = PROGRAMS[machine, mode]
        assert build(mode.emulate_root, machine, mode.refuse_set_id) == program
        assert len(program) % 8 == 0
        assert len(program) // 8 < 450


def test_a_machine_without_a_filter_is_told_so() -> None:
    with pytest.raises(HostError, match="riscv64") as caught:
        build(False, "riscv64")
    assert "x86_64" in caught.value.hint
