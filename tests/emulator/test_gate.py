"""What stands before every route: the key, the headers, the host, the size, the shape of every error."""

from __future__ import annotations

import asyncio

import anthropic
import httpx
import pytest
from starlette.types import Receive, Scope, Send

from sandbox.emulator.embedded import Emulator
from sandbox.emulator.gate import BETA, Door, Gate
from sandbox.errors import HostError, InputError

HEADERS = {"x-api-key": "any", "anthropic-beta": BETA}


def told(answer: httpx.Response) -> tuple[int, str, str]:
    body = answer.json()
    assert body["type"] == "error"
    assert body["request_id"] == answer.headers["request-id"]
    return answer.status_code, body["error"]["type"], body["error"]["message"]


@pytest.mark.parametrize(
    ("headers", "status", "kind", "word"),
    [
        ({"x-api-key": ""}, 401, "authentication_error", "x-api-key"),
        ({"anthropic-beta": ""}, 400, "invalid_request_error", BETA),
        ({"anthropic-beta": "other-2025-01-01"}, 400, "invalid_request_error", "other-2025-01-01"),
        ({"host": "rebound.example"}, 403, "permission_error", "rebound.example"),
    ],
)
def test_a_request_that_lacks_something_is_refused(
    emulator: Emulator, headers: dict[str, str], status: int, kind: str, word: str
) -> None:
    url = f"{emulator.base_url}/v1/agents"
    assert httpx.get(url, headers=HEADERS).status_code == 200
    found = told(httpx.get(url, headers={**HEADERS, **headers}))
    assert found[:2] == (status, kind)
    assert word in found[2]


def test_the_key_comes_in_either_header_and_the_beta_in_either_place(emulator: Emulator) -> None:
    url = f"{emulator.base_url}/v1/agents?beta=true"
    for key in ({"authorization": "Bearer k"}, {"x-api-key": "k"}):
        answer = httpx.get(url, headers={**key, "anthropic-beta": f"first-1, {BETA}"})
        assert answer.status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/v1/nothing", 404), ("GET", "/", 404), ("DELETE", "/v1/agents", 405), ("PUT", "/health", 405)],
)
def test_an_unknown_route_or_method_is_refused_in_the_api_s_shape(
    emulator: Emulator, method: str, path: str, status: int
) -> None:
    found = told(httpx.request(method, emulator.base_url + path, headers=HEADERS))
    assert found[0] == status
    assert path in found[2]


@pytest.mark.parametrize(
    ("method", "path", "takes"),
    [
        ("PUT", "/v1/agents", "GET, POST"),
        ("PUT", "/v1/sessions/sesn_x", "DELETE, GET, POST"),
        ("DELETE", "/v1/vaults", "GET, POST"),
        ("POST", "/health", "GET"),
    ],
)
def test_another_method_is_told_all_that_there_are(
    emulator: Emulator, method: str, path: str, takes: str
) -> None:
    found = told(httpx.request(method, emulator.base_url + path, headers=HEADERS))
    assert found[2] == f"{path} takes {takes}, not {method}."


@pytest.mark.parametrize("kind", [None, "application/x-www-form-urlencoded", "text/plain"])
def test_a_body_without_the_type_of_json_is_told_which_it_needs(emulator: Emulator, kind: str | None) -> None:
    headers = HEADERS if kind is None else {**HEADERS, "content-type": kind}
    body = b'{"name": "a", "model": "m"}'
    answer = httpx.post(f"{emulator.base_url}/v1/agents", content=body, headers=headers)
    assert told(answer)[:2] == (400, "invalid_request_error")
    assert "content-type: application/json" in told(answer)[2] and (kind or "missing") in told(answer)[2]
    headers = {**HEADERS, "content-type": "application/json; charset=utf-8"}
    answer = httpx.post(f"{emulator.base_url}/v1/agents", content=body, headers=headers)
    assert answer.status_code == 200


@pytest.mark.parametrize("body", [b"{", b"[]", b'"x"', b"", b"\xff", b'{"name": NaN}'])
def test_a_body_that_is_no_object_is_refused(emulator: Emulator, body: bytes) -> None:
    answer = httpx.post(f"{emulator.base_url}/v1/agents", content=body, headers=HEADERS)
    assert told(answer)[:2] == (400, "invalid_request_error")


def test_a_body_that_is_too_large_is_refused(emulator: Emulator) -> None:
    def chunks() -> object:
        for _ in range(33):
            yield b" " * (1 << 20)

    for content in (b" " * ((32 << 20) + 1), chunks()):
        with httpx.Client() as client:
            answer = client.post(f"{emulator.base_url}/v1/agents", content=content, headers=HEADERS)  # type: ignore[arg-type]
        assert told(answer)[:2] == (413, "request_too_large")


def test_health_needs_no_key(emulator: Emulator) -> None:
    assert httpx.get(f"{emulator.base_url}/health").json() == {"status": "ok"}


def test_the_client_has_typed_errors(client: anthropic.Anthropic) -> None:
    with pytest.raises(anthropic.NotFoundError) as caught:
        client.beta.agents.retrieve("agent_missing")
    assert caught.value.type == "not_found_error"
    assert caught.value.request_id is not None
    assert caught.value.request_id.startswith("req_")


@pytest.mark.parametrize(
    ("error", "status", "word"),
    [
        (HostError("the disk is full", hint="free some space"), 500, "the disk is full free some space"),
        (InputError("no such base", hint="make it"), 400, "no such base make it"),
        (ValueError("a private matter"), 500, "its log says what"),
    ],
)
def test_what_a_person_can_mend_is_told_and_a_bug_is_not(error: Exception, status: int, word: str) -> None:
    async def fails(scope: Scope, receive: Receive, send: Send) -> None:
        raise error

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(Gate(fails, Door("k", ())))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.get("/v1/files", headers={"x-api-key": "k"})

    found = told(asyncio.run(ask()))
    assert found[0] == status
    assert word in found[2]
