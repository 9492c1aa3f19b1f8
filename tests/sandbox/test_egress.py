"""The way out of a real session: what gets through, what does not, and what is said of either."""

from __future__ import annotations

import importlib.util
import json
import os
import select
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from netpolicy.credentials import decode, repository, with_ports
from netpolicy.errors import InputError
from netpolicy.policy import ConnectTo, compile_policy
from sandbox import authority
from sandbox import egress as egress_module
from sandbox.egress import Egress, content
from sandbox.netns import Listening
from tests.capabilities import need
from tests.netpolicy.serving import Authority, Canary, closed_port

ROOT = Path(__file__).resolve().parents[2]
PYTHON = "/usr/bin/python3"  # as sessions on the host base have it

# Each line of the output: what was asked for, and what came of it.
CLIENT = """
import socket, ssl
context = ssl._create_unverified_context()
def say(what, result):
    print(what, result, flush=True)
for host in ("a.test", "d.test", "f.test"):
    try:
        with context.wrap_socket(socket.create_connection((host, 443)), server_hostname=host) as tls:
            tls.sendall(b"GET / HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n" if host == "d.test" else b"hello")
            say("tls " + host, tls.recv(100).decode().splitlines()[0])
    except OSError as error:
        say("tls " + host, "refused")
for host in ("b.test", "d.test", "f.test", "b.test"):
    with socket.create_connection((host, 80)) as http:
        http.sendall(f"GET / HTTP/1.1\\r\\nHost: {host}\\r\\nConnection: close\\r\\n\\r\\n".encode())
        answer = b""
        while piece := http.recv(65536):
            answer += piece
        say("http " + host, answer.split()[1].decode())
"""
EXPECTED = [
    "tls a.test hello",
    "tls d.test HTTP/1.1 403 Forbidden",
    "tls f.test refused",
    "http b.test 200",
    "http d.test 403",
    "http f.test 502",
    "http b.test 200",
]


def answer_http(client: socket.socket) -> None:
    client.recv(65_536)
    client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")


def run_client(command: list[str], data: Path, environment: dict[str, str]) -> dict[str, Any]:
    """Run the client in a session and return the report; the output must be as expected."""
    authority = Authority("a.test")
    with Canary(authority.echo) as a, Canary(answer_http) as b, closed_port() as closed:
        options = []
        for host, port in (("a.test", a.port), ("b.test", b.port), ("f.test", closed)):
            options += ["--connect-to", f"{host}=127.0.0.1:{port}"]
        for entry in ("a.test", "b.test:80", "f.test", "f.test:80"):
            options += ["--allow", entry]
        done = subprocess.run(
            [*command, "--data", str(data), "--json", *options, "--", PYTHON, "-Ic", CLIENT],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            env=environment,
            timeout=60,
            check=False,
        )
        assert done.stdout.splitlines() == EXPECTED, done.stderr
        assert (a.hits, b.hits) == (1, 2)
    *told, report = done.stderr.splitlines()
    assert sum("denied d.test port" in line for line in told) == 2, told
    assert sum("could not reach f.test port" in line and "Connection refused" in line for line in told) == 2
    assert len(told) == 4, told
    found = json.loads(report)
    assert isinstance(found, dict)
    return found


def check(report: dict[str, Any]) -> None:
    def names(outcome: str) -> set[tuple[str, str, int]]:
        return {(each["protocol"], each["host"], each["count"]) for each in report[outcome]}

    assert names("allowed") == {("tls", "a.test", 1), ("http", "b.test", 2)}
    assert names("denied") == {("tls", "d.test", 1), ("http", "d.test", 1)}
    assert names("failed") == {("tls", "f.test", 1), ("http", "f.test", 1)}
    assert report["omitted"] == {"allowed": 0, "denied": 0, "failed": 0}
    assert (report["egress_log_error"], report["proxy_deaths"]) == (None, 0)


def test_allowed_denied_and_failed_hosts_are_told_apart(data_dir: Path) -> None:
    need("user-namespaces", "overlay")
    command = [str(Path(sys.executable).with_name("sandboxsh"))]
    check(run_client(command, data_dir, dict(os.environ)))


@pytest.mark.parametrize("ids", [[], ["--map-auto"]], ids=["one", "many"])
def test_the_root_of_a_namespace_has_a_way_out_too(ids: list[str], empty_data_dir: Path) -> None:
    """As in a rootless container: who is root there has few ids, and the proxy can't become just anybody."""
    need("user-namespaces", "overlay", *(("subids", "ordinary-user") if ids else ()))
    within = ["unshare", "--user", "--map-root-user", *ids]
    command = [*within, str(Path(sys.executable).with_name("sandboxsh"))]
    check(run_client(command, empty_data_dir / "data", dict(os.environ)))


@pytest.fixture
def roots_own_copy() -> Iterator[Path]:
    """The project and what its proxy imports of others, in a directory that only root can read."""
    need("root", "user-namespaces", "overlay")
    with tempfile.TemporaryDirectory(dir="/root") as name:
        place = Path(name)
        place.chmod(0o700)
        for package in (
            "sandbox",
            "netpolicy",
            "pkgcache",
            "h11",
            "idna",
            "prctl",
            "cryptography",
            "_cffi_backend",
        ):
            found = importlib.util.find_spec(package)
            assert found is not None
            assert found.origin is not None
            source = Path(found.origin)
            if source.name == "__init__.py":
                shutil.copytree(source.parent, place / package)
            else:
                shutil.copy(source, place)
        yield place


def test_roots_proxy_needs_no_file_once_it_is_nobody(data_dir: Path, roots_own_copy: Path) -> None:
    begin = (
        f"import sys; sys.path.insert(0, {str(roots_own_copy)!r}); import sandbox.commands.sandboxsh as s; "
    )
    begin += f"assert s.__file__.startswith({str(roots_own_copy)!r}); s.main()"
    command = [sys.executable, "-c", begin]
    check(run_client(command, data_dir, dict(os.environ)))


def test_a_log_that_broke_off_is_told(data_dir: Path) -> None:
    need("user-namespaces", "overlay")
    command = [str(Path(sys.executable).with_name("sandboxsh")), "--data", str(data_dir), "--json"]
    script = (
        "import socket; s = socket.create_connection(('d.test', 80)); "
        "s.sendall(b'GET / HTTP/1.1\\r\\nHost: d.test\\r\\n\\r\\n'); s.recv(1)"
    )
    done = subprocess.run(
        [*command, "--egress-log", "/dev/full", "--", PYTHON, "-Ic", script],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    *told, report = done.stderr.splitlines()
    assert any("the egress log could not be written: No space left" in line for line in told), told
    assert "No space left" in json.loads(report)["egress_log_error"]
    assert len(json.loads(report)["denied"]) == 1


def test_credentials_that_a_session_can_t_use_are_refused_and_the_ones_before_stay(tmp_path: Path) -> None:
    ours = repository("https://git.test/me/ours", "token")
    elsewhere = repository("https://git.test:8443/me/ours", "token")
    kept = tmp_path / "ca" / "authority.pem"
    limited = compile_policy("limited")
    with Egress(limited, "s1", None, str(tmp_path)) as egress:
        egress.set_credentials([])
        assert not kept.exists()
        egress.set_credentials([ours])
        assert kept.exists()
        with pytest.raises(InputError, match="does not listen on port 8443"):
            egress.set_credentials([elsewhere])
        with pytest.raises(InputError):
            egress.set_credentials([ours._replace(host="127.0.0.1")])
        assert decode(content(egress.keys))[0] == (ours,)
    with Egress(with_ports(limited, [elsewhere]), "s1", None, str(tmp_path)) as egress:
        egress.set_credentials([ours, elsewhere])
    with Egress(compile_policy("unrestricted"), "s1", None, str(tmp_path)) as egress:
        egress.set_credentials([elsewhere])
    with (
        Egress(compile_policy("none"), "s1", None, str(tmp_path)) as egress,
        pytest.raises(InputError, match="no network"),
    ):
        egress.set_credentials([ours])


def test_a_proxy_that_does_not_answer_for_what_it_holds_is_ended(tmp_path: Path) -> None:
    """Nobody could say that it has forgotten a token."""
    ours = repository("https://git.test/me/ours", "token")
    with (
        socket.create_server(("127.0.0.1", 0)) as listening,
        Egress(compile_policy("limited"), "s1", None, str(tmp_path)) as egress,
    ):
        egress.take([Listening("tls", 443, socket.AF_INET)], (os.dup(listening.fileno()),))
        egress.start()
        egress.set_credentials([ours])
        assert egress.control_fd() is not None
        assert not select.select([egress.control_fd()], [], [], 0)[0]
        os.kill(egress._pid, signal.SIGSTOP)
        egress_module._FINISH_S, patience = 0.2, egress_module._FINISH_S
        try:
            egress.set_credentials([])
        finally:
            egress_module._FINISH_S = patience
        assert select.select([egress.control_fd()], [], [], 10)[0], "its end shows"
        egress.bury()
        assert egress.waiting_fds()


def test_the_next_proxy_has_what_the_one_before_was_told(tmp_path: Path) -> None:
    ours = repository("https://git.test/me/ours", "token")
    with closed_port() as closed:
        nowhere = ConnectTo("git.test", None, "127.0.0.1", closed)
        policy = compile_policy("limited", connect_to=[nowhere])
        with (
            socket.create_server(("127.0.0.1", 0)) as listening,
            Egress(policy, "s1", None, str(tmp_path)) as egress,
        ):
            egress.take([Listening("tls", 443, socket.AF_INET)], (os.dup(listening.fileno()),))

            def ask() -> bytes:
                trusting = ssl.create_default_context(cafile=str(tmp_path / "ca" / "authority.pem"))
                plain = socket.create_connection(listening.getsockname(), timeout=10)
                with trusting.wrap_socket(plain, server_hostname="git.test") as tls:
                    tls.sendall(b"GET /me/ours/x HTTP/1.1\r\nHost: git.test\r\n\r\n")
                    return tls.recv(100).split(b" ", 2)[1]

            egress.set_credentials([])
            authority.ensure(str(tmp_path))
            egress.start()
            assert ask() == b"403"
            egress.set_credentials([ours])
            assert ask() == b"502", "it is opened, though nobody is there"
            os.kill(egress._pid, signal.SIGKILL)
            assert select.select([egress.control_fd()], [], [], 10)[0]
            egress.bury()
            egress.start()
            assert ask() == b"502"
            assert egress.finish().restarts == 1


@pytest.mark.parametrize("at_once", [True, False])
def test_a_proxy_that_is_known_to_be_needed_does_not_wait_for_a_knock(tmp_path: Path, at_once: bool) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as listening,
        Egress(compile_policy("limited"), "s1", None, str(tmp_path), at_once=at_once) as egress,
    ):
        egress.take([Listening("tls", 443, socket.AF_INET)], (os.dup(listening.fileno()),))
        assert (egress.pid != 0, egress.waiting_fds() == ()) == (at_once, at_once)
        assert egress.finish().restarts == 0
