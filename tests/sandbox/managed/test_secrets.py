"""Sealed secrets: opened with their key and purpose alone."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from sandbox.errors import HostError
from sandbox.managed.secrets import Secrets


def test_what_was_sealed_is_opened_by_another_process_s_object(tmp_path: Path) -> None:
    path = tmp_path / "key"
    sealed = Secrets(str(path)).seal("s3cret ü", "repository")
    assert b"s3cret" not in sealed
    assert Secrets(str(path)).open(sealed, "repository") == "s3cret ü"
    assert Secrets(str(path)).seal("s3cret ü", "repository") != sealed
    assert path.stat().st_mode & 0o777 == 0o600


def test_another_purpose_key_or_changed_bytes_open_nothing(tmp_path: Path) -> None:
    secrets = Secrets(str(tmp_path / "key"))
    sealed = secrets.seal("s3cret", "repository")
    for wrong in (sealed[:-1] + bytes([sealed[-1] ^ 1]), sealed[:5], b""):
        with pytest.raises(HostError, match="can't be opened"):
            secrets.open(wrong, "repository")
    with pytest.raises(HostError, match="can't be opened"):
        secrets.open(sealed, "vault")
    other = Secrets(str(tmp_path / "other"))
    with pytest.raises(HostError, match="can't be used"):
        other.open(sealed, "repository")
    other.seal("x")
    with pytest.raises(HostError, match="can't be opened"):
        other.open(sealed, "repository")
    (tmp_path / "short").write_bytes(b"x")
    with pytest.raises(HostError, match="does not hold 32 bytes"):
        Secrets(str(tmp_path / "short")).seal("x")


def test_several_that_begin_at_once_have_one_key(tmp_path: Path) -> None:
    path = str(tmp_path / "key")
    sealed: list[bytes] = []
    threads = [threading.Thread(target=lambda: sealed.append(Secrets(path).seal("x"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [Secrets(path).open(one) for one in sealed] == ["x"] * 8
    assert [found.name for found in tmp_path.iterdir()] == ["key"]
