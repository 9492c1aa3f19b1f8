"""The scripts that people and continuous integration run alike."""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS = [
    *sorted(
        path
        for path in (ROOT / "scripts").iterdir()
        if path.is_file() and path.read_bytes().startswith(b"#!")
    ),
    ROOT / ".ci/run",
]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_every_script_can_be_executed_and_says_what_it_does(script: Path) -> None:
    assert os.access(script, os.X_OK)
    lines = script.read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith(("#!/bin/bash", "#!/bin/sh", "#!/usr/bin/env python3"))
    assert lines[1].startswith(("# ", '"""'))


@pytest.mark.parametrize(
    "script",
    [path for path in SCRIPTS if b"sh" in path.read_bytes().split(b"\n")[0]],
    ids=lambda path: path.name,
)
def test_every_shell_script_is_read_by_its_shell(script: Path) -> None:
    subprocess.run(["bash", "-n", str(script)], check=True, capture_output=True)


def test_setup_refuses_an_unknown_option_and_does_nothing() -> None:
    done = subprocess.run([ROOT / "scripts/setup", "--evd"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "--evd" in done.stderr
    assert "--dev" in done.stderr


def test_setup_says_so_when_the_clone_belongs_to_somebody_else(empty_data_dir: Path) -> None:
    clone = empty_data_dir / "clone"
    (clone / "scripts").mkdir(parents=True)
    script = clone / "scripts/setup"
    script.write_bytes((ROOT / "scripts/setup").read_bytes())
    script.chmod(0o755)
    clone.chmod(0o555)
    # Root of the machine is nobody in a user namespace that maps no id.
    become = ["unshare", "--user"] if os.geteuid() == 0 else []
    done = subprocess.run([*become, script], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"{clone} is not writable" in done.stderr
