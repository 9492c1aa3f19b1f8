"""Class: what a session leaves behind leads the host's own hand astray (docs/threats/leftovers.md)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.capabilities import need
from tests.sessions.running import PYTHON, Sandbox


@pytest.mark.parametrize("how", ["the directory itself", "one above it"])
def test_a_link_in_place_of_the_outputs_directory_is_not_followed(
    either_sandbox: Sandbox, tmp_path: Path, how: str
) -> None:
    """The outputs go to a directory of the workspace, which the session can write to and replace."""
    victim, workspace = tmp_path / "victim", tmp_path / "workspace"
    (victim / "out").mkdir(parents=True)
    (workspace / "a/out").mkdir(parents=True)
    options = ("--workspace-rw", str(workspace), "--outputs", str(workspace / "a/out"))
    leave = "echo left > /mnt/session/outputs/file"
    either_sandbox.sh(leave, *options)
    assert (workspace / "a/out/file").read_text() == "left\n"
    swap = {
        "the directory itself": f"mv /workspace/a/out /workspace/moved; ln -s {victim} /workspace/a/out",
        "one above it": f"mv /workspace/a /workspace/moved; ln -s {victim} /workspace/a",
    }[how]
    either_sandbox.sh(f"rm /workspace/a/out/file; {swap}; {leave}", *options)
    assert [path for path in victim.rglob("*") if path.is_file()] == []
    assert len(list(workspace.glob("moved/**/file"))) == 1, "it goes where the directory went"


def test_links_can_not_lead_out_of_the_outputs_together(either_sandbox: Sandbox, tmp_path: Path) -> None:
    """Each one alone looks as if it stayed inside."""
    (tmp_path / "secret").write_text("a canary's song")
    script = """
    cd /mnt/session/outputs; mkdir -p a/b/c; echo mine > mine
    ln -s ../../.. a/b/c/top; ln -s a/b/c/top/../secret evil; ln -s a/b/c/top/mine good; echo done"""
    done = either_sandbox.run("--outputs", str(tmp_path / "out"), "--", "sh", "-ec", script)
    assert done.out == "done\n"
    assert (tmp_path / "out/good").read_text() == "mine\n"
    assert not os.path.lexists(tmp_path / "out/evil")
    assert "not collected from the outputs: 'evil'" in done.err


def test_a_file_of_holes_does_not_fill_the_hosts_disk(either_sandbox: Sandbox, tmp_path: Path) -> None:
    script = """
    cd /mnt/session/outputs; echo x > small
    truncate -s 4T huge; echo end | dd of=huge bs=1 seek=1T 2>/dev/null"""
    either_sandbox.sh(script, "--outputs", str(tmp_path / "out"))
    assert (tmp_path / "out/small").read_text() == "x\n"
    assert (tmp_path / "out/huge").stat().st_size > 1 << 40
    assert (tmp_path / "out/huge").stat().st_blocks * 512 < 1 << 20


NAMES = r"""
import os
os.chdir('/mnt/session/outputs')
os.mkfifo('fifo\x1b]0;title\x07\x1b[2J')
os.symlink('/etc/\x1b[31mpasswd', 'link\nsandboxsh: denied nothing')
os.symlink('../x\udc80\r', 'odd\udc9b')
open('plain', 'w').write('x')
"""


def test_names_can_not_write_to_the_terminal_through_the_closing_lines(
    either_sandbox: Sandbox, tmp_path: Path
) -> None:
    done = either_sandbox.run("--outputs", str(tmp_path / "out"), "--", PYTHON, "-Ic", NAMES)
    assert os.listdir(tmp_path / "out") == ["plain"]
    assert all(character.isprintable() for line in done.err.split("\n") for character in line), done.err
    assert len(done.err.splitlines()) == 3
    assert all(line.startswith("sandboxsh: not collected") for line in done.err.splitlines())


def test_rights_do_not_leave_with_the_outputs(either_sandbox: Sandbox, tmp_path: Path) -> None:
    script = (
        "cd /mnt/session/outputs; cp /bin/sh shell; chmod 6755 shell; mkdir d; chmod 7777 d; echo x > plain"
    )
    either_sandbox.sh(script, "--outputs", str(tmp_path / "out"))
    assert (tmp_path / "out/shell").stat().st_mode & 0o7777 == 0o755
    assert (tmp_path / "out/d").stat().st_mode & 0o7000 == 0
    assert {(tmp_path / "out" / name).stat().st_uid for name in ("shell", "d", "plain")} == {os.geteuid()}


def test_what_other_ids_own_is_collected_as_the_callers(sandbox: Sandbox, tmp_path: Path) -> None:
    need("subids")
    script = "cd /mnt/session/outputs; echo x > f; chmod 600 f; chown 1234:4321 f . ; chmod 700 ."
    sandbox.sh(script, "--ids", "range", "--outputs", str(tmp_path / "out"))
    assert (tmp_path / "out/f").read_text() == "x\n"
    assert (tmp_path / "out/f").stat().st_uid == os.geteuid()


@pytest.mark.parametrize("option", ["--outputs", "--file", "--mount", "--egress-log"])
def test_a_link_in_the_workspace_chooses_no_other_place_of_the_host(
    either_sandbox: Sandbox, tmp_path: Path, option: str
) -> None:
    """A repository brought it, or an earlier session left it. The place itself may be named."""
    (tmp_path / "workspace").mkdir()
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret/file").write_text("a canary's song\n")
    (tmp_path / "workspace/link").symlink_to("../secret")
    leave = (
        "--",
        "sh",
        "-c",
        "echo left > /mnt/session/outputs/left; cat /given /given/file 2>/dev/null; true",
    )
    for place, refused in ((tmp_path / "workspace/link", True), (tmp_path / "secret", False)):
        value = {
            "--outputs": str(place),
            "--file": f"{place}/file:/given",
            "--mount": f"{place}:/given",
            "--egress-log": f"{place}/log",
        }[option]
        done = either_sandbox.run("--workspace", str(tmp_path / "workspace"), option, value, *leave)
        made = sorted(path.name for path in (tmp_path / "secret").iterdir())
        if refused:
            assert (done.code, done.out, made) == (2, "", ["file"]), done
            assert "symbolic link" in done.err
        else:
            assert done.code == 0, done
            assert "song" in done.out or made != ["file"]
