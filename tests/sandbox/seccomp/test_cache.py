"""Programs are kept in files that are believed only when they are whole and the user's own."""

from __future__ import annotations

import hashlib
import io
import os
import stat
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from sandbox import seccomp
from sandbox.seccomp import cache, policy
from sandbox.seccomp.assemble import assemble
from sandbox.seccomp.build import build
from tests.sandbox.seccomp.programs import KNOWN, MODES, Mode, table

LIMIT = 4096


def test_the_cache_identity_follows_the_rules_and_the_assembler() -> None:
    names = sorted(
        {*policy.ALLOWED, *policy.REFUSED, *policy.TESTED, *policy.SET_ID_REFUSED, *policy.NUMBERED}
    )
    known = {name: number for number, name in enumerate(names) if name not in policy.NUMBERED}
    digest = hashlib.blake2b(digest_size=8)
    for mode in MODES:
        digest.update(assemble([(token, table(mode, known)) for token in sorted(KNOWN)]))
    assert digest.hexdigest() == cache.IDENTITY, "set IDENTITY to the digest on the left"


def only_file(directory: Path) -> Path:
    (path,) = directory.iterdir()
    return path


@pytest.mark.parametrize("mode", MODES)
def test_a_program_is_kept_privately_and_recalled(tmp_path: Path, mode: Mode) -> None:
    directory = tmp_path / "a" / "b"
    first = seccomp.program(mode.emulate_root, str(directory), mode.refuse_set_id)
    path = only_file(directory)
    before = path.stat()
    assert stat.S_IMODE(before.st_mode) == 0o600
    again = seccomp.program(mode.emulate_root, str(directory), mode.refuse_set_id)
    assert again == first == build(mode.emulate_root, os.uname().machine, mode.refuse_set_id)
    assert path.stat().st_ino == before.st_ino


def test_each_combination_is_kept_apart(tmp_path: Path) -> None:
    programs = {seccomp.program(mode.emulate_root, str(tmp_path), mode.refuse_set_id) for mode in MODES}
    assert len(programs) == len(MODES) == 4
    assert {
        mode: seccomp.program(mode.emulate_root, str(tmp_path), mode.refuse_set_id) for mode in MODES
    } == {mode: build(mode.emulate_root, os.uname().machine, mode.refuse_set_id) for mode in MODES}
    assert len(list(tmp_path.iterdir())) == 4


def spoil_digest(content: bytes) -> bytes:
    return bytes([content[0] ^ 1]) + content[1:]


def spoil_program(content: bytes) -> bytes:
    return content[:-3] + bytes([content[-3] ^ 1]) + content[-2:]


@pytest.mark.parametrize(
    "spoil",
    [
        spoil_digest,
        spoil_program,
        lambda content: b"",
        lambda content: content[:31],
        lambda content: content[:32],
        lambda content: content[:-8],
        lambda content: content[:-1],
        lambda content: content + bytes(8),
        lambda content: content + bytes(LIMIT * 8),
        lambda content: os.urandom(len(content)),
        lambda content: hashlib.blake2b(b"", digest_size=32).digest(),
    ],
)
def test_a_spoilt_file_is_built_anew(tmp_path: Path, spoil: object) -> None:
    good = seccomp.program(False, str(tmp_path))
    path = only_file(tmp_path)
    content = path.read_bytes()
    assert callable(spoil)
    path.write_bytes(spoil(content))
    assert seccomp.program(False, str(tmp_path)) == good
    assert only_file(tmp_path).read_bytes() == content


def test_a_file_that_others_may_write_is_not_believed(tmp_path: Path) -> None:
    good = seccomp.program(False, str(tmp_path))
    path = only_file(tmp_path)
    other = struct.pack("=HBBI", 6, 0, 0, policy.ALLOW)
    forged = hashlib.blake2b(other, digest_size=32).digest() + other
    path.write_bytes(forged)
    assert seccomp.program(False, str(tmp_path)) == other
    path.chmod(0o620)
    assert seccomp.program(False, str(tmp_path)) == good


def test_a_link_or_a_pipe_in_the_files_place_is_replaced(tmp_path: Path) -> None:
    good = seccomp.program(False, str(tmp_path))
    path = only_file(tmp_path)
    elsewhere = tmp_path.with_name(f"{tmp_path.name}-elsewhere")
    path.rename(elsewhere)
    path.symlink_to(elsewhere)
    assert seccomp.program(False, str(tmp_path)) == good
    assert not path.is_symlink()
    path.unlink()
    os.mkfifo(path, 0o600)
    assert seccomp.program(False, str(tmp_path)) == good
    assert path.is_file()


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_bytes(b"")
    assert seccomp.program(False, str(blocked / "below")) == build(False, os.uname().machine)
    assert list(tmp_path.iterdir()) == [blocked]


def test_many_first_builders_agree(tmp_path: Path) -> None:
    script = (
        "import sys; from sandbox import seccomp; sys.stdin.read(1);"
        "sys.stdout.buffer.write(seccomp.program(False, sys.argv[1]))"
    )
    started = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        for _ in range(4)
    ]
    for process in started:
        assert isinstance(process.stdin, io.IOBase)
        process.stdin.close()
    outputs = set()
    for process in started:
        with process:
            assert process.stdout is not None
            outputs.add(process.stdout.read())
    assert outputs == {build(False, os.uname().machine)}
    only_file(tmp_path)


def test_recalling_a_program_imports_nothing_heavy(tmp_path: Path) -> None:
    seccomp.program(False, str(tmp_path))
    script = (
        "import sys; from sandbox import seccomp; seccomp.program(False, sys.argv[1]); print(*sys.modules)"
    )
    done = subprocess.run(
        [
            sys.executable,
            "-I",
            "-S",
            "-c",
            f"import sys; sys.path[:0] = {sys.path!r}; {script}",
            str(tmp_path),
        ],
        check=True,
        capture_output=True,
        text=True,
    )
    heavy = {"pyseccomp", "hashlib", "dataclasses", "pathlib", "typing", "inspect", "sandbox.seccomp.policy"}
    loaded = set(done.stdout.split())
    assert "sandbox.seccomp.cache" in loaded
    assert not heavy & loaded


def test_programs_of_other_versions_go_and_the_current_ones_stay(tmp_path: Path) -> None:
    cache.program(False, str(tmp_path))
    current = only_file(tmp_path)
    old = tmp_path / "seccomp-x86_64-owners-real-modes-any-0123456789abcdef"
    last = int(Path("/proc/sys/kernel/pid_max").read_text())
    dead, living = (tmp_path / f".{current.name}.{pid}" for pid in (last + 1, os.getpid()))
    other = tmp_path / "something-else"
    for path in (old, dead, living, other):
        path.touch()
    assert set(cache.forget_old(str(tmp_path), dry_run=True)) == {str(old), str(dead)}
    assert old.exists()
    assert set(cache.forget_old(str(tmp_path))) == {str(old), str(dead)}
    assert set(tmp_path.iterdir()) == {current, living, other}


def test_there_may_be_no_programs_yet(tmp_path: Path) -> None:
    assert cache.forget_old(str(tmp_path / "nothing")) == ()
