"""Wrong options, missing files, hosts that can't: one message that says what and why, the exit code, nothing left."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from sandbox import environments
from tests.capabilities import need
from tests.sessions.running import SANDBOXSH, Ran, Sandbox, control

USAGE = [
    (["--no-such-option"], "--no-such-option"),
    (["--net", "some"], "--net some"),
    (["--ids", "many"], "--ids many"),
    (["--data", "/x", "--data", "/y"], "--data"),
    (["--allow", "https://a.test/path"], "a.test/path"),
    (["--allow", "http://a.test"], "http://a.test"),
    (["--allow", "*"], "*"),
    (["--allow", "10.0.0.1"], "10.0.0.1"),
    (["--allow", "user@a.test"], "user@a.test"),
    (["--allow", "a..test"], "a..test"),
    (["--allow", ""], "empty"),
    (["--allow", "a.test:0"], "a.test:0"),
    (["--allow", "a.test:99999"], "99999"),
    (["--net", "none", "--allow", "a.test"], "--allow"),
    (["--net", "unrestricted", "--allow", "a.test"], "unrestricted"),
    (["--connect-to", "a.test"], "--connect-to a.test"),
    (["--connect-to", "a.test=b.test"], "b.test"),
    (["--connect-to", "a.test:x=127.0.0.1"], "--connect-to"),
    (["--workspace", "/no/such/dir"], "/no/such/dir"),
    (["--workspace", "/etc/hostname"], "/etc/hostname"),
    (["--workspace", ".", "--workspace-rw", "."], "--workspace-rw"),
    (["--mount", "/usr"], "--mount /usr"),
    (["--mount", "/no/such:/a"], "/no/such"),
    (["--mount", "/usr:a"], "absolute"),
    (["--mount", "/usr:/a/../../b"], ".."),
    (["--mount", "/usr:/"], "belongs to the session"),
    (["--mount", "/usr:/proc/x"], "/proc/x"),
    (["--mount", "/usr:/dev"], "/dev"),
    (["--mount", "/usr://sys/./x"], "/sys/x"),
    (["--file", "/usr:/a"], "not a file"),
    (["--file", "/no/such:/a"], "/no/such"),
    (["--workdir", "relative"], "absolute"),
    (["--setenv", "NOVALUE"], "--setenv NOVALUE"),
    (["--setenv", "=x"], "--setenv"),
    (["--pass-env", "A=b"], "--pass-env A=b"),
    (["--timeout", "soon"], "--timeout soon"),
    (["--timeout", "0"], "--timeout 0"),
    (["--timeout", "-1"], "--timeout -1"),
    (["--timeout", "nan"], "--timeout nan"),
    (["--outputs", "/etc/hostname/x"], "--outputs"),
    (["--egress-log", "/no/such/dir/log"], "--egress-log"),
    (["--env", "no-such-name"], "no-such-name"),
    (["--env", "./no-such.yaml"], "no-such.yaml"),
    (["--base", "no-such-base"], "no-such-base"),
    (["--base", "host", "--apt", "jq", "--allow-package-managers"], "apt"),
    (["--pip", "six"], "--allow-package-managers"),
    (["--pip", "--index-url=x", "--allow-package-managers"], "--index-url=x"),
    (["--npm", "a b;c", "--allow-package-managers"], "npm"),
    (["--apt", "../x", "--allow-package-managers"], "../x"),
]


@pytest.mark.parametrize(("options", "words"), USAGE, ids=[" ".join(options) or "-" for options, _ in USAGE])
def test_wrong_options_are_2_and_name_what_is_wrong(
    empty_data_dir: Path, options: list[str], words: str
) -> None:
    done = Sandbox(empty_data_dir).run(*options, "--", "echo", "ran")
    assert (done.code, done.out) == (2, ""), done
    _one_message(done, words)
    assert not list(empty_data_dir.glob("sessions/*/*"))
    assert not list(empty_data_dir.glob("store/*/*/layers/*"))


BODIES = [
    ("networking: {type: limitd}", "networking"),
    ("no_such_key: 1", "no_such_key"),
    ("packages: {pip: six}", "packages"),
    ("packages: {pip: [6]}", "packages"),
    ("networking: {type: limited, allowed_hosts: ['http://a.test']}", "allowed_hosts"),
    ("networking: {type: limited, allowed_hosts: [a.test/x]}", "allowed_hosts"),
    ("packages: {pip: [six]}\nnetworking: {type: limited}", "allow_package_managers"),
    ("a: [", "env.yaml"),
    ("- 1", "env.yaml"),
]


@pytest.mark.parametrize(("body", "words"), BODIES, ids=[body for body, _ in BODIES])
@pytest.mark.parametrize("nested", [False, True])
def test_wrong_environments_are_2_and_name_the_field(
    empty_data_dir: Path, tmp_path: Path, body: str, words: str, nested: bool
) -> None:
    text = "name: x\nconfig:\n  type: cloud\n  " + body.replace("\n", "\n  ") + "\n" if nested else body
    (tmp_path / "env.yaml").write_text(text)
    done = Sandbox(empty_data_dir).run("--env", str(tmp_path / "env.yaml"), "--", "echo", "ran")
    assert (done.code, done.out) == (2, ""), done
    _one_message(done, words if nested else "")
    if body != "packages: {pip: [six]}\nnetworking: {type: limited}":
        built = control(empty_data_dir, "env", "build", str(tmp_path / "env.yaml"))
        assert (built.code, built.out) == (2, ""), built
    assert environments.names(str(empty_data_dir)) == []


def test_a_good_environment_runs(sandbox: Sandbox, tmp_path: Path) -> None:
    body = (
        "name: good\nconfig:\n  type: cloud\n  networking:\n    type: limited\n    allowed_hosts: [a.test]\n"
    )
    (tmp_path / "env.yaml").write_text(body)
    assert sandbox.ok("--env", str(tmp_path / "env.yaml"), "--", "echo", "ran") == "ran\n"
    assert "a.test" in sandbox.ok("--env", str(tmp_path / "env.yaml"), "--dry-run", "--", "true")


@pytest.mark.parametrize(
    "command",
    [["base", "remove", "no-such"], ["env", "build", "no-such"], ["base", "build", "../x"], ["nonsense"]],
)
def test_wrong_uses_of_sandboxctl_are_2(empty_data_dir: Path, command: list[str]) -> None:
    done = control(empty_data_dir, *command)
    assert done.code == 2, done
    assert "Traceback" not in done.err


def test_bases_can_be_listed_before_there_is_any(empty_data_dir: Path) -> None:
    done = control(empty_data_dir, "base", "list")
    assert done.code == 0, done
    assert "host" in done.out


def test_an_unwritable_data_directory_is_125(tmp_path: Path) -> None:
    need("ordinary-user")
    (tmp_path / "data").mkdir(mode=0o500)
    for data in (tmp_path / "data", tmp_path / "data/below", Path("/proc/data")):
        done = Sandbox(data).run("--", "true")
        assert done.code == 125
        _one_message(done, str(data))


def test_a_data_directory_that_is_a_file_or_can_not_be_made_is_125(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for data in (tmp_path / "file", tmp_path / "file/below", Path("/proc/sandboxsh")):
        done = Sandbox(data).run("--", "true")
        assert done.code == 125, done
        _one_message(done, str(data))


def test_a_workspace_that_holds_the_data_directory_is_refused(empty_data_dir: Path) -> None:
    (empty_data_dir / "data").mkdir(mode=0o711)
    fresh = Sandbox(empty_data_dir / "data")
    done = fresh.run("--workspace", str(empty_data_dir), "--", "true")
    assert done.code == 2
    _one_message(done, "data directory")
    assert fresh.left() == []


def test_a_full_disk_is_125_and_leaves_nothing(empty_data_dir: Path) -> None:
    """A data directory of 0 to 256 KiB: at each size the session runs, or says why not; then with room it runs."""
    need("tmpfs")
    script = f"""
    mount -t tmpfs -o size=4m,mode=0711 data {empty_data_dir} || exit 99
    head -c 100m /dev/zero > {empty_data_dir}/fill 2>/dev/null
    for left in 0 4 8 16 32 64 128 256 512; do
        [ $left = 0 ] || truncate -s -${{left}}k {empty_data_dir}/fill
        {SANDBOXSH} --ids single --data {empty_data_dir}/d -- sh -c 'echo x > /workspace/x && echo ran'
        echo "code $? left $(ls -d {empty_data_dir}/d/sessions/*/* 2>/dev/null | wc -l)"
    done
    rm {empty_data_dir}/fill; {SANDBOXSH} --ids single --data {empty_data_dir}/d -- echo at last
    """
    wall = (
        ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user", "--mount"]
    )
    done = subprocess.run([*wall, "sh", "-c", script], capture_output=True, text=True, timeout=60)
    lines = [line for line in done.stdout.splitlines() if line != "ran"]
    assert lines[-1] == "at last", done
    codes = {line.rpartition(" left ")[0] for line in lines[:-1]}
    assert {"code 125"} <= codes <= {"code 125", "code 0", "code 2", "code 1"}, done
    assert {line.rpartition(" left ")[2] for line in lines[:-1]} == {"0"}, done
    assert "Traceback" not in done.stderr, done.stderr
    assert "No space left" in done.stderr


def test_a_missing_home_is_a_message(tmp_path: Path) -> None:
    need("ordinary-user")
    env = {
        name: value
        for name, value in os.environ.items()
        if name not in ("HOME", "XDG_DATA_HOME", "SANDBOXSH_DATA")
    }
    done = subprocess.run([SANDBOXSH, "--", "true"], env=env, capture_output=True, text=True)
    assert done.returncode == 2
    assert "HOME" in done.stderr


def test_a_range_of_ids_that_is_not_there_is_a_message(sandbox: Sandbox) -> None:
    need("ordinary-user")
    if shutil.which("newuidmap") and os.path.exists("/etc/subuid"):
        pytest.skip("this user has a range")
    done = sandbox.run("--ids", "range", "--", "true")
    assert done.code == 125
    _one_message(done, "--ids single")


def test_debug_shows_where_an_error_was_raised(sandbox: Sandbox) -> None:
    done = sandbox.run("--debug", "--timeout", "x", "--", "true")
    assert done.code == 2
    assert "Traceback" in done.err


def _one_message(done: Ran, words: str) -> None:
    """One line that says what is wrong, perhaps one that says what to do; no traceback."""
    lines = done.err.splitlines()
    assert 1 <= len(lines) <= 2, done.err
    assert all(line.startswith("sandboxsh: ") for line in lines), done.err
    assert words in done.err, (words, done.err)
