"""What the rules refuse, whatever the architecture and the registers' upper halves."""

from __future__ import annotations

import pytest

from sandbox.seccomp import policy
from sandbox.seccomp.build import TOKENS
from tests.sandbox.seccomp.programs import KNOWN, MODES, PROGRAMS, X32_BIT, X86_64, call, run


@pytest.mark.parametrize(("machine", "mode"), sorted(PROGRAMS))
def test_an_architecture_without_rules_gets_nothing(machine: str, mode: bool) -> None:
    others = {token for tokens in TOKENS.values() for token in tokens} - set(TOKENS[machine])
    for token in (*others, 0, 0xC00000F3):
        for number in (0, 1, 39, 63, 64, 172, 0xFFFFFFFF):
            assert run(PROGRAMS[machine, mode], token, number) == policy.ENOSYS
    assert run(PROGRAMS[machine, mode], TOKENS[machine][0], 63) == policy.ALLOW


@pytest.mark.parametrize("mode", MODES)
def test_no_x32_number_is_served(mode: bool) -> None:
    program = PROGRAMS["x86_64", mode]
    for number in range(1024):
        for arguments in ((0,) * 6, (1, 2, 3, 4, 5, 6)):
            assert run(program, X86_64, X32_BIT | number, *arguments) == policy.ENOSYS
    for number in range(512, 548):
        assert run(program, X86_64, number) == policy.ENOSYS
    assert run(program, X86_64, 39) == policy.ALLOW


def test_no_name_is_both_refused_and_allowed() -> None:
    assert not policy.REFUSED & policy.ALLOWED
    assert not (policy.REFUSED | policy.ALLOWED) & set(policy.TESTED)
    assert not policy.REFUSED & set(policy.EMULATED)
    assert set(policy.EMULATED) <= policy.ALLOWED


@pytest.mark.parametrize("token", sorted(KNOWN))
def test_what_no_rule_names_is_unavailable(token: int) -> None:
    for name in ("clone3", "io_uring_setup", "io_uring_enter", "io_uring_register"):
        assert call(name, token=token) == policy.ENOSYS
    if "socketcall" in KNOWN[token]:
        for multiplexed in range(22):
            assert call("socketcall", multiplexed, token=token) == policy.ENOSYS
    assert call("clone", 17, token=token) == policy.ALLOW


@pytest.mark.parametrize("token", sorted(KNOWN))
def test_the_upper_half_of_an_argument_changes_nothing(token: int) -> None:
    for high in (0, 1 << 32, 0xFFFFFFFF << 32):
        assert call("ioctl", 0, high | policy.TIOCSTI, token=token) == policy.EPERM
        assert call("ioctl", 0, high | policy.TIOCLINUX, token=token) == policy.EPERM
        assert call("ioctl", 0, high | 0x5413, token=token) == policy.ALLOW
        assert call("socket", high | 40, 1, token=token) == policy.NO_FAMILY
        assert call("socket", high | 1, high | 1, token=token) == policy.ALLOW
        assert call("socket", high | 2, high | 0x80000 | 10, token=token) == policy.NO_FAMILY
        assert call("socket", high | 16, 3, high | 12, token=token) == policy.NO_PROTOCOL
        assert call("unshare", high | 0x10000000, token=token) == policy.EPERM
        assert call("unshare", high | 0x600, token=token) == policy.ALLOW
        assert call("clone", high | 0x40000000 | 17, token=token) == policy.EPERM
        assert call("clone", high | 0x80 | 17, token=token) == policy.ALLOW
