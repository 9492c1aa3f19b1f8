"""Environments by the official client."""

from __future__ import annotations

import asyncio
from typing import Any

import anthropic
import httpx
import pytest
from anthropic.types.beta import BetaCloudConfig

from sandbox.emulator.embedded import Emulator
from sandbox.managed.database import Database

NO_PACKAGES = {"type": "packages", "apt": [], "cargo": [], "gem": [], "go": [], "npm": [], "pip": []}


def config(**fields: Any) -> dict[str, Any]:
    return {"extra_body": {"config": {"type": "cloud", **fields}}}


def test_what_is_left_out_is_spelled_out_in_the_answer(client: anthropic.Anthropic) -> None:
    made = client.beta.environments.create(name="plain")
    assert made.id.startswith("env_")
    assert (made.type, made.description, made.scope, made.archived_at) == (
        "environment",
        None,
        "organization",
        None,
    )
    assert made.config.to_dict() == {
        "type": "cloud",
        "networking": {"type": "unrestricted"},
        "packages": NO_PACKAGES,
    }
    limited = client.beta.environments.create(
        name="limited",
        config={
            "type": "cloud",
            "networking": {"type": "limited", "allowed_hosts": ["https://a.example.com", "*.b.example"]},
            "packages": None,
        },
        description="d",
        metadata={"team": "a"},
    )
    assert limited.config.to_dict()["networking"] == {
        "type": "limited",
        "allowed_hosts": ["https://a.example.com", "*.b.example"],
        "allow_mcp_servers": False,
        "allow_package_managers": False,
    }
    assert client.beta.environments.retrieve(limited.id) == limited
    hosted = client.beta.environments.create(name="own", config={"type": "self_hosted"})
    assert hosted.config.to_dict() == {"type": "self_hosted"}


def test_the_older_word_for_limited_is_taken(client: anthropic.Anthropic) -> None:
    made = client.beta.environments.create(
        name="older",
        **config(networking={"type": "package_managers_and_custom", "allowed_hosts": ["a.example"]}),
    )
    expected = {
        "type": "limited",
        "allowed_hosts": ["a.example"],
        "allow_mcp_servers": False,
        "allow_package_managers": True,
    }
    assert made.config.to_dict()["networking"] == expected
    client.beta.environments.update(
        made.id, config={"type": "cloud", "networking": {"type": "limited", "allow_package_managers": False}}
    )
    again = client.beta.environments.update(
        made.id, **config(networking={"type": "package_managers_and_custom"})
    )
    assert again.config.to_dict()["networking"] == expected


def test_an_update_merges(client: anthropic.Anthropic) -> None:
    made = client.beta.environments.create(
        name="a",
        config={
            "type": "cloud",
            "networking": {"type": "limited", "allowed_hosts": ["a.example"], "allow_mcp_servers": True},
        },
        description="d",
        metadata={"k": "v", "l": "w", "m": "x"},
    )
    new = client.beta.environments.update(
        made.id,
        description="",
        metadata={"k": None, "l": "", "n": "y"},
        config={"type": "cloud", "networking": {"type": "limited", "allowed_hosts": ["b.example"]}},
    )
    assert (new.name, new.description, new.metadata) == ("a", "", {"m": "x", "n": "y"})
    assert new.updated_at > made.updated_at
    assert new.config.to_dict()["networking"] == {
        "type": "limited",
        "allowed_hosts": ["b.example"],
        "allow_mcp_servers": True,
        "allow_package_managers": False,
    }
    cleared = client.beta.environments.update(made.id, description=None)
    assert cleared.description is None
    open_now = client.beta.environments.update(
        made.id, config={"type": "cloud", "networking": {"type": "unrestricted"}}
    )
    assert isinstance(open_now.config, BetaCloudConfig)
    assert open_now.config.networking.to_dict() == {"type": "unrestricted"}
    again = client.beta.environments.update(
        made.id, config={"type": "cloud", "networking": {"type": "limited"}}
    )
    assert again.config.to_dict()["networking"]["allowed_hosts"] == []
    assert client.beta.environments.update(made.id) == again


def test_merged_fields_are_judged_together(client: anthropic.Anthropic) -> None:
    """Packages stay when networking changes, so limited networking has to let their registries in."""
    made = client.beta.environments.create(name="a", **config(packages={"pip": ["six"], "npm": ["tsx"]}))
    with pytest.raises(anthropic.BadRequestError, match="allow_package_managers"):
        client.beta.environments.update(made.id, config={"type": "cloud", "networking": {"type": "limited"}})
    networking = {"type": "limited", "allow_package_managers": True}
    changed = client.beta.environments.update(
        made.id, **config(networking=networking, packages={"npm": [], "apt": ["jq"]})
    )
    assert changed.config.to_dict()["packages"] == {**NO_PACKAGES, "pip": ["six"], "apt": ["jq"]}


def test_the_history_has_each_change(emulator: Emulator, client: anthropic.Anthropic) -> None:
    made = client.beta.environments.create(name="a")
    client.beta.environments.update(made.id, description="one")
    client.beta.environments.update(made.id, description="one")
    client.beta.environments.update(made.id, name="b")
    url = f"{emulator.base_url}/sandbox/environments/{made.id}/revisions"
    found = httpx.get(url, headers={"x-api-key": "k"}).json()["data"]
    assert [(each["revision"], each["name"], each["description"]) for each in found] == [
        (3, "b", "one"),
        (2, "a", "one"),
        (1, "a", None),
    ]


def test_a_name_is_had_by_one(client: anthropic.Anthropic) -> None:
    first = client.beta.environments.create(name="a")
    second = client.beta.environments.create(name="b")
    for attempt in (
        lambda: client.beta.environments.create(name="a"),
        lambda: client.beta.environments.update(second.id, name="a"),
    ):
        with pytest.raises(anthropic.ConflictError) as caught:
            attempt()
        assert first.id in str(caught.value)
        assert caught.value.response.headers["x-should-retry"] == "false"
    client.beta.environments.archive(first.id)
    assert client.beta.environments.update(second.id, name="a").name == "a"


def test_an_archived_environment_is_read_only_and_listed_only_on_request(client: anthropic.Anthropic) -> None:
    made = [client.beta.environments.create(name=f"e{number}") for number in range(5)]
    gone = client.beta.environments.archive(made[2].id)
    assert gone.archived_at is not None
    assert client.beta.environments.archive(made[2].id) == gone
    assert [each.name for each in client.beta.environments.list(limit=2)] == ["e4", "e3", "e1", "e0"]
    assert len(list(client.beta.environments.list(limit=2, include_archived=True))) == 5
    with pytest.raises(anthropic.BadRequestError) as caught:
        client.beta.environments.update(made[2].id, description="x")
    assert caught.value.error_code == "environment_archived"


def test_the_older_form_of_pages(emulator: Emulator, client: anthropic.Anthropic) -> None:
    made = [client.beta.environments.create(name=f"e{number}").id for number in range(3)]
    headers = {"x-api-key": "k", "anthropic-beta": "managed-agents-2026-04-01"}
    url = f"{emulator.base_url}/v1/environments"
    first = httpx.get(url, params={"limit": 2}, headers=headers).json()
    assert (first["first_id"], first["last_id"], first["has_more"]) == (made[2], made[1], True)
    rest = httpx.get(url, params={"after_id": first["last_id"]}, headers=headers).json()
    assert [each["id"] for each in rest["data"]] == [made[0]]
    back = httpx.get(url, params={"before_id": made[0], "limit": 1}, headers=headers).json()
    assert [each["id"] for each in back["data"]] == [made[1]]


def test_a_deleted_environment_is_gone(client: anthropic.Anthropic) -> None:
    made = client.beta.environments.create(name="a")
    done = client.beta.environments.delete(made.id)
    assert (done.id, done.type) == (made.id, "environment_deleted")
    for attempt in (client.beta.environments.retrieve, client.beta.environments.delete):
        with pytest.raises(anthropic.NotFoundError):
            attempt(made.id)
    assert client.beta.environments.create(name="a").id != made.id


def test_one_that_a_session_uses_is_not_deleted(
    emulator: Emulator, client: anthropic.Anthropic, empty_data_dir: Any
) -> None:
    made = client.beta.environments.create(name="a")
    database = Database(str(empty_data_dir / "managed/state.db"))
    session = {"id": "sesn_x", "created_at": "2026-01-01T00:00:00.000000Z"}
    columns = {"status": "idle", "agent_id": "agent_x", "agent_version": 1, "container": "{}"}
    database.insert("sessions", session, environment_id=made.id, **columns)
    with pytest.raises(anthropic.ConflictError) as caught:
        client.beta.environments.delete(made.id)
    assert "used by 1 session:" in str(caught.value)
    assert caught.value.response.headers["x-should-retry"] == "false"
    database.delete("sessions", "sesn_x")
    database.close()
    client.beta.environments.delete(made.id)


def test_the_type_stays(client: anthropic.Anthropic) -> None:
    made = client.beta.environments.create(name="a")
    with pytest.raises(anthropic.BadRequestError) as caught:
        client.beta.environments.update(made.id, config={"type": "self_hosted"})
    assert caught.value.error_code == "invalid_config_type_change"


METADATA: tuple[tuple[dict[str, str], str], ...] = (
    ({f"k{number}": "v" for number in range(17)}, "pairs; 16 are allowed"),
    ({"k" * 65: "v"}, "65 characters"),
    ({"": "v"}, "0 characters"),
    ({"k": "v" * 513}, "513 characters"),
    ({"anthropic.team": "a"}, "reserved"),
    ({"Sandboxsh-x": "a"}, "reserved"),
)


@pytest.mark.parametrize(("metadata", "told"), METADATA, ids=[told for _, told in METADATA])
def test_metadata_that_is_refused(client: anthropic.Anthropic, metadata: dict[str, str], told: str) -> None:
    made = client.beta.environments.create(name="a", metadata={"my_anthropic": "fine", "k" * 64: "v" * 512})
    for attempt in (
        lambda: client.beta.environments.create(name="b", metadata=metadata),
        lambda: client.beta.environments.update(made.id, metadata=dict(metadata)),
    ):
        with pytest.raises(anthropic.BadRequestError) as caught:
            attempt()
        assert caught.value.error_code == "invalid_metadata"
        assert told in str(caught.value)
    assert client.beta.environments.retrieve(made.id) == made


MISTAKES: tuple[tuple[dict[str, Any], str], ...] = (
    ({"name": ""}, "name: "),
    ({"name": "x" * 257}, "name: "),
    ({"colour": "red"}, "colour: unknown or unsupported field"),
    ({"scope": "account"}, "scope: "),
    ({"description": "x" * 2049}, "description: "),
    ({"metadata": {"k": 1}}, "metadata.k: "),
    ({"config": []}, "config: "),
    ({"config": {}}, "config.type: is required"),
    ({"config": {"type": "clod"}}, "config.type: "),
    ({"config": {"type": "cloud", "colour": 1}}, "config.colour: is not a known field"),
    ({"config": {"type": "self_hosted", "packages": {}}}, "config.packages: means nothing"),
    ({"config": {"type": "cloud", "networking": {}}}, "config.networking.type: is missing"),
    ({"config": {"type": "cloud", "networking": "limited"}}, "config.networking: "),
    (
        {
            "config": {
                "type": "cloud",
                "networking": {"type": "limited", "allowed_hosts": ["http://a.example"]},
            }
        },
        "config.networking.allowed_hosts[0]: ",
    ),
    (
        {"config": {"type": "cloud", "networking": {"type": "limited", "allowed_hosts": ["a.example/x"]}}},
        "config.networking.allowed_hosts[0]: ",
    ),
    (
        {"config": {"type": "cloud", "networking": {"type": "unrestricted", "allowed_hosts": ["a.example"]}}},
        "config.networking.allowed_hosts: ",
    ),
    ({"config": {"type": "cloud", "packages": {"pip": ["--index-url=x"]}}}, "config.packages.pip[0]: "),
    ({"config": {"type": "cloud", "packages": {"conda": ["x"]}}}, "config.packages.conda: "),
    (
        {"config": {"type": "cloud", "networking": {"type": "limited"}, "packages": {"pip": ["six"]}}},
        "config.networking.allow_package_managers: must be true",
    ),
)


@pytest.mark.parametrize(
    ("fields", "told"), MISTAKES, ids=[told + str(index) for index, (_, told) in enumerate(MISTAKES)]
)
def test_a_mistake_is_named_and_nothing_is_made(
    client: anthropic.Anthropic, fields: dict[str, Any], told: str
) -> None:
    with pytest.raises(anthropic.BadRequestError) as caught:
        client.beta.environments.create(name="fine", extra_body=fields)
    assert told in str(caught.value)
    assert list(client.beta.environments.list()) == []


@pytest.mark.parametrize("place", ["pip", "allowed_hosts", "name"])
def test_half_a_character_is_refused(emulator: Emulator, place: str) -> None:
    bodies = {
        "pip": r'{"name": "a", "config": {"type": "cloud", "packages": {"pip": ["\ud800"]}}}',
        "allowed_hosts": r'{"name": "a", "config": {"type": "cloud", "networking": '
        r'{"type": "limited", "allowed_hosts": ["\ud800.example"]}}}',
        "name": r'{"name": "\ud800"}',
    }
    headers = {"x-api-key": "k", "anthropic-beta": "managed-agents-2026-04-01"}
    headers["content-type"] = "application/json"
    answer = httpx.post(f"{emulator.base_url}/v1/environments", content=bodies[place], headers=headers)
    assert answer.status_code == 400
    assert place in answer.json()["error"]["message"]


def test_the_asynchronous_client(emulator: Emulator) -> None:
    async def use() -> list[str]:
        async with anthropic.AsyncAnthropic(base_url=emulator.base_url, api_key="k") as client:
            made = await asyncio.gather(*(client.beta.environments.create(name=f"e{n}") for n in range(5)))
            await client.beta.environments.delete(made[0].id)
            return sorted([each.name async for each in client.beta.environments.list(limit=2)])

    assert asyncio.run(use()) == ["e1", "e2", "e3", "e4"]
