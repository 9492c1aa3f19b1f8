"""The filter in force: calls made for real under it, beside the same calls made without it."""

from __future__ import annotations

import errno
import os
import signal
import stat
import struct
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest

from sandbox import seccomp
from sandbox.seccomp import policy
from tests.capabilities import need
from tests.sandbox.seccomp.calls import (
    KNOWN,
    KNOWN_32,
    MARK,
    MARKED,
    MARKED_ENOSYS,
    MARKED_EPERM,
    MARKED_FAMILY,
    MARKED_PROTOCOL,
    MARKED_ROOT,
    NATIVE,
    PLAIN,
    ROOT,
    X32_BIT,
    Call,
    by_name,
    by_name_32,
    compat,
    forked,
    in_session,
    libc,
    low,
    native,
    runs_32_bit_calls,
)

pytestmark = pytest.mark.skipif(not NATIVE, reason="the stubs are x86 machine code")


@pytest.fixture(autouse=True)
def _namespaces() -> None:
    need("user-namespaces")


def names(call: Call) -> dict[str, int]:
    return KNOWN if call is by_name else KNOWN_32


def test_every_refused_call_is_refused_by_the_filter(abi: Call) -> None:
    refused = sorted(name for name in policy.REFUSED if name in names(abi) or name in policy.NUMBERED)
    answers = in_session(lambda: {name: abi(name) for name in refused}, MARKED)
    assert answers == dict.fromkeys(refused, MARKED_EPERM)
    control = in_session(lambda: [abi("getpid"), abi("getppid"), abi("sched_yield")], MARKED)
    assert all(result >= 0 for result in control)


def test_every_call_without_a_rule_is_unknown(abi: Call) -> None:
    ruled = set(policy.rules(False))
    unruled = sorted(name for name in names(abi) if name not in ruled)
    assert {"clone3", "io_uring_setup"} <= set(unruled)
    answers = in_session(lambda: {name: abi(name) for name in unruled}, MARKED)
    assert answers == dict.fromkeys(unruled, MARKED_ENOSYS)


def test_numbers_beyond_the_known_are_unknown() -> None:
    # 335 and 336 belong to the kernel's own probes and pass every filter on recent kernels.
    numbers = [*range(470, 1100), *range(337, 424), 0x7FFFFFFF, -2]
    answers = in_session(lambda: [native(number) for number in numbers], MARKED)
    assert set(answers) == {MARKED_ENOSYS}
    if runs_32_bit_calls():
        beyond = [*range(470, 1100), 0x7FFFFFFF]
        assert set(in_session(lambda: [compat(n) for n in beyond], MARKED)) == {MARKED_ENOSYS}


def test_x32_numbers_are_unknown() -> None:
    numbers = [X32_BIT | number for number in (0, 1, 16, 39, 41, 56, 165, 272, *range(512, 548))]
    answers = in_session(lambda: [native(number) for number in numbers], MARKED)
    assert set(answers) == {MARKED_ENOSYS}
    assert in_session(lambda: native(39), MARKED) > 0


SUCCEED_UNFILTERED = {
    "unshare a user namespace": lambda call: call("unshare", 0x10000000),
    "unshare a mount namespace": lambda call: call("unshare", 0x00020000),
    "unshare a network namespace": lambda call: call("unshare", 0x40000000),
    "unshare a process namespace": lambda call: call("unshare", 0x20000000),
    "unshare an ipc namespace": lambda call: call("unshare", 0x08000000),
    "unshare a host name namespace": lambda call: call("unshare", 0x04000000),
    "unshare a cgroup namespace": lambda call: call("unshare", 0x02000000),
    "mount": lambda call: call("mount", *low(b"none", b"/dev", b"tmpfs"), 0, 0),
    "enter a namespace": lambda call: call("setns", os.open("/proc/self/ns/net", os.O_RDONLY), 0),
    "set the host name": lambda call: call("sethostname", *low(b"other"), 5),
    "fsopen": lambda call: call("fsopen", *low(b"tmpfs"), 0),
    "open_tree": lambda call: call("open_tree", -100, *low(b"/"), 0x8001),
    "legacy layout personality": lambda call: call("personality", 0x0200000),
    "clone into a user namespace": lambda call: cloned(call, 0x10000000),
    "clone into a network namespace": lambda call: cloned(call, 0x40000000),
    "clone into a mount namespace": lambda call: cloned(call, 0x00020000),
    "clone into a process namespace": lambda call: cloned(call, 0x20000000),
}


def cloned(call: Call, flags: int) -> int:
    result = call("clone", flags | signal.SIGCHLD)
    if result == 0:
        os._exit(0)
    if result > 0:
        os.waitpid(result, 0)
    return result


@pytest.mark.parametrize("case", SUCCEED_UNFILTERED)
def test_a_call_that_succeeds_without_the_filter_is_refused_with_it(abi: Call, case: str) -> None:
    make = SUCCEED_UNFILTERED[case]
    assert in_session(lambda: make(abi), None) >= 0
    assert in_session(lambda: make(abi), PLAIN) == -errno.EPERM
    assert in_session(lambda: make(abi), ROOT) == -errno.EPERM


def test_harmless_forms_of_the_tested_calls_work(abi: Call) -> None:
    assert in_session(lambda: abi("unshare", 0x00000600), PLAIN) == 0
    assert in_session(lambda: cloned(abi, 0), PLAIN) > 0
    assert in_session(lambda: abi("personality", 0xFFFFFFFF), PLAIN) >= 0
    assert in_session(lambda: abi("personality", 0x0040000), PLAIN) >= 0


def test_the_keyring_is_out_of_reach(abi: Call) -> None:
    process_keyring = -2
    assert in_session(lambda: abi("keyctl", 0, process_keyring, 1), None) > 0
    assert in_session(lambda: abi("keyctl", 0, process_keyring, 1), PLAIN) == -errno.EPERM


def on_terminal(call: Call, request: int) -> int:
    controller, terminal = os.openpty()
    try:
        return call("ioctl", terminal, request, *low(bytes(64)))
    finally:
        os.close(controller)
        os.close(terminal)


REFUSED_REQUESTS = (policy.TIOCSTI, policy.TIOCLINUX, policy.TIOCSETD, policy.KDSKBENT, policy.KDSKBSENT)
TIOCGWINSZ = 0x5413


def test_input_cannot_be_pushed_into_a_terminal(abi: Call) -> None:
    for high in (0, 1 << 32, 0xFFFFFFFF << 32):
        for request in REFUSED_REQUESTS:
            assert in_session(lambda r=request, h=high: on_terminal(abi, h | r), MARKED) == MARKED_EPERM
        assert in_session(lambda h=high: on_terminal(abi, h | TIOCGWINSZ), MARKED) == 0
    line_discipline = in_session(lambda: on_terminal(abi, policy.TIOCSETD), None)
    assert line_discipline == 0


ALLOWED_FAMILIES = (1, 2, 10, 16)


def test_only_common_address_families_open(abi: Call) -> None:
    for high in (0, 1 << 32):
        families = [family for family in range(64) if family not in ALLOWED_FAMILIES]
        answers = in_session(
            lambda h=high, f=families: [abi("socket", h | family, 3, 0) for family in f], MARKED
        )
        assert set(answers) == {MARKED_FAMILY}
        answers = in_session(
            lambda h=high, f=families: [abi("socketpair", h | family, 1, 0, *low(bytes(8))) for family in f],
            MARKED,
        )
        assert set(answers) == {MARKED_FAMILY}
        for family in (1, 2, 16):
            assert in_session(lambda h=high, f=family: abi("socket", h | f, 2, 0), MARKED) >= 0
        assert in_session(lambda h=high: abi("socketpair", h | 1, 1, 0, *low(bytes(8))), MARKED) == 0


def test_packet_sockets_open_only_without_the_filter(abi: Call) -> None:
    packet, sock_packet, ip = 17, 10, 0x0008
    assert in_session(lambda: abi("socket", packet, 3, ip), None) >= 0
    assert in_session(lambda: abi("socket", packet, 3, ip), PLAIN) == -errno.EAFNOSUPPORT
    assert in_session(lambda: abi("socket", 2, sock_packet, ip), None) >= 0
    assert in_session(lambda: abi("socket", 2, sock_packet, ip), PLAIN) == -errno.EAFNOSUPPORT
    assert in_session(lambda: abi("socket", 2, sock_packet | 0x80800, ip), PLAIN) == -errno.EAFNOSUPPORT


@pytest.mark.parametrize("high", [0, 1 << 32])
def test_only_common_protocols_open(abi: Call, high: int) -> None:
    def netlink() -> dict[str, int]:
        return {str(protocol): abi("socket", 16, 3, high | protocol) for protocol in range(32)}

    for protocol, result in in_session(netlink, MARKED).items():
        assert (result >= 0) if int(protocol) in (0, 4, 15) else (result == MARKED_PROTOCOL)
    for family in (2, 10):
        for protocol in (33, 115, 132, 136, 256):
            answer = in_session(lambda f=family, p=protocol: abi("socket", f, 1, high | p), MARKED)
            assert answer == MARKED_PROTOCOL
    assert in_session(lambda: abi("socket", 2, 1, high | 6), MARKED) >= 0
    assert in_session(lambda: abi("socket", 2, 2, high | 17), MARKED) >= 0


def test_only_streams_datagrams_and_raw_sockets_open_for_the_internet(abi: Call) -> None:
    flags = 0x80800
    for family in (2, 10):
        kinds = [kind | extra for kind in range(16) for extra in (0, flags) if kind not in (1, 2, 3, 10)]
        answers = in_session(lambda f=family, k=kinds: [abi("socket", f, kind, 0) for kind in k], MARKED)
        assert set(answers) == {-(errno.ESOCKTNOSUPPORT + MARK)}
    assert in_session(lambda: abi("socket", 2, 1 | flags, 0), MARKED) >= 0
    assert in_session(lambda: abi("socket", 2, 2 | flags, 0), MARKED) >= 0
    assert in_session(lambda: abi("socket", 2, 3 | flags, 1), MARKED) >= 0
    assert in_session(lambda: abi("socket", 1, 5 | flags, 0), MARKED) >= 0


def test_the_32_bit_multiplexer_opens_nothing() -> None:
    if not runs_32_bit_calls():
        pytest.skip("the kernel runs no 32-bit calls")

    def multiplexed(family: int) -> int:
        (arguments,) = low(struct.pack("=III", family, 1, 0))
        return by_name_32("socketcall", 1, arguments)

    assert in_session(lambda: multiplexed(1), None) >= 0
    assert in_session(lambda: multiplexed(1), PLAIN) == -errno.ENOSYS
    assert in_session(lambda: multiplexed(40), MARKED) == MARKED_ENOSYS
    assert in_session(lambda: by_name_32("socket", 1, 1, 0), PLAIN) >= 0


def test_threads_and_programs_run_under_the_filter() -> None:
    def body() -> list[str]:
        seen: list[str] = []
        thread = threading.Thread(target=lambda: seen.append("thread"))
        thread.start()
        thread.join()
        done = subprocess.run(
            ["/bin/sh", "-c", "echo $(( 6 * 7 )) | cat; grep Seccomp: /proc/self/status"],
            capture_output=True,
            text=True,
            check=True,
        )
        return [*seen, *done.stdout.split()]

    for program in (PLAIN, ROOT):
        assert in_session(body, program) == ["thread", "42", "Seccomp:", "2"]


def modes(directory: Path) -> dict[str, int]:
    return {path.name: stat.S_IFMT(path.lstat().st_mode) for path in directory.iterdir()}


def make_nodes(call: Call, directory: Path, at: bool) -> dict[str, int]:
    answers = {}
    for name, kind in (
        ("block", stat.S_IFBLK),
        ("char", stat.S_IFCHR),
        ("fifo", stat.S_IFIFO),
        ("socket", stat.S_IFSOCK),
        ("file", stat.S_IFREG),
        ("untyped", 0),
    ):
        (path,) = low(os.fsencode(directory / name))
        answers[name] = (
            call("mknodat", -100, path, kind | 0o600, 0x103)
            if at
            else call("mknod", path, kind | 0o600, 0x103)
        )
    return answers


@pytest.mark.parametrize("at", [False, True])
def test_emulation_makes_plain_nodes_and_pretends_devices(tmp_path: Path, abi: Call, at: bool) -> None:
    real, pretended = tmp_path / "real", tmp_path / "pretended"
    real.mkdir()
    pretended.mkdir()
    answers = in_session(lambda: make_nodes(abi, real, at), PLAIN)
    assert answers["block"] == answers["char"] == -errno.EPERM
    assert in_session(lambda: make_nodes(abi, pretended, at), ROOT) == dict.fromkeys(answers, 0)
    made = {"fifo": stat.S_IFIFO, "socket": stat.S_IFSOCK, "file": stat.S_IFREG, "untyped": stat.S_IFREG}
    assert modes(real) == modes(pretended) == made


def change_owner(call: Call, path: Path) -> list[int]:
    (name,) = low(os.fsencode(path))
    file = os.open(path, os.O_RDONLY)
    calls = [
        call("chown", name, 1234, 1234),
        call("lchown", name, 1234, 1234),
        call("fchown", file, 1234, 1234),
        call("fchownat", -100, name, 1234, 1234, 0),
    ]
    if call is by_name_32:
        calls += [
            call("chown32", name, 1234, 1234),
            call("lchown32", name, 1234, 1234),
            call("fchown32", file, 1234, 1234),
        ]
    return calls


def test_emulation_pretends_changes_of_owner(tmp_path: Path, abi: Call) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"")
    before = path.stat()
    assert set(in_session(lambda: change_owner(abi, path), PLAIN)) == {-errno.EINVAL}
    assert set(in_session(lambda: change_owner(abi, path), ROOT)) == {0}
    after = path.stat()
    assert (after.st_uid, after.st_gid) == (before.st_uid, before.st_gid)


SET_IDS = [
    f"set{name}" for name in ("uid", "gid", "reuid", "regid", "resuid", "resgid", "fsuid", "fsgid", "groups")
]


def test_emulation_pretends_changes_of_ids(abi: Call) -> None:
    calls = [*SET_IDS, "capset"]
    if abi is by_name_32:
        calls += [f"{name}32" for name in SET_IDS]

    def body() -> list[Any]:
        answers = {name: abi(name, 7, 7, 7) for name in calls}
        return [answers, os.getresuid(), os.getresgid(), os.getgroups()]

    groups = in_session(os.getgroups, None)
    answers, users, group_ids, after = in_session(body, MARKED_ROOT)
    assert answers == dict.fromkeys(calls, -MARK)
    assert (users, group_ids, after) == ([0, 0, 0], [0, 0, 0], groups)
    answers, users, group_ids, after = in_session(body, ROOT)
    assert answers == dict.fromkeys(calls, 0)
    assert (users, group_ids, after) == ([0, 0, 0], [0, 0, 0], groups)
    honest = in_session(lambda: abi("setuid", 7), PLAIN)
    assert honest == -errno.EINVAL


def test_a_filter_cannot_be_lifted_by_another() -> None:
    allow_all = struct.pack("=HBBI", 6, 0, 0, policy.ALLOW)

    def body() -> int:
        seccomp.install(allow_all)
        return by_name("unshare", 0x10000000)

    assert in_session(body, None) == 0
    assert in_session(body, PLAIN) == -errno.EPERM


def attempt(program: bytes) -> int:
    try:
        seccomp.install(program)
    except OSError as error:
        assert error.errno is not None
        return error.errno
    return 0


@pytest.mark.parametrize("program", [b"", b"\0" * 8, PLAIN[:-8], PLAIN * 20])
def test_a_program_that_the_kernel_refuses_raises(program: bytes) -> None:
    assert in_session(lambda: attempt(program), None) == errno.EINVAL
    assert in_session(lambda: attempt(PLAIN), None) == 0


def test_installing_needs_no_new_privs_or_a_capability() -> None:
    pr_set_no_new_privs = 38

    def body() -> list[int]:
        if os.geteuid() == 0:
            os.setgroups([])
            os.setresgid(65534, 65534, 65534)
            os.setresuid(65534, 65534, 65534)
        first = attempt(PLAIN)
        assert libc.prctl(pr_set_no_new_privs, 1, 0, 0, 0) == 0
        return [first, attempt(PLAIN)]

    assert forked(body) == [errno.EACCES, 0]


def test_a_tracer_can_still_cancel_a_call() -> None:
    assert in_session(lambda: native(-1), MARKED) == -errno.ENOSYS
