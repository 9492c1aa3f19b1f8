"""`sandboxctl serve` as a person starts it."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import anthropic
import httpx
import pytest

from sandbox.emulator.gate import BETA
from sandbox.emulator.server import door_for
from sandbox.errors import InputError

COMMAND = (str(Path(sys.executable).with_name("sandboxctl")),)


@contextmanager
def serving(data: Path, *options: str, **environment: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    command = [*COMMAND, "serve", "--port", "0", "--data", str(data), *options]
    running = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1", **environment},
    )
    assert running.stdout is not None
    try:
        found = re.fullmatch(r"export ANTHROPIC_BASE_URL=(http://\S+)\n", running.stdout.readline())
        assert found, running.stderr and running.stderr.read()
        yield running, found[1]
    finally:
        running.kill()
        running.communicate()


def test_the_lines_that_it_prints_are_what_a_client_needs(empty_data_dir: Path) -> None:
    with serving(empty_data_dir) as (running, url):
        assert running.stdout is not None
        key = running.stdout.readline().removeprefix("export ANTHROPIC_API_KEY=").strip()
        with anthropic.Anthropic(base_url=url, api_key=key) as client:
            made = client.beta.agents.create(name="a", model="claude-opus-5-5")
        running.send_signal(signal.SIGTERM)
        assert running.wait(60) == 0
    with serving(empty_data_dir) as (running, url), anthropic.Anthropic(base_url=url, api_key="x") as client:
        assert client.beta.agents.retrieve(made.id) == made


def test_a_signal_ends_it_when_all_is_answered_and_the_second_one_at_once(empty_data_dir: Path) -> None:
    with serving(empty_data_dir) as (running, url):
        host, port = url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as under_way:
            under_way.sendall(
                b"POST /v1/agents HTTP/1.1\r\nHost: localhost\r\nX-Api-Key: k\r\n"
                b"Anthropic-Beta: "
                + BETA.encode()
                + b"\r\nContent-Length: 100\r\nExpect: 100-continue\r\n\r\n"
            )
            # The server asks for the body: the request has reached its route.
            assert under_way.recv(100).startswith(b"HTTP/1.1 100")
            running.send_signal(signal.SIGINT)
            assert running.stderr is not None
            assert any("once more" in line for line in running.stderr)
            running.send_signal(signal.SIGINT)
            assert running.wait(60) == 0


def test_a_port_that_is_taken_is_named_with_the_option(empty_data_dir: Path) -> None:
    with serving(empty_data_dir) as (_, url):
        port = url.rpartition(":")[2]
        second = subprocess.run(
            [*COMMAND, "--data", str(empty_data_dir), "serve", "--port", port],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert second.returncode == 2
    assert port in second.stderr
    assert "--port" in second.stderr


def test_a_demanded_key_is_demanded(empty_data_dir: Path) -> None:
    with serving(empty_data_dir, SANDBOXSH_API_KEY="right") as (_, url):
        for key, status in (("right", 200), ("wrong", 401)):
            answer = httpx.get(f"{url}/v1/agents", headers={"x-api-key": key, "anthropic-beta": BETA})
            assert answer.status_code == status


def test_a_wide_bind_demands_a_key_and_warns(empty_data_dir: Path) -> None:
    refused = subprocess.run(
        [*COMMAND, "serve", "--host", "0.0.0.0", "--port", "0", "--data", str(empty_data_dir)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={name: value for name, value in os.environ.items() if name != "SANDBOXSH_API_KEY"},
    )
    assert refused.returncode == 2
    assert "SANDBOXSH_API_KEY" in refused.stderr
    with serving(empty_data_dir, "--host", "0.0.0.0", SANDBOXSH_API_KEY="k") as (running, url):
        assert httpx.get(url.replace("0.0.0.0", "127.0.0.1") + "/health").status_code == 200
        running.send_signal(signal.SIGTERM)
        assert running.stderr is not None
        assert "WARNING" in running.stderr.read()


def test_only_loopback_opens_without_a_key() -> None:
    assert door_for("127.0.0.1", None).key is None
    assert "localhost" in door_for("::1", None).hosts
    for host in ("0.0.0.0", "::", "192.0.2.1", "machine.example"):
        with pytest.raises(InputError):
            door_for(host, None)
        assert door_for(host, "k").key == "k"
