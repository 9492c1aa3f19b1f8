"""The probes really try things: what works here, and what they see where something is taken away."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sandbox.doctor import MISSING, OK, can_run, run
from tests.capabilities import has, need
from tests.sessions.running import mounts


def statuses_after(script: str, *options: str) -> dict[str, tuple[str, str]]:
    """(status, detail) of each finding in a user namespace in which `script` has changed something."""
    look = (
        "import json, sys; from sandbox.doctor import run; "
        "print(json.dumps({f.name: (f.status, f.detail) for f in run(sys.argv[1])}))"
    )
    shell = ["sh", "-ec", f'{script}\nexec "$@"', "sh", sys.executable, "-W", "error", "-c", look, "/tmp"]
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", *options, *shell],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    found = json.loads(done.stdout)
    return {name: (status, detail) for name, (status, detail) in found.items()}


def test_this_machine_is_seen_as_it_is(empty_data_dir: Path) -> None:
    need("user-namespaces", "overlay")
    findings = {found.name: found for found in run(str(empty_data_dir / "not" / "there"))}
    for name in ("user namespaces", "overlay", "mounts", "network namespace", "pidfd", "system call filter"):
        assert findings[name].status == OK, findings[name]
    assert (findings["id range"].status == OK) == has("subids")
    assert (findings["mmdebstrap"].status == OK) == (shutil.which("mmdebstrap") is not None)
    assert can_run(findings.values())


def test_probing_leaves_nothing_behind(empty_data_dir: Path) -> None:
    need("user-namespaces")
    descriptors = os.listdir("/proc/self/fd")
    mounted = mounts()
    run(str(empty_data_dir))
    assert list(empty_data_dir.iterdir()) == []
    assert os.listdir("/proc/self/fd") == descriptors
    assert mounts() == mounted
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_a_data_directory_that_cannot_be_made_is_found() -> None:
    need("user-namespaces")
    findings = {found.name: found for found in run("/proc/no/such/place")}
    assert findings["data directory"].status == MISSING
    assert findings["overlay"].status == MISSING
    assert findings["mounts"].status == OK


def test_forbidden_user_namespaces_are_found() -> None:
    need("user-namespaces")
    # A limit set in a user namespace holds for what is made in it.
    found = statuses_after("echo 0 >/proc/sys/user/max_user_namespaces")
    assert found["user namespaces"][0] == MISSING
    assert "No space left on device" in found["user namespaces"][1]
    assert found["user.max_user_namespaces"][0] == MISSING
    assert found["overlay"][0] == MISSING
    assert found["pidfd"][0] == OK
    assert statuses_after("true")["user namespaces"][0] == OK


def test_forbidden_network_namespaces_are_found() -> None:
    need("user-namespaces")
    found = statuses_after("echo 0 >/proc/sys/user/max_net_namespaces")
    assert found["user namespaces"][0] == MISSING
    assert found["user.max_net_namespaces"][0] == MISSING


def test_a_proc_with_hidden_parts_is_found() -> None:
    need("user-namespaces")
    # The kernel shows a new proc only to those who see all of an old one.
    found = statuses_after("mount -t tmpfs hidden /proc/irq", "--mount")
    assert found["mounts"][0] == MISSING
    assert found["mounts"][1].startswith("proc: ")
    assert "not permitted" in found["mounts"][1]
    assert found["user namespaces"][0] == OK
