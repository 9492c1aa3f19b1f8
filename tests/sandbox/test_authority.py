"""The installation's authority: made once, whoever asks first, and believed only when it is the owner's alone."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sandbox import authority
from sandbox.errors import HostError


def test_it_is_made_on_first_need_and_kept(tmp_path: Path) -> None:
    assert authority.read(str(tmp_path)) is None
    assert os.listdir(tmp_path) == []
    made = authority.ensure(str(tmp_path))
    assert made.certificate.startswith(b"-----BEGIN CERTIFICATE-----")
    assert made.key.startswith(b"-----BEGIN PRIVATE KEY-----")
    assert authority.ensure(str(tmp_path)) == authority.read(str(tmp_path)) == made
    assert os.listdir(tmp_path / "ca") == ["authority.pem"]


def test_nobody_else_can_read_the_key(tmp_path: Path) -> None:
    authority.ensure(str(tmp_path))
    assert (tmp_path / "ca").stat().st_mode & 0o077 == 0
    assert (tmp_path / "ca" / "authority.pem").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("damage", ["open", "cut", "empty"])
def test_one_that_can_not_be_believed_is_made_anew(damage: str, tmp_path: Path) -> None:
    made = authority.ensure(str(tmp_path))
    path = tmp_path / "ca" / "authority.pem"
    if damage == "open":
        path.chmod(0o644)
    elif damage == "cut":
        path.write_bytes(made.certificate)
    else:
        path.write_bytes(b"")
    assert authority.read(str(tmp_path)) is None
    again = authority.ensure(str(tmp_path))
    assert again.certificate != made.certificate
    assert authority.read(str(tmp_path)) == again


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    authority.ensure(str(tmp_path / "one"))
    (tmp_path / "two" / "ca").mkdir(parents=True)
    (tmp_path / "two" / "ca" / "authority.pem").symlink_to(tmp_path / "one" / "ca" / "authority.pem")
    with pytest.raises(HostError, match=r"authority\.pem"):
        authority.read(str(tmp_path / "two"))


def test_many_who_need_it_first_have_the_same(tmp_path: Path) -> None:
    script = f"from sandbox import authority; print(authority.ensure({str(tmp_path)!r}).certificate)"
    running = [
        subprocess.Popen(
            [sys.executable, "-c", script], stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]
        )
        for _ in range(4)
    ]
    assert len({each.communicate(timeout=60)[0] for each in running}) == 1
    assert os.listdir(tmp_path / "ca") == ["authority.pem"]
