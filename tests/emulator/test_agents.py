"""Agents by the official client."""

from __future__ import annotations

from typing import Any

import anthropic
import pytest

MODEL = "claude-opus-5-5"


def test_an_agent_is_made_and_read_again(client: anthropic.Anthropic) -> None:
    made = client.beta.agents.create(
        name="reviewer",
        model=MODEL,
        system="Read.",
        tools=[
            {"type": "agent_toolset_20260401", "configs": [{"name": "bash", "enabled": False}]},
            {"type": "mcp_toolset", "mcp_server_name": "docs"},
        ],
        mcp_servers=[{"type": "url", "name": "docs", "url": "https://mcp.example.com/sse"}],
        metadata={"team": "a"},
    )
    assert made.version == 1
    assert made.model.id == MODEL
    toolset, mcp = made.tools
    assert toolset.type == "agent_toolset_20260401"
    assert toolset.default_config.permission_policy.type == "always_allow"
    assert [(tool.name, tool.enabled) for tool in toolset.configs] == [("bash", False)]
    assert mcp.type == "mcp_toolset"
    assert mcp.default_config.permission_policy.type == "always_ask"
    assert client.beta.agents.retrieve(made.id) == made


def test_a_change_makes_a_version_and_the_old_one_can_be_read(client: anthropic.Anthropic) -> None:
    made = client.beta.agents.create(name="a", model=MODEL, system="one", metadata={"k": "v", "l": "w"})
    same = client.beta.agents.update(made.id, version=1, name="a")
    assert same.version == 1
    new = client.beta.agents.update(made.id, version=1, name="b", system=None, metadata={"k": None, "m": "x"})
    assert (new.version, new.name, new.system, new.metadata) == (2, "b", None, {"l": "w", "m": "x"})
    assert client.beta.agents.retrieve(made.id, version=1).name == "a"
    assert [agent.version for agent in client.beta.agents.versions.list(made.id, limit=1)] == [2, 1]
    with pytest.raises(anthropic.ConflictError) as caught:
        client.beta.agents.update(made.id, version=1, name="c")
    assert "has version 2" in str(caught.value)
    assert caught.value.response.headers["x-should-retry"] == "false"


def test_an_archived_agent_is_listed_only_on_request(client: anthropic.Anthropic) -> None:
    made = [client.beta.agents.create(name=f"a{number}", model=MODEL) for number in range(5)]
    gone = client.beta.agents.archive(made[2].id)
    assert gone.archived_at is not None
    assert client.beta.agents.archive(made[2].id).archived_at == gone.archived_at
    assert [agent.name for agent in client.beta.agents.list(limit=2)] == ["a4", "a3", "a1", "a0"]
    assert len(list(client.beta.agents.list(limit=2, include_archived=True))) == 5
    with pytest.raises(anthropic.BadRequestError) as caught:
        client.beta.agents.update(made[2].id, name="x")
    assert caught.value.error_code == "agent_archived"


def test_agents_are_filtered_by_time(client: anthropic.Anthropic) -> None:
    first = client.beta.agents.create(name="first", model=MODEL)
    second = client.beta.agents.create(name="second", model=MODEL)
    after = client.beta.agents.list(created_at_gte=second.created_at)
    assert [agent.name for agent in after] == ["second"]
    before = client.beta.agents.list(created_at_lte=first.created_at)
    assert [agent.name for agent in before] == ["first"]


MISTAKES: tuple[tuple[dict[str, Any], str], ...] = (
    ({"name": ""}, "name: "),
    ({"name": "x" * 257}, "name: "),
    ({"colour": "red"}, "colour: unknown or unsupported field"),
    ({"multiagent": {"type": "coordinator", "agents": []}}, "multiagent: "),
    ({"system": "x" * 100_001}, "system: "),
    ({"metadata": {f"k{number}": "v" for number in range(17)}}, "metadata: "),
    ({"metadata": {"k": 1}}, "metadata.k: "),
    ({"tools": [{"type": "teleport"}]}, "tools.0.type: 'teleport' is none of"),
    ({"tools": [{"type": "mcp_toolset", "mcp_server_name": "docs"}]}, "no server of that name"),
    ({"mcp_servers": [{"type": "url", "name": "d", "url": "https://d.example"}]}, "no mcp_toolset"),
    ({"mcp_servers": [{"type": "url", "name": "d", "url": "ftp://d.example"}]}, "mcp_servers.0.url"),
    ({"tools": [{"type": "custom", "name": "a b", "description": "d", "input_schema": {}}]}, "tools.0"),
)


@pytest.mark.parametrize(("fields", "told"), MISTAKES, ids=[told for _, told in MISTAKES])
def test_a_mistake_is_named_and_nothing_is_made(
    client: anthropic.Anthropic, fields: dict[str, Any], told: str
) -> None:
    with pytest.raises(anthropic.BadRequestError) as caught:
        client.beta.agents.create(name="fine", model=MODEL, extra_body=fields)
    assert told in str(caught.value)
    assert caught.value.request_id
    assert list(client.beta.agents.list()) == []
