"""Having a token sent elsewhere than to its repository: by requests that the session's root writes by hand.

Judged by a server that keeps every request with the token that it came with.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from tests.githost import GitHost
from tests.netpolicy.test_attached import NO_TOKEN, REFUSED, get
from tests.sessions.repositories import TOKEN, URL, Running

ATTEMPTS = {**NO_TOKEN, **{name: request for name, (request, _) in REFUSED.items()}}

# Sends each request on a connection of its own, and a good one after it where that is still open.
CLIENT = """
import base64, json, socket, ssl, sys
context = ssl.create_default_context()
for name, request in json.loads(base64.b64decode(sys.argv[1])).items():
    for data in (base64.b64decode(request), base64.b64decode(sys.argv[2])):
        with context.wrap_socket(socket.create_connection(("git.test", 443)), server_hostname="git.test") as tls:
            tls.settimeout(20)
            try:
                tls.sendall(data)
                print(name, tls.recv(65536).split(b" ", 2)[1].decode(), flush=True)
            except (OSError, IndexError):
                print(name, "cut", flush=True)
"""


def said(data: bytes) -> str:
    return base64.b64encode(data).decode()


@pytest.mark.parametrize("allowed", [["git.test"], []], ids=["the host is allowed", "the repository alone"])
def test_no_request_but_one_for_its_repository_has_the_token(
    allowed: list[str], data_dir: Path, tmp_path: Path
) -> None:
    host = GitHost(tmp_path, {}, "git.test")
    (tmp_path / "me").mkdir()
    host.make("me/ours", "hello\n")
    attempts = said(json.dumps({name: said(data) for name, data in ATTEMPTS.items()}).encode())
    good = said(get("/me/ours/info/refs?service=git-upload-pack", more="Connection: close\r\n"))
    command = ["/usr/bin/python3", "-c", CLIENT, attempts, good]
    with host:
        session = Running(
            data_dir,
            tmp_path,
            host,
            "",
            command=command,
            allowed=allowed,
            attached=[{"url": URL, "token": TOKEN}],
        )
        output = session.end()
    results = [line.rsplit(" ", 1) for line in output.splitlines()]
    assert len(results) == 2 * len(ATTEMPTS), output
    # Beside each attempt, the request that it would have been.
    assert [status for _, status in results[1::2]] == ["200"] * len(ATTEMPTS)
    with_token = [each for each in host.heard if each.token]
    assert {(each.method, each.path.partition("?")[0]) for each in with_token} <= {
        ("GET", "/me/ours/info/refs"),
        # A folded header is unfolded, and harmless then.
        ("GET", "/me/ours.git/x"),
    }
    assert sum(each.path == "/me/ours.git/x" for each in with_token) == 1
    assert len(with_token) == len(ATTEMPTS) + 1
    if not allowed:
        assert host.heard == with_token
    for secret in (TOKEN, base64.b64encode(f"x-access-token:{TOKEN}".encode()).decode()):
        assert secret not in output
