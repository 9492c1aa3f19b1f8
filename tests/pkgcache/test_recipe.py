from __future__ import annotations

import os
import subprocess

from pkgcache.recipe import MISSING, require


def shell(script: str, path: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["/bin/sh", "-c", script], env={"PATH": path}, capture_output=True, text=True, timeout=20, check=False
    )


def test_a_phase_whose_manager_is_not_there_says_so_and_ends(tmp_path: object) -> None:
    ended = shell(require("npm", "npm --version") + "echo went on\n", str(tmp_path))
    assert ended.returncode == MISSING
    assert ended.stdout == "@sandbox\tmissing\tnpm\n"


def test_a_phase_whose_manager_is_there_goes_on() -> None:
    ended = shell(require("sh", "command -v sh") + "echo went on\n", os.defpath)
    assert (ended.returncode, ended.stdout) == (0, "went on\n")
