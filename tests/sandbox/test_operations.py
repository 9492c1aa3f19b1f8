"""Operations that write files, done for real below a directory."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sandbox import operations as ops


def test_files_links_and_directories_are_made(tmp_path: Path) -> None:
    root = str(tmp_path)
    for step in (
        ops.Directory("/d/e", 0o1777),
        ops.WriteFile("/d/f", b"new", 0o600),
        ops.Symlink("/d/l", "/anywhere"),
        ops.Symlink("/d/l", "/elsewhere"),
    ):
        step.execute(root)
    assert (tmp_path / "d/e").stat().st_mode & 0o7777 == 0o1777
    assert (tmp_path / "d/f").read_bytes() == b"new"
    assert (tmp_path / "d/f").stat().st_mode & 0o777 == 0o600
    assert os.readlink(tmp_path / "d/l") == "/anywhere"


def test_a_file_takes_the_place_of_a_link_and_never_writes_through_it(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("kept")
    (tmp_path / "root").mkdir()
    (tmp_path / "root/f").symlink_to(victim)
    ops.WriteFile("/f", b"new").execute(str(tmp_path / "root"))
    assert victim.read_text() == "kept"
    assert (tmp_path / "root/f").read_text() == "new"


@pytest.mark.parametrize(
    "step", [ops.Masked("/none"), ops.ReadOnly("/none"), ops.Setting("none", "1", optional=True)]
)
def test_what_is_not_there_needs_nothing(tmp_path: Path, step: ops.Masked) -> None:
    step.execute(str(tmp_path))


def test_a_setting_that_is_needed_and_not_there_is_a_failure(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        ops.Setting("none", "1").execute(str(tmp_path))
