"""The filter that refuses set-id bits, in force: each refusal beside the same call without it."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from sandbox.seccomp.build import build
from tests.capabilities import need
from tests.sandbox.seccomp.calls import NATIVE, PLAIN, ROOT, Call, by_name_32, in_session, low

pytestmark = pytest.mark.skipif(not NATIVE, reason="the stubs are x86 machine code")

NO_SET_ID = build(False, "x86_64", refuse_set_id=True)
ROOT_NO_SET_ID = build(True, "x86_64", refuse_set_id=True)
HERE = -100  # AT_FDCWD
SET_ID = (0o4755, 0o2755, 0o6755)
HIGH = 1 << 32


@pytest.fixture(autouse=True)
def _namespaces() -> None:
    need("user-namespaces")


def make(path: Path) -> int:
    return os.open(path, os.O_CREAT | os.O_RDWR, 0o600)


def named(path: Path) -> int:
    return low(os.fsencode(path))[0]


def changed(path: Path) -> int:
    os.close(make(path))
    return named(path)


def link_unnamed(call: Call, path: Path, mode: int) -> int:
    file = call("openat", HERE, named(path.parent), os.O_TMPFILE | os.O_WRONLY, mode)
    if file >= 0:
        unnamed, name = low(f"/proc/self/fd/{file}".encode(), os.fsencode(path))
        follow = 0x400  # AT_SYMLINK_FOLLOW
        assert call("linkat", HERE, unnamed, HERE, name, follow) == 0
    return file


# Each gives the file at a path a mode, where need be by making it.
WAYS: dict[str, Callable[[Call, Path, int], int]] = {
    "chmod": lambda call, path, mode: call("chmod", changed(path), mode),
    "fchmod": lambda call, path, mode: call("fchmod", make(path), mode),
    "fchmodat": lambda call, path, mode: call("fchmodat", HERE, changed(path), mode),
    "fchmodat2": lambda call, path, mode: call("fchmodat2", HERE, changed(path), mode, 0),
    "creat": lambda call, path, mode: call("creat", named(path), mode),
    "open": lambda call, path, mode: call("open", named(path), os.O_CREAT | os.O_WRONLY, mode),
    "openat": lambda call, path, mode: call("openat", HERE, named(path), os.O_CREAT | os.O_EXCL, mode),
    "openat without a name": link_unnamed,
    "mknod": lambda call, path, mode: call("mknod", named(path), stat.S_IFREG | mode, 0),
    "mknod of no kind": lambda call, path, mode: call("mknod", named(path), mode, 0),
    "mknodat": lambda call, path, mode: call("mknodat", HERE, named(path), stat.S_IFREG | mode, 0),
}


def tried(call: Call, way: str, folder: Path, mode: int, program: bytes | None) -> tuple[int, int | None]:
    """The answer, and the permissions that the file had afterwards, None where there was none. Both are kept apart
    from earlier tries."""
    path = folder / f"file-{len(list(folder.iterdir()))}"

    def body() -> int:
        os.umask(0)
        return WAYS[way](call, path, mode)

    answer = in_session(body, program)
    return answer, stat.S_IMODE(path.stat().st_mode) if path.exists() else None


@pytest.mark.parametrize("way", WAYS)
def test_a_set_id_bit_is_refused_and_every_other_mode_is_not(tmp_path: Path, abi: Call, way: str) -> None:
    answer, after = tried(abi, way, tmp_path, 0o755, None)
    if answer == -errno.ENOSYS:
        pytest.skip(f"the kernel lacks {way}")
    assert answer >= 0 and after == 0o755
    for without, program in ((None, NO_SET_ID), (PLAIN, NO_SET_ID), (ROOT, ROOT_NO_SET_ID)):
        for mode in SET_ID:
            answer, after = tried(abi, way, tmp_path, mode, without)
            assert answer >= 0 and after == mode
            answer, after = tried(abi, way, tmp_path, mode, program)
            assert answer == -errno.EPERM and after in (None, 0o600), oct(mode)
        for mode in (0o755, 0o1777, 0):
            answer, after = tried(abi, way, tmp_path, mode, program)
            assert answer >= 0 and after == mode, oct(mode)


@pytest.mark.parametrize("way", WAYS)
def test_the_upper_half_of_a_register_hides_no_bit(tmp_path: Path, abi: Call, way: str) -> None:
    answer, _ = tried(abi, way, tmp_path, HIGH | 0o755, None)
    if answer == -errno.ENOSYS:
        pytest.skip(f"the kernel lacks {way}")
    assert tried(abi, way, tmp_path, HIGH | 0o4755, PLAIN)[1] == 0o4755
    assert tried(abi, way, tmp_path, HIGH | 0o4755, NO_SET_ID)[0] == -errno.EPERM
    assert tried(abi, way, tmp_path, HIGH | 0o755, NO_SET_ID)[1] == 0o755


def test_a_mode_that_the_kernel_ignores_is_not_judged(tmp_path: Path, abi: Call) -> None:
    path = tmp_path / "file"
    os.close(make(path))

    def answers() -> list[int]:
        return [
            answer
            for mode in (0o4755, 0o6777, 0xFFFFFFFF)
            for flags in (os.O_RDONLY, os.O_RDWR | os.O_CLOEXEC)
            for answer in (
                abi("open", named(path), flags, mode),
                abi("openat", HERE, named(path), flags, mode),
                abi("openat", HERE, named(tmp_path), os.O_DIRECTORY, mode),
            )
        ]

    for program in (NO_SET_ID, ROOT_NO_SET_ID):
        assert min(in_session(answers, program)) >= 0


def test_openat2_is_unknown_where_its_mode_could_not_be_seen(tmp_path: Path, abi: Call) -> None:
    how = b"".join(value.to_bytes(8, "little") for value in (os.O_CREAT | os.O_WRONLY, 0o4755, 0))

    def opened(path: Path) -> int:
        name, structure = low(os.fsencode(path), how)
        return abi("openat2", HERE, name, structure, len(how))

    assert in_session(lambda: opened(tmp_path / "with"), PLAIN) >= 0
    assert (tmp_path / "with").stat().st_mode & 0o4000
    for program in (NO_SET_ID, ROOT_NO_SET_ID):
        assert in_session(lambda: opened(tmp_path / "without"), program) == -errno.ENOSYS
    assert not (tmp_path / "without").exists()


def test_the_kernel_makes_no_directory_with_a_set_id_bit(tmp_path: Path, abi: Call) -> None:
    for number, name in enumerate(("mkdir", "mkdirat")):
        path = tmp_path / str(number)
        where = (HERE,) if name == "mkdirat" else ()
        assert in_session(lambda n=name, w=where, p=path: abi(n, *w, named(p), 0o7755), NO_SET_ID) == 0
        assert stat.S_IMODE(path.stat().st_mode) == 0o1755


def test_devices_are_pretended_beside_the_refusal(tmp_path: Path, abi: Call) -> None:
    def node(name: str, mode: int) -> int:
        return abi("mknod", named(tmp_path / name), mode, 0x103)

    assert in_session(lambda: node("device", stat.S_IFCHR | 0o600), ROOT_NO_SET_ID) == 0
    assert in_session(lambda: node("device", stat.S_IFBLK | 0o4600), ROOT_NO_SET_ID) == 0
    assert in_session(lambda: node("device", stat.S_IFCHR | 0o600), NO_SET_ID) == -errno.EPERM
    assert in_session(lambda: node("pipe", stat.S_IFIFO | 0o600), ROOT_NO_SET_ID) == 0
    assert in_session(lambda: node("other", stat.S_IFIFO | 0o4600), ROOT_NO_SET_ID) == -errno.EPERM
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]


def test_owners_are_pretended_as_without_the_refusal(tmp_path: Path, abi: Call) -> None:
    path = tmp_path / "file"
    os.close(make(path))
    names = ("chown", "chown32") if abi is by_name_32 else ("chown",)
    for name in names:
        assert in_session(lambda n=name: abi(n, named(path), 1234, 1234), ROOT_NO_SET_ID) == 0
        assert in_session(lambda n=name: abi(n, named(path), 1234, 1234), NO_SET_ID) == -errno.EINVAL
