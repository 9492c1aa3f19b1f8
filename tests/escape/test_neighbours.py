"""Class: other users of the machine, and what sessions leave for them (docs/threats/neighbours.md)."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.capabilities import need
from tests.sessions.running import Sandbox

# setpriv itself keeps root's capabilities until it has executed another program.
NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "sh", "-c", 'exec "$0" "$@"')
PLANT = "cp /bin/dash /tmp/shell 2>/dev/null || cp /bin/sh /tmp/shell; chmod 6755 /tmp/shell; echo planted; read x"


def test_a_set_id_program_in_a_session_is_out_of_other_users_reach(either_sandbox: Sandbox) -> None:
    """A session and another user of the machine work together. The same file in an open place gives them its id."""
    need("root")
    with either_sandbox.start("--", "sh", "-c", PLANT, stdin=subprocess.PIPE) as running:
        assert running.stdout is not None and running.stdout.readline() == b"planted\n"
        (planted,) = either_sandbox.data.glob("sessions/*/*/upper/tmp/shell")
        for each in (planted, *planted.parents[:3]):
            assert each.stat().st_mode & 0o001, "the directory of all these sessions alone is closed"
        found = planted.stat()
        assert found.st_mode & 0o6000 and found.st_uid not in (0, 65534)
        command = "grep ^Uid: /proc/self/status"
        tried = subprocess.run([*NOBODY, str(planted), "-pc", command], capture_output=True, text=True)
        assert (tried.returncode, tried.stdout) == (126, ""), tried
        open_place = Path(f"/var/tmp/sandboxsh-open-{os.getpid()}")
        shutil.copy(planted, open_place)
        try:
            os.chown(open_place, found.st_uid, found.st_gid)
            open_place.chmod(0o6755)
            lent = subprocess.run([*NOBODY, str(open_place), "-pc", command], capture_output=True, text=True)
            assert str(found.st_uid) in lent.stdout.split(), lent
        finally:
            open_place.unlink()
        running.communicate(b"\n", timeout=60)


def test_no_directory_of_sessions_lets_other_users_through(either_sandbox: Sandbox) -> None:
    either_sandbox.sh("true")
    for kind in ("ground", "sessions", "store"):
        tops = list((either_sandbox.data / kind).iterdir())
        assert tops
        for top in tops:
            mode = top.stat().st_mode & 0o777
            assert mode == (0o710 if os.geteuid() == 0 else 0o700), f"{top}: {mode:o}"


@pytest.mark.parametrize("option", ["--workspace-rw", "--mount"])
def test_the_data_directory_can_not_be_given_to_a_session_to_write_to(
    either_sandbox: Sandbox, empty_data_dir: Path, tmp_path: Path, option: str
) -> None:
    """Also not by a link; the same directory can be given to a session whose data is elsewhere, or to read."""
    (empty_data_dir / "project").mkdir()
    link = tmp_path / "link"
    link.symlink_to(empty_data_dir)
    inside = Sandbox(empty_data_dir / "project/data", *either_sandbox.options)

    def given(place: Path, mode: str = "rw") -> tuple[str, ...]:
        return (option, str(place)) if option == "--workspace-rw" else (option, f"{place}:/given:{mode}")

    for place in (empty_data_dir, link, empty_data_dir / "project", empty_data_dir / "project/data"):
        (empty_data_dir / "project/data").mkdir(mode=0o711, exist_ok=True)
        done = inside.run(*given(place), "--", "true")
        assert (done.code, option in done.err and "data directory" in done.err) == (2, True), done
    assert either_sandbox.sh("echo works", *given(empty_data_dir / "project")) == "works\n"
    assert inside.sh("ls /given", "--mount", f"{empty_data_dir}:/given") == "project\n"
