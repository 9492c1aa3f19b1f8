"""Vaults by the official client."""

from __future__ import annotations

import logging
from typing import Any

import anthropic
import pytest

from sandbox.managed import credentials, vaults
from sandbox.managed.credential_bodies import Bearer, CredentialCreate
from sandbox.managed.failures import Refused
from sandbox.managed.service import Service, open_service
from sandbox.managed.vault_bodies import VaultCreate


def test_a_vault_is_made_and_changed(client: anthropic.Anthropic) -> None:
    made = client.beta.vaults.create(display_name="mine", metadata={"k": "v", "l": "w"})
    assert made.id.startswith("vlt_")
    assert (made.type, made.archived_at) == ("vault", None)
    new = client.beta.vaults.update(made.id, display_name="yours", metadata={"k": None, "l": ""})
    assert (new.display_name, new.metadata) == ("yours", {"l": ""})
    assert client.beta.vaults.retrieve(made.id) == new
    assert client.beta.vaults.update(made.id, display_name=None) == new


def test_lists_have_archived_ones_on_request(client: anthropic.Anthropic) -> None:
    made = [client.beta.vaults.create(display_name=f"v{number}") for number in range(5)]
    client.beta.vaults.archive(made[2].id)
    assert [each.display_name for each in client.beta.vaults.list(limit=2)] == ["v4", "v3", "v1", "v0"]
    assert len(list(client.beta.vaults.list(limit=2, include_archived=True))) == 5


def test_an_archived_vault_is_read_only_and_its_credentials_are_archived(client: anthropic.Anthropic) -> None:
    made = client.beta.vaults.create(display_name="v")
    held = client.beta.vaults.credentials.create(
        made.id, auth={"type": "static_bearer", "token": "t", "mcp_server_url": "https://a.example"}
    )
    gone = client.beta.vaults.archive(made.id)
    assert gone.archived_at is not None
    assert client.beta.vaults.archive(made.id) == gone
    assert client.beta.vaults.credentials.retrieve(held.id, vault_id=made.id).archived_at == gone.archived_at
    with pytest.raises(anthropic.BadRequestError) as caught:
        client.beta.vaults.update(made.id, display_name="x")
    assert caught.value.response.json()["error"]["details"]["error_code"] == "vault_archived"
    with pytest.raises(anthropic.BadRequestError):
        client.beta.vaults.credentials.create(
            made.id, auth={"type": "static_bearer", "token": "t", "mcp_server_url": "https://b.example"}
        )


def test_a_deleted_vault_is_gone_with_what_it_held(client: anthropic.Anthropic) -> None:
    made = client.beta.vaults.create(display_name="v")
    held = client.beta.vaults.credentials.create(
        made.id, auth={"type": "static_bearer", "token": "t", "mcp_server_url": "https://a.example"}
    )
    assert client.beta.vaults.delete(made.id).type == "vault_deleted"
    for attempt in (
        lambda: client.beta.vaults.retrieve(made.id),
        lambda: client.beta.vaults.delete(made.id),
        lambda: client.beta.vaults.credentials.retrieve(held.id, vault_id=made.id),
        lambda: list(client.beta.vaults.credentials.list(made.id)),
    ):
        with pytest.raises(anthropic.NotFoundError):
            attempt()


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"display_name": ""}, "display_name"),
        ({"display_name": "x" * 256}, "display_name"),
        ({"metadata": {f"k{number}": "v" for number in range(17)}}, "metadata"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_a_mistake_is_named(client: anthropic.Anthropic, fields: dict[str, Any], told: str) -> None:
    with pytest.raises(anthropic.BadRequestError) as caught:
        client.beta.vaults.create(display_name="fine", extra_body=fields)
    assert f"{told}: " in str(caught.value)


@pytest.fixture
def service(empty_data_dir: Any) -> Any:
    from sandbox import idmap

    opened = open_service(str(empty_data_dir), idmap.choose(idmap.read_host_ids()))
    yield opened
    opened.close()


def test_attaching_warns_that_secrets_stay_here(service: Service, caplog: pytest.LogCaptureFixture) -> None:
    made = [vaults.create(service.database, VaultCreate(display_name="v"))["id"] for _ in range(2)]
    with caplog.at_level(logging.WARNING):
        vaults.attach(service.database, [])
        assert caplog.text == ""
        vaults.attach(service.database, made)
    assert all(identifier in caplog.text for identifier in made)
    vaults.archive(service.database, made[0])
    for refused in (made, ["vlt_nobody"], [made[1], made[1]]):
        with pytest.raises(Refused):
            vaults.attach(service.database, refused)


def test_what_is_archived_is_forgotten(service: Service) -> None:
    vault = vaults.create(service.database, VaultCreate(display_name="v"))["id"]
    auth = Bearer(type="static_bearer", token="t", mcp_server_url="https://a.example")
    body = CredentialCreate(auth=auth)
    held = credentials.create(service.database, service.secrets, vault, body)["id"]
    assert credentials.reveal(service.database, service.secrets, held) == {"token": "t"}
    vaults.archive(service.database, vault)
    assert credentials.reveal(service.database, service.secrets, held) == {}
