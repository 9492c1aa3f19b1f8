"""Directories of the host with something mounted below them: neither that nor what it covers is seen inside.

The tests give sandboxsh a mount namespace of its own. An ordinary user's is one of root's making in a user
namespace, so that sandboxsh runs there with a single id.
"""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

import pytest

from tests.capabilities import need
from tests.sessions.running import Sandbox


def around(script: str) -> tuple[str, ...]:
    """Words before a command that run ``script``, which mounts, in a mount namespace that the command then has."""
    inner = f'set -e; {script}; exec "$@"'
    if os.geteuid() == 0:
        return ("unshare", "--mount", "--propagation", "private", "sh", "-c", inner, "sh")
    become = shlex.join(["unshare", "--user", f"--map-user={os.getuid()}", f"--map-group={os.getgid()}"])
    inner = f'set -e; {script}; exec {become} "$@"'
    return ("unshare", "--user", "--map-root-user", "--mount", "sh", "-c", inner, "sh")


@pytest.fixture
def single(sandbox: Sandbox) -> Sandbox:
    need("user-namespaces", "tmpfs", "overlay")
    return Sandbox(sandbox.data, "--ids", "single")


def folder_below(top: str) -> str:
    """A directory with something in it that stands below ``top`` on this machine."""
    for name in sorted(os.listdir(top)):
        path = f"{top}/{name}"
        if name not in ("ssl", "alternatives") and os.path.isdir(path) and not os.path.islink(path):
            try:
                if os.listdir(path):
                    return path
            except PermissionError:
                continue
    raise LookupError(top)


@pytest.mark.parametrize("top", ["/usr/share", "/etc", "/usr/lib"])
def test_what_is_mounted_below_a_directory_is_not_seen_and_the_rest_works(single: Sandbox, top: str) -> None:
    where = folder_below(top)
    secret = f"mount -t tmpfs secret {where}; echo canary > {where}/canary; test -f {where}/canary"
    script = f"set +e; cat {where}/canary 2>/dev/null; ls -A {where} 2>/dev/null; ls {top} | wc -l; ls /usr/bin | wc -l"
    found, programs = single.sh(script, around=around(secret)).split()
    assert int(programs) > 50
    assert int(found) >= len(os.listdir(top)) // 2
    # Not mounted over, it is seen.
    assert single.sh(f"ls -A {where} | wc -l").strip() != "0"


def test_a_whole_directory_that_is_a_mount_is_shown(single: Sandbox) -> None:
    """/opt on a file system of its own is what the machine has at /opt; what is mounted below it stays out."""
    script = (
        "mount -t tmpfs opt /opt; mkdir /opt/tool /opt/data; echo tool > /opt/tool/file; "
        "mount -t tmpfs secret /opt/data; echo canary > /opt/data/canary"
    )
    out = single.sh(
        "set +e; cat /opt/tool/file; ls -A /opt/data 2>/dev/null; echo x > /opt/new; cat /opt/new",
        around=around(script),
    )
    assert out == "tool\nx\n"


def test_files_of_a_container_that_are_mounts_are_replaced(single: Sandbox, tmp_path: Path) -> None:
    """/etc/hosts, /etc/resolv.conf and /etc/hostname, as container engines mount them."""
    mine = tmp_path / "mine"
    mine.write_text("canary\n")
    files = [name for name in ("/etc/hosts", "/etc/resolv.conf", "/etc/hostname") if os.path.isfile(name)]
    script = "; ".join(f"mount --bind {mine} {name}" for name in files)
    out = single.sh(
        "set +e; grep -rs canary /etc; cat /etc/hostname; grep -c localhost /etc/hosts; test -d /etc/ssl; echo ok",
        around=around(script),
    )
    assert out == "sandbox\n2\nok\n"


def test_a_mounted_secret_deep_in_a_directory_is_left_out_with_its_covered_content(
    single: Sandbox, tmp_path: Path
) -> None:
    script = (
        "mount -t tmpfs opt /opt; mkdir -p /opt/a/b/c /opt/a/x; echo covered > /opt/a/b/c/covered; "
        "echo seen > /opt/a/x/seen; "
        "echo file > /opt/a/b/file; ln -s ../x /opt/a/b/link; mount -t tmpfs secret /opt/a/b/c; "
        "echo canary > /opt/a/b/c/canary; "
        "mount --bind /opt/a/x/seen /opt/a/b/file"
    )
    look = "set +e; exec 2>/dev/null; cd /opt/a; find . | sort; cat x/seen b/link/seen b/c/* b/file; true"
    out = single.sh(look, around=around(script))
    assert "canary" not in out
    assert "covered" not in out
    assert out.splitlines() == [".", "./b", "./b/link", "./x", "./x/seen", "seen", "seen"]


def test_usr_local_on_a_file_system_of_its_own_is_shown(single: Sandbox) -> None:
    script = (
        "mount -t tmpfs local /usr/local; mkdir /usr/local/bin /usr/local/hidden; "
        "printf '#!/bin/sh\\necho tool\\n' > /usr/local/bin/atool; "
        "chmod 755 /usr/local/bin/atool; mount -t tmpfs secret /usr/local/hidden; "
        "echo canary > /usr/local/hidden/canary"
    )
    out = single.sh(
        "set +e; atool; cat /usr/local/hidden/canary 2>/dev/null; echo x > /usr/local/bin/new; ls /usr/local/bin",
        around=around(script),
    )
    assert out == "tool\natool\nnew\n"


def test_a_workspace_with_mounts_below_is_refused_unless_written_through(
    single: Sandbox, tmp_path: Path
) -> None:
    (tmp_path / "sub").mkdir()
    script = f"mount -t tmpfs sub {tmp_path}/sub; echo below > {tmp_path}/sub/file"
    done = single.run("--workspace", str(tmp_path), "--", "true", around=around(script))
    assert done.code == 2
    assert f"{tmp_path}/sub" in done.err
    assert "--workspace-rw" in done.err
    if os.geteuid() == 0:
        assert single.sh("cat sub/file", "--workspace-rw", str(tmp_path), around=around(script)) == "below\n"


def test_nothing_of_the_session_is_left_among_the_mounts(single: Sandbox) -> None:
    need("root")
    inner = shlex.join(single.line("--", "true"))
    check = (
        f"cat /proc/self/mountinfo > /opt/x; {inner} && cat /proc/self/mountinfo | cmp - /opt/x && echo same"
    )
    words = (*around("mount -t tmpfs opt /opt"), "sh", "-c", check)
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.stdout == "same\n"
