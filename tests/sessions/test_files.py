"""The directories and files that a session is given: copied on write, written through, copied in, copied out."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

import pytest

from tests.capabilities import need
from tests.sessions.running import Sandbox

ODD_NAMES = [
    "plain",
    "a b",
    "colon:name",
    "comma,name",
    "back\\slash",
    "new\nline",
    "quote'\"",
    "ünï",
    "-dash",
    "\udcff",
]


def fingerprint(top: Path) -> str:
    """Names, kinds, owners, times and contents of everything below, and of itself."""
    lines = []
    for path in sorted([top, *top.rglob("*")]):
        found = path.lstat()
        content = path.read_bytes() if stat.S_ISREG(found.st_mode) else b""
        lines.append(repr((str(path), found.st_mode, found.st_uid, found.st_mtime_ns, found.st_ino, content)))
    return hashlib.sha256("\n".join(lines).encode(errors="surrogateescape")).hexdigest()


@pytest.fixture
def project(tmp_path: Path) -> Path:
    top = tmp_path / "project"
    (top / "sub").mkdir(parents=True)
    (top / "file").write_text("original\n")
    (top / "sub/file").write_text("below\n")
    (top / "link").symlink_to("file")
    return top


CHANGES = (
    "cat file sub/file link; echo new > file; echo x > made; rm -r sub; mkdir sub; echo y > sub/z; mv link moved; "
    "chmod 700 moved; touch -d 2001-01-01 file; cat file made sub/*"
)


def test_a_workspace_is_copied_on_write(either_sandbox: Sandbox, project: Path) -> None:
    before = fingerprint(project)
    out = either_sandbox.sh(CHANGES, "--workspace", str(project))
    assert out == "original\nbelow\noriginal\nnew\nx\ny\n"
    assert fingerprint(project) == before


def test_a_workspace_can_be_written_through(either_sandbox: Sandbox, project: Path) -> None:
    either_sandbox.sh(CHANGES, "--workspace-rw", str(project))
    assert (project / "file").read_text() == "new\n"
    assert sorted(path.name for path in project.iterdir()) == ["file", "made", "moved", "sub"]
    assert (project / "made").stat().st_uid == os.geteuid()
    assert (project / "sub/z").read_text() == "y\n"


@pytest.mark.parametrize("name", ODD_NAMES)
def test_directories_with_odd_names_can_be_given(sandbox: Sandbox, tmp_path: Path, name: str) -> None:
    top = tmp_path / name
    top.mkdir()
    (top / "file").write_text("content")
    script = "cat /workspace/file /given/file; echo x > /workspace/x"
    assert sandbox.sh(script, "--workspace", str(top), "--mount", f"{top}:/given:ro") == "content" * 2
    assert os.listdir(top) == ["file"]
    sandbox.sh("echo x > x", "--workspace-rw", str(top))
    assert sorted(os.listdir(top)) == ["file", "x"]


def test_a_relative_workspace_is_relative_to_the_caller(sandbox: Sandbox, project: Path) -> None:
    assert sandbox.sh("pwd; cat file", "--workspace", ".", cwd=project) == "/workspace\noriginal\n"
    assert sandbox.sh("cat sub/file", "--workspace", "../project", cwd=project) == "below\n"


def test_a_workspace_that_the_user_may_not_read_stays_unread(sandbox: Sandbox, project: Path) -> None:
    need("ordinary-user")
    (project / "closed").mkdir(mode=0)
    try:
        assert sandbox.run("--workspace", str(project), "--", "cat", "file").out == "original\n"
    finally:
        (project / "closed").chmod(0o700)


def test_a_mount_is_read_only_unless_said_otherwise(either_sandbox: Sandbox, project: Path) -> None:
    before = fingerprint(project)
    script = "cat /a/b/file; (echo x > /a/b/x) 2>/dev/null || echo refused; (rm /a/b/file) 2>/dev/null || echo refused"
    for suffix in ("", ":ro"):
        out = either_sandbox.sh(script, "--mount", f"{project}:/a/b{suffix}")
        assert out == "original\nrefused\nrefused\n"
    assert fingerprint(project) == before
    either_sandbox.sh("echo x > /a/b/x; rm /a/b/file", "--mount", f"{project}:/a/b:rw")
    assert (project / "x").read_text() == "x\n"
    assert not (project / "file").exists()


def test_a_read_only_mount_can_not_be_made_writable_from_inside(
    either_sandbox: Sandbox, project: Path
) -> None:
    script = (
        "mount -o remount,rw /a 2>/dev/null && echo WRITABLE; umount /a 2>/dev/null && echo GONE; cat /a/file"
    )
    assert either_sandbox.sh(script, "--mount", f"{project}:/a") == "original\n"


def test_a_single_file_can_be_mounted(either_sandbox: Sandbox, project: Path) -> None:
    script = "cat /etc/given; echo x >> /etc/given; cat /etc/given"
    out = either_sandbox.sh(script, "--mount", f"{project}/file:/etc/given:rw")
    assert out == "original\noriginal\nx\n"
    assert (project / "file").read_text() == "original\nx\n"


def test_set_id_programs_that_a_session_makes_in_a_writable_mount_give_nothing(
    either_sandbox: Sandbox, project: Path
) -> None:
    """Whatever bits the file has on the host, it belongs to nobody more powerful than the caller."""
    either_sandbox.sh(
        "cp /bin/sh /a/sh; chmod 6755 /a/sh 2>/dev/null || true; mknod /a/null c 1 3 2>/dev/null || true",
        "--mount",
        f"{project}:/a:rw",
    )
    found = (project / "sh").stat()
    assert found.st_uid == os.geteuid()
    if os.geteuid() == 0:
        assert not found.st_mode & 0o6000
    assert not (project / "null").exists() or not stat.S_ISCHR((project / "null").stat().st_mode)


def test_a_file_is_a_read_only_copy(either_sandbox: Sandbox, project: Path) -> None:
    script = "cat /etc/a/b; (echo x > /etc/a/b) 2>/dev/null || echo refused; cat /etc/a/b"
    out = either_sandbox.sh(script, "--file", f"{project}/link:/etc/a/b")
    assert out == "original\nrefused\noriginal\n"
    assert (project / "file").read_text() == "original\n"


def test_a_mount_point_below_a_link_of_the_workspace_stays_in_the_session(
    sandbox: Sandbox, project: Path, tmp_path: Path
) -> None:
    """The workspace holds a link to a directory of the host; a mount below it must not be made there."""
    target = tmp_path / "host"
    target.mkdir()
    (project / "out").symlink_to(target)
    sandbox.run("--workspace", str(project), "--mount", f"{project}/sub:/workspace/out/deep", "--", "true")
    assert list(target.iterdir()) == []


def test_outputs_are_copied_out(either_sandbox: Sandbox, tmp_path: Path) -> None:
    script = (
        "cd /mnt/session/outputs; echo a > a; mkdir -p d/e; echo b > d/e/b; chmod 750 a; ln -s d/e/b good; "
        "touch -d 2001-02-03T04:05:06Z a; printf 'x' > \"new\nline\"; : > empty; head -c 30000000 /dev/zero > huge"
    )
    done = either_sandbox.run("--outputs", str(tmp_path / "out/deep"), "--json", "--", "sh", "-ec", script)
    top = tmp_path / "out/deep"
    assert (done.code, done.report()["outputs"], done.report()["outputs_left_behind"]) == (0, 6, [])
    assert (top / "a").read_text() == "a\n"
    assert stat.S_IMODE((top / "a").stat().st_mode) == 0o750
    assert int((top / "a").stat().st_mtime) == 981173106
    assert (top / "d/e/b").read_text() == "b\n"
    assert os.readlink(top / "good") == "d/e/b"
    assert (top / "new\nline").read_text() == "x"
    assert (top / "huge").stat().st_size == 30_000_000
    assert {path.lstat().st_uid for path in top.rglob("*")} == {os.geteuid()}


def test_outputs_are_collected_whatever_the_exit_code(sandbox: Sandbox, tmp_path: Path) -> None:
    done = sandbox.run(
        "--outputs", str(tmp_path), "--", "sh", "-c", "echo x > /mnt/session/outputs/x; exit 9"
    )
    assert (done.code, (tmp_path / "x").read_text()) == (9, "x\n")
    done = sandbox.run(
        "--timeout",
        "0.2",
        "--outputs",
        str(tmp_path),
        "--",
        "sh",
        "-c",
        "echo y > /mnt/session/outputs/y; sleep 9",
    )
    assert (done.code, (tmp_path / "y").read_text()) == (124, "y\n")


def test_hostile_outputs_stay_behind_and_are_named(either_sandbox: Sandbox, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("canary")
    script = f"""
    cd /mnt/session/outputs; mkdir d
    ln -s /etc/passwd absolute; ln -s ../../secret up; ln -s ../../../x d/up
    ln -s {secret} direct; ln -s d/../../x round
    mkfifo fifo; mknod device c 1 3 2>/dev/null || : ; mknod disk b 254 0 2>/dev/null || :
    cp /bin/true setid; chmod 6755 setid
    echo kept > kept; : > 'name
with newline'; ln -s / 'link
newline'"""
    done = either_sandbox.run(
        "--outputs", str(tmp_path / "out"), "--json", "--", "sh", "-ec", script, timeout=60
    )
    top = tmp_path / "out"
    assert done.code == 0
    names = {str(path.relative_to(top)) for path in top.rglob("*")}
    assert {"kept", "setid", "d", "name\nwith newline"} <= names
    assert names <= {"kept", "setid", "d", "name\nwith newline", "device", "disk"}
    for name in ("device", "disk"):
        assert name not in names or stat.S_ISREG((top / name).lstat().st_mode)
    assert stat.S_IMODE((top / "setid").stat().st_mode) == 0o755
    left = done.report()["outputs_left_behind"]
    for name in ("absolute", "up", "d/up", "direct", "round", "fifo", "link\\nnewline"):
        assert any(line.startswith(f"'{name}':") for line in left), (name, left)
    assert "not collected from the outputs: 'fifo'" in done.err
    assert len(done.err.splitlines()) == len(left) + 1


def test_outputs_never_follow_what_stands_in_the_target(sandbox: Sandbox, tmp_path: Path) -> None:
    """An earlier session left a link; a later one writes a file of that name."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "victim").write_text("untouched")
    top = tmp_path / "out"
    top.mkdir()
    (top / "file").symlink_to(outside / "victim")
    (top / "folder").symlink_to(outside)
    script = "cd /mnt/session/outputs; echo new > file; mkdir folder; echo evil > folder/victim"
    done = sandbox.run("--outputs", str(top), "--json", "--", "sh", "-c", script)
    assert (outside / "victim").read_text() == "untouched"
    assert (top / "file").read_text() == "new\n"
    assert done.report()["outputs_left_behind"]


def test_the_outputs_directory_can_not_be_replaced_from_inside(sandbox: Sandbox, tmp_path: Path) -> None:
    script = "exec 2>/dev/null; rm -r /mnt/session; mv /mnt/session /mnt/x; ln -s /etc /mnt/session; true"
    done = sandbox.run("--outputs", str(tmp_path), "--", "sh", "-c", script)
    assert (done.code, os.listdir(tmp_path)) == (0, [])


def test_a_directory_tree_too_deep_to_copy_is_left_behind_and_the_rest_collected(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    script = "cd /mnt/session/outputs; echo x > kept; for i in $(seq 600); do mkdir d; cd d; done"
    done = sandbox.run("--outputs", str(tmp_path / "out"), "--json", "--", "sh", "-ec", script)
    assert done.code == 0
    assert (tmp_path / "out/kept").read_text() == "x\n"
    assert len(done.report()["outputs_left_behind"]) == 1


def test_variables_are_set_and_passed_on(sandbox: Sandbox) -> None:
    env = {"MINE": "passed = on", "OTHER": "not"}
    options = (
        "--setenv",
        "A=b=c",
        "--setenv",
        "EMPTY=",
        "--pass-env",
        "MINE",
        "--pass-env",
        "UNSET_ANYWHERE",
    )
    out = sandbox.sh(
        'echo "$A|$EMPTY|${EMPTY-unset}|$MINE|${OTHER-unset}|${UNSET_ANYWHERE-unset}"', *options, env=env
    )
    assert out == "b=c|||passed = on|unset|unset\n"
    assert (
        sandbox.sh("echo $HOME $PATH", "--setenv", "HOME=/x", "--setenv", "PATH=/usr/bin:/bin")
        == "/x /usr/bin:/bin\n"
    )


def test_the_working_directory_can_be_chosen(sandbox: Sandbox, project: Path) -> None:
    assert sandbox.ok("--workdir", "/usr/bin", "--", "pwd") == "/usr/bin\n"
    assert (
        sandbox.ok("--workspace", str(project), "--workdir", "/workspace/sub", "--", "cat", "file")
        == "below\n"
    )
    done = sandbox.run("--workdir", "/no/such", "--", "true")
    assert done.code == 125
    assert "working directory /no/such" in done.err


def test_a_dry_run_makes_nothing_and_tells_all(empty_data_dir: Path, project: Path, tmp_path: Path) -> None:
    fresh = Sandbox(empty_data_dir / "not-there")
    options = (
        "--workspace",
        str(project),
        "--allow",
        "a.test",
        "--file",
        f"{project}/file:/f",
        "--setenv",
        "A=b",
    )
    before = fingerprint(tmp_path)
    out = fresh.ok("--dry-run", *options, "--", "echo", "never")
    assert fingerprint(tmp_path) == before
    assert not (empty_data_dir / "not-there").exists()
    lines = out.splitlines()
    assert "command  echo never" in lines
    assert "variable A=b" in lines
    assert any(line.startswith("policy ") and "a.test" in line for line in lines)
    assert any(line.startswith("step     overlay /workspace:") for line in lines)
    assert any(line.startswith("ids      ") for line in lines)


def test_the_dry_run_of_outputs_and_logs_makes_neither(empty_data_dir: Path, tmp_path: Path) -> None:
    fresh = Sandbox(empty_data_dir / "not-there")
    fresh.ok("--dry-run", "--outputs", str(tmp_path / "o"), "--egress-log", str(tmp_path / "l"), "--", "true")
    assert list(tmp_path.iterdir()) == []
