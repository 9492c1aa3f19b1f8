"""Who is at the other end of a connection, and how much it may say before anybody looks."""

from __future__ import annotations

import os
import socket
import subprocess
from urllib.parse import urlsplit

import httpx
import pytest

from sandbox.emulator.connections import LARGEST_HEAD, owner
from sandbox.emulator.embedded import Emulator
from sandbox.emulator.gate import BETA
from tests.capabilities import need
from tests.sessions.running import PYTHON

HEADERS = {"x-api-key": "any", "anthropic-beta": BETA}


def place(emulator: Emulator) -> tuple[str, int]:
    parts = urlsplit(emulator.base_url)
    assert parts.hostname and parts.port
    return parts.hostname, parts.port


@pytest.mark.parametrize(
    ("listening", "dialled"),
    [("127.0.0.1", "127.0.0.1"), ("127.0.0.1", "::ffff:127.0.0.1"), ("::1", "::1")],
)
def test_the_owner_of_a_socket_is_found_until_it_is_let_go(listening: str, dialled: str) -> None:
    family = socket.AF_INET6 if ":" in listening else socket.AF_INET
    with socket.create_server((listening, 0), family=family) as server:
        client = socket.create_connection((dialled, server.getsockname()[1]))
        with server.accept()[0] as accepted:
            here, there = accepted.getpeername()[:2], accepted.getsockname()[:2]
            assert owner(here, there) == os.geteuid()
            assert owner((here[0], here[1] ^ 1), there) is None
            client.close()
            assert owner(here, there) is None


ASK = """
import http.client, sys
connection = http.client.HTTPConnection(sys.argv[1], int(sys.argv[2]), timeout=10)
connection.request(sys.argv[3], sys.argv[4], headers={'x-api-key': 'any', 'anthropic-beta': sys.argv[5]})
print(connection.getresponse().status)
"""


def asked(emulator: Emulator, *wanted: str, user: int | None) -> str:
    host, port = place(emulator)
    line = [PYTHON, "-Ic", ASK, host, str(port), *wanted, BETA]
    return subprocess.run(line, user=user, capture_output=True, text=True, timeout=60, check=False).stdout


def test_other_users_of_the_machine_do_not_get_in_without_a_key(emulator: Emulator) -> None:
    need("root")
    assert asked(emulator, "GET", "/v1/agents", user=None) == "200\n"
    for wanted in (("GET", "/v1/agents"), ("POST", "/v1/agents"), ("POST", "/sandbox/reset")):
        assert asked(emulator, *wanted, user=65533) == "403\n"
    assert asked(emulator, "GET", "/health", user=65533) == "200\n"


def test_a_head_without_end_is_cut(emulator: Emulator) -> None:
    with socket.create_connection(place(emulator), timeout=10) as client:
        client.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\nX-Long: ")
        with pytest.raises(OSError):
            for _ in range(10_000):
                client.sendall(b"a" * 65536)
    fine = {**HEADERS, "x-long": "a" * (LARGEST_HEAD // 2)}
    with httpx.Client() as client_:
        for _ in range(3):
            assert client_.get(f"{emulator.base_url}/v1/agents", headers=fine).status_code == 200


@pytest.mark.parametrize(
    ("hosts", "status"),
    [
        (["localhost"], 200),
        (["LOCALHOST:80"], 200),
        (["[::1]:80"], 200),
        (["rebound.example", "localhost"], 403),
        (["localhost", "localhost"], 403),
        (["localhost:80@rebound.example"], 403),
        (["localhost.rebound.example"], 403),
        ([""], 403),
    ],
)
def test_a_request_calls_the_server_by_one_name_of_loopback(
    emulator: Emulator, hosts: list[str], status: int
) -> None:
    lines = ["GET /health HTTP/1.1", *(f"Host: {host}" for host in hosts), "Connection: close", "", ""]
    with socket.create_connection(place(emulator), timeout=10) as client:
        client.sendall("\r\n".join(lines).encode())
        with client.makefile("rb") as answer:
            assert answer.readline().split()[1] == str(status).encode()
