"""Sessions with unrestricted networking, on a host of which the tests made the whole Internet."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.capabilities import need
from tests.sessions.running import PYTHON, Sandbox

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.mark.parametrize("ids", ["range", "single"])
def test_a_session_reaches_every_public_port_and_nothing_of_its_host(ids: str, any_sandbox: Sandbox) -> None:
    """Networks for a host are root's to make. The proxy is tested as an ordinary user in tests/netpolicy."""
    need("root", "nft-tproxy", "ip", "subids")
    unshare = shutil.which("unshare")
    assert unshare is not None
    done = subprocess.run(
        [
            unshare,
            "--net",
            "--mount",
            sys.executable,
            "-m",
            "tests.sessions.lab_unrestricted",
            str(any_sandbox.data),
            "--ids",
            ids,
        ],
        cwd=ROOT,
        env={**os.environ, "PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "all held"


def test_a_ping_does_not_pretend_that_the_world_is_there(sandbox: Sandbox) -> None:
    need("nft-tproxy")
    from tests.sessions.test_network import PING

    assert sandbox.python(PING, "--net", "unrestricted") == "silent\nsilent\n"


def test_what_listens_on_the_host_is_out_of_reach_by_any_address(either_sandbox: Sandbox) -> None:
    """The positive control is the host itself, and a server of the session's own on the same port."""
    need("nft-tproxy")
    import socket

    script = """
import socket, sys
port = int(sys.argv[1])
for host in ('127.0.0.1', '127.8.8.8', '0.0.0.0', '10.0.0.1', '169.254.169.254', '::ffff:127.0.0.1'):
    try:
        with socket.create_connection((host, port), timeout=10) as client:
            client.sendall(b'x')
            print(host, 'answered' if client.recv(1) else 'closed')
    except OSError: print(host, 'refused')
with socket.create_server(('127.0.0.1', port)) as own:
    socket.create_connection(('127.0.0.1', port), timeout=10).close()
print('own')
"""
    with socket.create_server(("0.0.0.0", 0)) as server:
        port = server.getsockname()[1]
        socket.create_connection(("127.0.0.1", port)).close()
        server.accept()[0].close()
        done = either_sandbox.run("--net", "unrestricted", "--", PYTHON, "-c", script, str(port))
        server.setblocking(False)
        with pytest.raises(BlockingIOError):
            server.accept()
    lines = done.out.splitlines()
    assert lines[-1] == "own", done
    assert "answered" not in done.out


def test_an_environment_is_unrestricted_where_it_says_nothing(sandbox: Sandbox, tmp_path: Path) -> None:
    need("nft-tproxy")
    file = tmp_path / "open.yaml"
    file.write_text("networking: {type: unrestricted}\n")
    dry = sandbox.ok("--env", str(file), "--dry-run")
    assert "policy     allow every host on every port  (unrestricted networking)" in dry
    assert sandbox.ok("--env", str(file), "--", "true") == ""


@pytest.mark.parametrize(
    "options",
    [
        ("--allow", "a.test"),
        ("--connect-to", "a.test=127.0.0.1"),
        ("--allow-private", "8.8.8.0/24"),
        ("--blocklist", "/absent"),
    ],
)
def test_options_that_can_not_be_meant_are_refused(options: tuple[str, str], sandbox: Sandbox) -> None:
    done = sandbox.run("--net", "unrestricted", *options, "--", "true")
    assert (done.code, done.out) == (2, "")
    assert options[1] in done.err or options[0] in done.err
