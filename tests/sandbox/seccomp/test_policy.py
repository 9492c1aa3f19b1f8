"""What the rules refuse, whatever the architecture and the registers' upper halves."""

from __future__ import annotations

import pytest

from sandbox.seccomp import policy
from sandbox.seccomp.build import TOKENS
from tests.sandbox.seccomp.programs import KNOWN, MODES, PROGRAMS, X32_BIT, X86_64, Mode, call, run


@pytest.mark.parametrize(("machine", "mode"), sorted(PROGRAMS))
def test_an_architecture_without_rules_gets_nothing(machine: str, mode: Mode) -> None:
    others = {token for tokens in TOKENS.values() for token in tokens} - set(TOKENS[machine])
    for token in (*others, 0, 0xC00000F3):
        for number in (0, 1, 39, 63, 64, 172, 0xFFFFFFFF):
            assert run(PROGRAMS[machine, mode], token, number) == policy.ENOSYS
    assert run(PROGRAMS[machine, mode], TOKENS[machine][0], 63) == policy.ALLOW


@pytest.mark.parametrize("mode", MODES)
def test_no_x32_number_is_served(mode: Mode) -> None:
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
    assert set(policy.EMULATED) | set(policy.SET_ID_REFUSED) <= policy.ALLOWED
    assert set(policy.EMULATED) & set(policy.SET_ID_REFUSED) == set(policy.EMULATED_AND_SET_ID_REFUSED)


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


@pytest.mark.parametrize("token", sorted(KNOWN))
def test_process_1_is_neither_limited_nor_slowed_down(token: int) -> None:
    for high in (0, 1 << 32, 0xFFFFFFFF << 32):
        for name in (
            "prlimit64",
            "sched_setaffinity",
            "sched_setattr",
            "sched_setparam",
            "sched_setscheduler",
        ):
            assert call(name, high | 1, token=token) == policy.EPERM
            for own in (0, 2, 10001):
                assert call(name, high | own, token=token) == policy.ALLOW
        for name, process in (("setpriority", 0), ("ioprio_set", 1)):
            assert call(name, high | process, high | 1, token=token) == policy.EPERM
            for own in (0, 2, 10001):
                assert call(name, high | process, high | own, token=token) == policy.ALLOW
            for kind in (process + 1, process + 2):
                assert call(name, high | kind, 0, token=token) == policy.EPERM


ORDINARY = (0, 0o644, 0o755, 0o777, 0o1777)
SET_ID = (0o4755, 0o2755, 0o6755, 0o4000, 0o2000, 0o7777, 0o104755)
# Where the flags are, or None, and where the mode is.
MODE_ARGUMENTS: dict[str, tuple[int | None, int]] = {
    "chmod": (None, 1),
    "fchmod": (None, 1),
    "fchmodat": (None, 2),
    "fchmodat2": (None, 2),
    "creat": (None, 1),
    "mknod": (None, 1),
    "mknodat": (None, 2),
    "open": (1, 2),
    "openat": (2, 3),
}
O_TMPFILE, O_DIRECTORY, O_WRONLY, O_CLOEXEC, O_EXCL = 0x410000, 0x10000, 0x1, 0x80000, 0x80
CREATING = (0x40, 0x40 | O_WRONLY, 0x40 | O_EXCL | O_CLOEXEC, O_TMPFILE | O_WRONLY, 0x400000)
OPENING = (0, O_WRONLY, O_DIRECTORY | O_CLOEXEC, O_EXCL)


def with_mode(name: str, flags: int, mode: int) -> list[int]:
    arguments = [7] * 6
    flags_at, mode_at = MODE_ARGUMENTS[name]
    if flags_at is not None:
        arguments[flags_at] = flags
    arguments[mode_at] = mode
    return arguments


def known(name: str, token: int) -> bool:
    return name in KNOWN[token] or name in policy.NUMBERED


@pytest.mark.parametrize("token", sorted(KNOWN))
@pytest.mark.parametrize("name", sorted(MODE_ARGUMENTS))
@pytest.mark.parametrize("high", [0, 1 << 32, 0xFFFFFFFF << 32])
def test_a_set_id_bit_is_refused_only_where_that_is_asked_for(token: int, name: str, high: int) -> None:
    if not known(name, token):
        return
    for mode in MODES:
        for flags in CREATING:
            for bits in ORDINARY:
                arguments = with_mode(name, high | flags, high | bits)
                assert call(name, *arguments, token=token, mode=mode) == policy.ALLOW
            for bits in SET_ID:
                arguments = with_mode(name, high | flags, high | bits)
                answer = call(name, *arguments, token=token, mode=mode)
                assert answer == (policy.EPERM if mode.refuse_set_id else policy.ALLOW), (flags, oct(bits))


@pytest.mark.parametrize("token", sorted(KNOWN))
def test_the_mode_counts_only_where_a_file_is_made(token: int) -> None:
    for mode in MODES:
        for name in ("open", "openat"):
            if known(name, token):
                for flags in OPENING:
                    for bits in (*ORDINARY, *SET_ID, 0xFFFFFFFF):
                        assert (
                            call(name, *with_mode(name, flags, bits), token=token, mode=mode) == policy.ALLOW
                        )
        answer = call("openat2", 7, 7, 7, 24, token=token, mode=mode)
        assert answer == (policy.ENOSYS if mode.refuse_set_id else policy.ALLOW)


@pytest.mark.parametrize("token", sorted(KNOWN))
def test_a_pretended_device_is_pretended_whatever_its_mode(token: int) -> None:
    devices = (0o020000, 0o060000)
    others = (0, 0o010000, 0o100000, 0o140000)
    for mode in MODES:
        for name in ("mknod", "mknodat"):
            if not known(name, token):
                continue
            for bits in (0o600, 0o4600, 0o2600):
                refused = policy.EPERM if mode.refuse_set_id and bits != 0o600 else policy.ALLOW
                for kind in others:
                    assert call(name, *with_mode(name, 0, kind | bits), token=token, mode=mode) == refused
                answer = policy.PRETEND if mode.emulate_root else refused
                for kind in devices:
                    assert call(name, *with_mode(name, 0, kind | bits), token=token, mode=mode) == answer


def test_every_architecture_has_the_calls_that_set_a_mode() -> None:
    for token in KNOWN:
        assert {"fchmod", "fchmodat", "fchmodat2", "openat", "mknodat"} <= {
            name for name in MODE_ARGUMENTS if known(name, token)
        }
