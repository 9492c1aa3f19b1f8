"""Locks as files."""

from __future__ import annotations

from pathlib import Path

import pytest

from pkgcache.lock import Lock, LockedLayer
from pkgcache.records import Locked
from sandbox import locks
from sandbox.errors import InputError

# Versions that YAML would take for a number, a date or a truth value.
ODD = tuple(
    Locked(f"p{number}", text) for number, text in enumerate(["1.0", "2026-01-01", "1e3", "on", "~", "0x1"])
)
LOCK = Lock(
    "debian", "debian-1", "linux/x86_64", (LockedLayer("pip", ("a", "b[c]>=1"), "2026-01-01T00:00:00Z", ODD),)
)


@pytest.mark.parametrize("write", [locks.to_json, locks.to_yaml])
def test_a_lock_is_read_as_it_was_written_and_written_alike(write, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    file = tmp_path / "lock"
    file.write_text(write(LOCK))
    assert locks.read(str(file)) == LOCK
    assert write(locks.read(str(file))) == file.read_text()


def test_a_lock_may_be_longer_than_an_environment(tmp_path: Path) -> None:
    many = tuple(Locked(f"package-{number}", "1.0", "sha256:" + "0" * 64) for number in range(4000))
    lock = LOCK._replace(layers=(LOCK.layers[0]._replace(packages=many),))
    file = tmp_path / "lock"
    file.write_text(locks.to_json(lock))
    assert locks.read(str(file)) == lock


@pytest.mark.parametrize("text", ["", "lock: [", "lock: 1\nlock: 1\n", "name: x\n"])
def test_what_is_no_lock_is_refused_with_its_name(text: str, tmp_path: Path) -> None:
    file = tmp_path / "lock"
    file.write_text(text)
    with pytest.raises(Exception, match=str(file)) as refused:
        locks.read(str(file))
    assert getattr(refused.value, "exit_code", None) == 2


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file"):
        locks.read(str(tmp_path / "none"))
