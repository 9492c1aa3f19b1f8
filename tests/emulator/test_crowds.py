"""How many connections a server takes, and how long it waits for what a client began to say."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from urllib.parse import urlsplit

import anthropic
import httpx
import pytest

from sandbox.emulator import connections
from sandbox.emulator.embedded import Emulator
from sandbox.emulator.server import most_connections
from tests.emulator.talking import an_agent, an_environment
from tests.emulator.test_connections import HEADERS, place
from tests.emulator.test_serving import serving
from tests.sessions.running import eventually

MOST = 3


@pytest.fixture
def url(empty_data_dir: Path) -> Iterator[str]:
    with serving(empty_data_dir, "--max-connections", str(MOST)) as (_, url):
        yield url


def connect(url: str) -> socket.socket:
    parts = urlsplit(url)
    assert parts.hostname and parts.port
    return socket.create_connection((parts.hostname, parts.port), timeout=20)


def health(url: str) -> int:
    return httpx.get(f"{url}/health", timeout=20).status_code


def test_streams_count_and_one_too_many_is_refused_in_the_api_s_shape(url: str) -> None:
    with ExitStack() as open_:
        client = open_.enter_context(anthropic.Anthropic(base_url=url, api_key="k", max_retries=0))
        environment, agent = an_environment(client), an_agent(client)
        session = client.beta.sessions.create(agent=agent, environment_id=environment).id
        # The first of them takes the connection that is open already.
        streams = [open_.enter_context(client.beta.sessions.events.stream(session)) for _ in range(MOST)]
        with anthropic.Anthropic(base_url=url, api_key="k", max_retries=0) as other:
            with pytest.raises(anthropic.APIStatusError) as refused:
                other.beta.sessions.retrieve(session)
            assert (refused.value.status_code, refused.value.type) == (529, "overloaded_error")
            assert f"{MOST} connections" in refused.value.message
            assert "--max-connections" in refused.value.message
            assert refused.value.request_id
            streams[0].close()
            eventually(lambda: health(url) == 200, "room for another one")
            assert other.beta.sessions.retrieve(session).id == session


def test_a_crowd_is_not_even_listened_to_and_leaves_the_others_alone(url: str) -> None:
    with ExitStack() as open_:
        first = open_.enter_context(connect(url))
        for _ in range(MOST + 200):
            open_.enter_context(connect(url))
        last = open_.enter_context(connect(url))
        with suppress(ConnectionResetError):
            assert last.recv(1) == b""
        first.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert first.recv(100).startswith(b"HTTP/1.1 200")
    eventually(lambda: health(url) == 200, "room, once they are gone")


def test_the_limit_leaves_room_for_other_files() -> None:
    assert 1 <= most_connections() <= 1000


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> float:
    """How long a client has for what it began to say."""
    monkeypatch.setattr(connections, "_LATE_S", 0.5)
    return 0.5


def trickle(client: socket.socket, piece: bytes) -> float:
    """Say ``piece`` again and again; how long it took until nobody listened."""
    client.settimeout(0.05)
    begun = time.monotonic()
    while time.monotonic() < begun + 30:
        try:
            client.sendall(piece)
            if client.recv(1000) == b"":
                break
        except TimeoutError:
            continue
        except OSError:
            break
    return time.monotonic() - begun


@pytest.mark.parametrize(
    "begin",
    [
        b"",
        b"GET /health HTTP/1.1\r\nHost: localhost\r\n",
        b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\nGET /health HTTP/1.1\r\n",
    ],
)
def test_a_head_that_trickles_is_cut(emulator: Emulator, hasty: float, begin: bytes) -> None:
    with socket.create_connection(place(emulator), timeout=10) as client:
        client.sendall(begin)
        assert trickle(client, b"GET /" if not begin else b"X-Slow: x\r\n") < 20


def test_who_says_nothing_at_all_is_let_go(emulator: Emulator, hasty: float) -> None:
    with socket.create_connection(place(emulator), timeout=20) as client:
        assert client.recv(1) == b""


def test_the_body_of_a_refused_request_has_no_more_time_either(emulator: Emulator, hasty: float) -> None:
    with socket.create_connection(place(emulator), timeout=20) as client:
        client.sendall(b"POST /v1/agents HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n")
        assert client.recv(100).startswith(b"HTTP/1.1 401")
        assert trickle(client, b"x") < 20


def test_a_body_that_is_taken_and_a_stream_have_their_time(
    emulator: Emulator, hasty: float, client: anthropic.Anthropic
) -> None:
    def slowly() -> Iterator[bytes]:
        yield b'{"name": "a", '
        time.sleep(3 * hasty)  # the time that is not limited is what is tried out
        yield b'"model": "m"}'

    headers = {**HEADERS, "content-type": "application/json"}
    made = httpx.post(f"{emulator.base_url}/v1/agents", headers=headers, content=slowly(), timeout=20)
    assert made.status_code == 200
    environment = an_environment(client)
    session = client.beta.sessions.create(agent=made.json()["id"], environment_id=environment).id
    with client.beta.sessions.events.stream(session) as stream:
        time.sleep(3 * hasty)
        client.beta.sessions.delete(session)
        assert [event.type for event in stream] == ["session.deleted"]
