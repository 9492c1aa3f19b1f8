"""A server from its start to its end."""

from __future__ import annotations

import socket
from pathlib import Path

import anthropic
import httpx
import pytest

from sandbox.emulator.embedded import Emulator
from sandbox.emulator.server import KEEP_ALIVE_S, bind
from sandbox.errors import HostError, InputError


def test_records_survive_a_restart_and_the_port_is_free_again(empty_data_dir: Path) -> None:
    with (
        Emulator(str(empty_data_dir), keep=True) as first,
        anthropic.Anthropic(base_url=first.base_url, api_key="k") as client,
    ):
        made = client.beta.agents.create(name="kept", model="claude-opus-5-5")
    with pytest.raises(httpx.ConnectError):
        httpx.get(first.base_url)
    with (
        Emulator(str(empty_data_dir), keep=True) as second,
        anthropic.Anthropic(base_url=second.base_url, api_key="k") as client,
    ):
        assert client.beta.agents.retrieve(made.id) == made


def test_the_official_clients_let_go_of_an_idle_connection_first() -> None:
    """Whoever asks on one that the server is just closing gets no answer."""
    theirs = anthropic.DEFAULT_CONNECTION_LIMITS.keepalive_expiry
    assert theirs is not None
    assert 2 * theirs < KEEP_ALIVE_S


def test_a_port_that_is_taken_is_named(empty_data_dir: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=f"port {port}") as caught:
            bind("127.0.0.1", port)
        assert "--port" in caught.value.hint
    with pytest.raises(HostError):
        bind("192.0.2.1", 0)
    with pytest.raises(InputError):
        bind("127.0.0.1", 70000)
