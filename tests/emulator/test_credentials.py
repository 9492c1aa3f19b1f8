"""Credentials by the official client: all three kinds, and secrets that are found nowhere."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import httpx
import pytest

from sandbox.emulator.embedded import Emulator

SECRET = "s3cret-that-appears-nowhere"
OTHER = "an0ther-that-appears-nowhere"
UNRESTRICTED: Any = {"type": "unrestricted"}


@pytest.fixture
def vault(client: anthropic.Anthropic) -> str:
    return client.beta.vaults.create(display_name="v").id


def variable(**fields: Any) -> Any:
    return {
        "type": "environment_variable",
        "secret_name": "TOKEN",
        "secret_value": SECRET,
        "networking": UNRESTRICTED,
        **fields,
    }


def oauth(**fields: Any) -> Any:
    return {
        "type": "mcp_oauth",
        "mcp_server_url": "https://mcp.example.com/sse",
        "access_token": SECRET,
        **fields,
    }


REFRESH: Any = {
    "client_id": "me",
    "refresh_token": SECRET,
    "token_endpoint": "https://login.example.com/token",
    "token_endpoint_auth": {"type": "client_secret_post", "client_secret": SECRET},
    "scope": "read",
}


def test_a_variable(client: anthropic.Anthropic, vault: str) -> None:
    made = client.beta.vaults.credentials.create(
        vault,
        auth=variable(
            networking={"type": "limited", "allowed_hosts": ["a.example", "192.0.2.1", "*.b.example"]}
        ),
        display_name="token",
        metadata={"k": "v"},
    )
    assert made.id.startswith("vcrd_")
    assert (made.type, made.vault_id, made.display_name) == ("vault_credential", vault, "token")
    assert made.auth.to_dict() == {
        "type": "environment_variable",
        "secret_name": "TOKEN",
        "networking": {"type": "limited", "allowed_hosts": ["a.example", "192.0.2.1", "*.b.example"]},
        "injection_location": {"header": True, "body": True},
    }
    assert client.beta.vaults.credentials.retrieve(made.id, vault_id=vault) == made
    new = client.beta.vaults.credentials.update(
        made.id,
        vault_id=vault,
        auth={
            "type": "environment_variable",
            "secret_value": OTHER,
            "networking": UNRESTRICTED,
            "injection_location": {"body": False},
        },
        metadata={"k": None},
    )
    assert new.auth.to_dict()["injection_location"] == {"header": True, "body": False}
    assert new.auth.to_dict()["networking"] == UNRESTRICTED
    assert (new.metadata, new.display_name) == ({}, "token")
    assert new.updated_at > made.updated_at


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ({"header": True}, {"header": True, "body": False}),
        ({"body": True}, {"header": False, "body": True}),
        ({"header": False, "body": True}, {"header": False, "body": True}),
    ],
)
def test_a_location_that_an_object_leaves_out_is_off(
    client: anthropic.Anthropic, vault: str, given: Any, kept: Any
) -> None:
    made = client.beta.vaults.credentials.create(vault, auth=variable(injection_location=given))
    assert made.auth.to_dict()["injection_location"] == kept


def test_a_bearer_and_an_oauth_token(client: anthropic.Anthropic, vault: str) -> None:
    bearer = client.beta.vaults.credentials.create(
        vault, auth={"type": "static_bearer", "token": SECRET, "mcp_server_url": "https://a.example/sse"}
    )
    assert bearer.auth.to_dict() == {"type": "static_bearer", "mcp_server_url": "https://a.example/sse"}
    made = client.beta.vaults.credentials.create(
        vault, auth=oauth(expires_at="2100-01-01T00:00:00+01:00", refresh=REFRESH)
    )
    assert made.auth.to_dict(mode="json") == {
        "type": "mcp_oauth",
        "mcp_server_url": "https://mcp.example.com/sse",
        "expires_at": "2099-12-31T23:00:00Z",
        "refresh": {
            "client_id": "me",
            "token_endpoint": "https://login.example.com/token",
            "token_endpoint_auth": {"type": "client_secret_post"},
            "resource": None,
            "scope": "read",
        },
    }
    changed = client.beta.vaults.credentials.update(
        made.id,
        vault_id=vault,
        auth={
            "type": "mcp_oauth",
            "access_token": OTHER,
            "expires_at": None,
            "refresh": {
                "scope": "",
                "refresh_token": OTHER,
                "token_endpoint_auth": {"type": "client_secret_basic", "client_secret": OTHER},
            },
        },
    )
    after = changed.auth.to_dict(mode="json")
    assert after["expires_at"] is None
    assert after["refresh"]["scope"] is None
    assert after["refresh"]["token_endpoint_auth"] == {"type": "client_secret_post"}
    assert [each.id for each in client.beta.vaults.credentials.list(vault, limit=1)] == [made.id, bearer.id]


def test_a_name_and_a_server_are_there_once(client: anthropic.Anthropic, vault: str) -> None:
    first = client.beta.vaults.credentials.create(vault, auth=variable())
    client.beta.vaults.credentials.create(vault, auth=oauth())
    for auth in (variable(), oauth()):
        with pytest.raises(anthropic.ConflictError) as caught:
            client.beta.vaults.credentials.create(vault, auth=auth)
        assert caught.value.response.headers["x-should-retry"] == "false"
    archived = client.beta.vaults.credentials.archive(first.id, vault_id=vault)
    assert archived.archived_at is not None
    second = client.beta.vaults.credentials.create(vault, auth=variable())
    assert next(iter(client.beta.vaults.credentials.list(vault))).id == second.id
    assert len(list(client.beta.vaults.credentials.list(vault, include_archived=True))) == 3
    with pytest.raises(anthropic.BadRequestError):
        client.beta.vaults.credentials.update(first.id, vault_id=vault, display_name="x")
    done = client.beta.vaults.credentials.delete(first.id, vault_id=vault)
    assert (done.id, done.type) == (first.id, "vault_credential_deleted")
    with pytest.raises(anthropic.NotFoundError):
        client.beta.vaults.credentials.retrieve(first.id, vault_id=vault)


def test_a_credential_is_found_in_its_own_vault_alone(client: anthropic.Anthropic, vault: str) -> None:
    other = client.beta.vaults.create(display_name="other").id
    made = client.beta.vaults.credentials.create(vault, auth=variable())
    with pytest.raises(anthropic.NotFoundError):
        client.beta.vaults.credentials.retrieve(made.id, vault_id=other)
    assert client.beta.vaults.credentials.create(other, auth=variable()).vault_id == other


def test_a_vault_holds_twenty(client: anthropic.Anthropic, vault: str) -> None:
    for number in range(20):
        client.beta.vaults.credentials.create(vault, auth=variable(secret_name=f"T{number}"))
    with pytest.raises(anthropic.BadRequestError, match="20 credentials"):
        client.beta.vaults.credentials.create(vault, auth=variable())


MISTAKES: tuple[tuple[Any, str], ...] = (
    (variable(secret_name="9A"), "secret_name"),
    (variable(secret_name=""), "secret_name"),
    (variable(secret_value=""), "secret_value"),
    (variable(networking=None), "networking"),
    (variable(networking={"type": "limited"}), "allowed_hosts"),
    (variable(networking={"type": "limited", "allowed_hosts": ["a.example"] * 17}), "allowed_hosts"),
    *(
        (variable(networking={"type": "limited", "allowed_hosts": [host]}), "allowed_hosts")
        for host in (
            "https://a.example",
            "a.example:443",
            "a.example/x",
            "::1",
            "*",
            "a.*.example",
            "",
            "1.2.3",
        )
    ),
    (variable(injection_location={}), "injection_location"),
    (variable(injection_location={"header": False, "body": False}), "injection_location"),
    (oauth(mcp_server_url="ftp://a.example"), "mcp_server_url"),
    (oauth(expires_at="2001-01-01T00:00:00Z"), "expires_at"),
    (oauth(expires_at="tomorrow"), "expires_at"),
    (oauth(refresh={**REFRESH, "token_endpoint": "x"}), "token_endpoint"),
    (oauth(refresh={**REFRESH, "token_endpoint_auth": {"type": "client_secret_post"}}), "client_secret"),
    ({"type": "password", "value": SECRET}, "auth"),
    ({"type": "static_bearer", "token": SECRET}, "mcp_server_url"),
)


@pytest.mark.parametrize(
    ("auth", "told"), MISTAKES, ids=[f"{index}-{told}" for index, (_, told) in enumerate(MISTAKES)]
)
def test_a_mistake_is_named_without_the_secret(
    client: anthropic.Anthropic, vault: str, auth: Any, told: str
) -> None:
    with pytest.raises(anthropic.BadRequestError) as caught:
        client.beta.vaults.credentials.create(vault, auth=auth)
    assert told in str(caught.value)
    assert SECRET not in caught.value.response.text
    assert list(client.beta.vaults.credentials.list(vault)) == []


def test_what_can_t_change(client: anthropic.Anthropic, vault: str) -> None:
    made = client.beta.vaults.credentials.create(vault, auth=variable())
    plain = client.beta.vaults.credentials.create(vault, auth=oauth())
    public = {**REFRESH, "token_endpoint_auth": {"type": "none"}}
    none = client.beta.vaults.credentials.create(
        vault, auth=oauth(mcp_server_url="https://b.example", refresh=public)
    )
    basic = {"type": "client_secret_basic", "client_secret": SECRET}
    for identifier, auth, told in (
        (made.id, {"type": "environment_variable", "secret_name": "X"}, "secret_name"),
        (made.id, {"type": "static_bearer", "token": "x"}, "can't become static_bearer"),
        (
            made.id,
            {"type": "environment_variable", "injection_location": {"header": False, "body": False}},
            "must be",
        ),
        (plain.id, {"type": "mcp_oauth", "mcp_server_url": "https://b.example"}, "mcp_server_url"),
        (plain.id, {"type": "mcp_oauth", "refresh": {"refresh_token": "x"}}, "made without"),
        (
            none.id,
            {"type": "mcp_oauth", "refresh": {"token_endpoint_auth": basic}},
            "made without a client secret",
        ),
    ):
        with pytest.raises(anthropic.BadRequestError, match=told):
            client.beta.vaults.credentials.update(identifier, vault_id=vault, extra_body={"auth": auth})


def test_trying_a_credential_out_is_refused_by_name(client: anthropic.Anthropic, vault: str) -> None:
    made = client.beta.vaults.credentials.create(vault, auth=oauth())
    with pytest.raises(anthropic.BadRequestError, match="mcp_oauth_validate"):
        client.beta.vaults.credentials.mcp_oauth_validate(made.id, vault_id=vault)


def holding(place: Path, text: str) -> Iterator[Path]:
    for path in place.rglob("*"):
        if path.is_file() and text.encode() in path.read_bytes():
            yield path


def test_a_secret_is_in_no_file_log_or_answer(empty_data_dir: Path, caplog: pytest.LogCaptureFixture) -> None:
    answers = []
    with (
        caplog.at_level(logging.DEBUG),
        Emulator(str(empty_data_dir), keep=True) as emulator,
        httpx.Client(event_hooks={"response": [lambda answer: answers.append(answer.read())]}) as plain,
    ):
        headers = {"x-api-key": "k", "anthropic-beta": "managed-agents-2026-04-01"}
        url = f"{emulator.base_url}/v1/vaults"
        vault = plain.post(url, json={"display_name": "visible-name"}, headers=headers).json()["id"]
        where = f"{url}/{vault}/credentials"
        for auth in (
            variable(),
            oauth(refresh=REFRESH),
            {**oauth(), "type": "static_bearer"},
            variable(type="x"),
        ):
            plain.post(where, json={"auth": auth}, headers=headers)
        first = plain.get(where, headers=headers).json()["data"][-1]
        change = {"auth": {"type": "environment_variable", "secret_value": OTHER}}
        assert plain.post(f"{where}/{first['id']}", json=change, headers=headers).status_code == 200
        assert list(holding(empty_data_dir, "visible-name"))
        for secret in (SECRET, OTHER):
            assert list(holding(empty_data_dir, secret)) == []
            assert not any(secret.encode() in answer for answer in answers)
            assert secret not in caplog.text
    assert [list(holding(empty_data_dir, secret)) for secret in (SECRET, OTHER)] == [[], []]
    key = empty_data_dir / "managed/secrets.key"
    assert key.stat().st_mode & 0o777 == 0o600
