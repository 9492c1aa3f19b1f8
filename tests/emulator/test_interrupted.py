"""Servers that end in the middle of an upload or a clone, in good order or not."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import anthropic
import pytest

from tests.capabilities import need
from tests.emulator.talking import an_agent, an_environment
from tests.emulator.test_serving import serving
from tests.sessions.running import eventually, mounts

TOKEN = "canary-6671-s3cret"


@pytest.fixture
def silent() -> Iterator[tuple[int, threading.Event]]:
    """A server that takes connections and says nothing: its port, and whether somebody came."""
    came = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(60)
        held: list[socket.socket] = []

        def accept() -> None:
            try:
                while True:
                    held.append(listener.accept()[0])
                    came.set()
            except OSError:
                return

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield listener.getsockname()[1], came
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
        for each in held:
            each.close()


def below(folder: Path) -> list[str]:
    return sorted(os.listdir(folder)) if folder.exists() else []


def containers(data: Path) -> list[str]:
    return [name for ids in below(data / "containers") for name in below(data / "containers" / ids)]


def half_an_upload(url: str) -> socket.socket:
    where = urlsplit(url)
    assert where.hostname and where.port
    half = socket.create_connection((where.hostname, where.port))
    half.sendall(
        b"POST /v1/files HTTP/1.1\r\nHost: localhost\r\nx-api-key: k\r\nContent-Length: 1000000\r\n"
        b"Content-Type: multipart/form-data; boundary=e\r\n\r\n"
        b'--e\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n' + b"y" * 5000
    )
    return half


def test_a_server_killed_during_an_upload_leaves_nothing(empty_data_dir: Path) -> None:
    files = empty_data_dir / "managed" / "files"
    with serving(empty_data_dir) as (running, url), half_an_upload(url):
        eventually(lambda: len(below(files)) == 1, "the beginning of the upload")
        with anthropic.Anthropic(base_url=url, api_key="k") as client:
            kept = client.beta.files.upload(file=("kept", b"x"))
        running.kill()
        running.wait()
    assert len(below(files)) == 2
    with serving(empty_data_dir) as (_, url), anthropic.Anthropic(base_url=url, api_key="k") as client:
        assert below(files) == [kept.id]
        assert [each.id for each in client.beta.files.list()] == [kept.id]


@pytest.mark.parametrize("kill", [signal.SIGKILL, signal.SIGTERM])
def test_a_server_that_ends_during_a_clone_leaves_nothing(
    empty_data_dir: Path, silent: tuple[int, threading.Event], kill: signal.Signals
) -> None:
    need("user-namespaces", "overlay", "git")
    port, came = silent
    before = mounts()
    outcome: list[Any] = []

    def create(url: str) -> None:
        with anthropic.Anthropic(base_url=url, api_key="k", max_retries=0) as client:
            repository: Any = {
                "type": "github_repository",
                "url": "https://git.test/a/b",
                "authorization_token": TOKEN,
            }
            agent, environment = an_agent(client), an_environment(client)
            try:
                outcome.append(
                    client.beta.sessions.create(
                        agent=agent, environment_id=environment, resources=[repository]
                    )
                )
            except anthropic.APIError as error:
                outcome.append(error)

    rewrite = f"https://git.test=http://127.0.0.1:{port}"
    with serving(empty_data_dir, "--rewrite", rewrite) as (running, url):
        asking = threading.Thread(target=create, args=(url,))
        asking.start()
        assert came.wait(60)
        assert len(containers(empty_data_dir)) == 2
        running.send_signal(kill)
        # Long before the clone would give up.
        running.wait(60)
        asking.join(60)
        assert outcome
    with serving(empty_data_dir) as (running, url), anthropic.Anthropic(base_url=url, api_key="k") as client:
        eventually(
            lambda: len(containers(empty_data_dir)) == len(client.beta.sessions.list().data), "the sweep"
        )
        if kill == signal.SIGKILL:
            assert client.beta.sessions.list().data == []
        assert below(empty_data_dir / "managed" / "clones") == []
        running.send_signal(signal.SIGTERM)
        assert running.wait(30) == 0
    assert mounts() == before
    eventually(lambda: not _alive(str(empty_data_dir)), "the end of all processes")


def _alive(data: str) -> list[str]:
    """Processes whose command line names ``data``."""
    found = []
    for process in Path("/proc").iterdir():
        try:
            if process.name.isdecimal() and data.encode() in (process / "cmdline").read_bytes():
                found.append(process.name)
        except OSError:
            continue
    return found
