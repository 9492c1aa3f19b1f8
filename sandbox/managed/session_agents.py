"""The agent of a session: which one, with what in the place of its own, fixed when the session is made."""

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from netpolicy.hosts import parse_target
from netpolicy.policy import decide, request_for
from sandbox import networks
from sandbox.environment import Environment
from sandbox.managed import agents
from sandbox.managed.database import Database, Document
from sandbox.managed.failures import invalid
from sandbox.managed.toolsets import McpServer, Model, Skill, Tool, check_together, mcp_endpoint
from sandbox.managed.values import Strict

_Id = Annotated[str, Field(min_length=1, max_length=128)]
_Version = Annotated[int, Field(ge=1, lt=1 << 31)]
_Tools = Annotated[list[Tool], Field(max_length=256)]
_Servers = Annotated[list[McpServer], Field(max_length=20)]
_SNAPSHOT = (
    "id",
    "version",
    "name",
    "description",
    "model",
    "system",
    "tools",
    "mcp_servers",
    "skills",
    "multiagent",
    "execution_identity",
)


class AgentNamed(Strict):
    type: Literal["agent"]
    id: _Id
    version: _Version | None = None


class AgentOverridden(Strict):
    """An agent with some of its fields replaced whole; ``system`` null clears it."""

    type: Literal["agent_with_overrides"]
    id: _Id
    version: _Version | None = None
    model: Annotated[str, Field(min_length=1, max_length=256)] | Model | None = None
    system: Annotated[str, Field(max_length=100_000)] | None = None
    tools: _Tools | None = None
    mcp_servers: _Servers | None = None
    skills: Annotated[list[Skill], Field(max_length=20)] | None = None


class AgentChange(Strict):
    """What may change of a session's agent. Each list replaces the old one."""

    tools: _Tools | None = None
    mcp_servers: _Servers | None = None


def _form(value: Any) -> str:
    if isinstance(value, str):
        return "id"
    return str(value.get("type")) if isinstance(value, dict) else getattr(value, "type", "")


AgentGiven = Annotated[
    Annotated[_Id, Tag("id")]
    | Annotated[AgentNamed, Tag("agent")]
    | Annotated[AgentOverridden, Tag("agent_with_overrides")],
    Discriminator(_form),
]


def snapshot(database: Database, given: str | AgentNamed | AgentOverridden) -> Document:
    """The agent as the session keeps it. Refused when there is none such, or it takes no new sessions."""
    identifier, version = (given, None) if isinstance(given, str) else (given.id, given.version)
    found = agents.get(database, identifier, version)
    # A version keeps how it was; the agent as it is says whether it is archived.
    if agents.get(database, found["id"])["archived_at"] is not None:
        raise invalid(f"agent: {found['id']} is archived and takes no new sessions.", code="agent_archived")
    agent: Document = {"type": "agent", **{name: found[name] for name in _SNAPSHOT}}
    if isinstance(given, AgentOverridden):
        agent |= _overrides(given)
        _check(agent, "agent")
    return agent


def change(agent: Document, given: AgentChange) -> Document:
    """``agent`` with the lists that are ``given``."""
    new = dict(agent)
    if given.tools is not None:
        new["tools"] = [tool.spelled_out() for tool in given.tools]
    if given.mcp_servers is not None:
        new["mcp_servers"] = [server.model_dump() for server in given.mcp_servers]
    _check(new, "agent")
    return new


def _overrides(given: AgentOverridden) -> Document:
    new: Document = {}
    if given.model is not None:
        new["model"] = (Model(id=given.model) if isinstance(given.model, str) else given.model).spelled_out()
    if "system" in given.model_fields_set:
        new["system"] = given.system or None
    if given.tools is not None:
        new["tools"] = [tool.spelled_out() for tool in given.tools]
    if given.mcp_servers is not None:
        new["mcp_servers"] = [server.model_dump() for server in given.mcp_servers]
    if given.skills is not None:
        new["skills"] = [skill.spelled_out() for skill in given.skills]
    return new


def _check(agent: Document, path: str) -> None:
    problem = check_together(agent["tools"], agent["mcp_servers"])
    if problem is not None:
        raise invalid(f"{path}.{problem}")


def check_servers(agent: Document, environment: Environment) -> None:
    """Refused when limited networking keeps one of the agent's MCP servers out."""
    networking = environment.networking
    if not agent["mcp_servers"] or networking.type != "limited" or networking.allow_mcp_servers:
        return
    policy = networks.make_policy(networks.of_environment(networking))
    for server in agent["mcp_servers"]:
        endpoint = mcp_endpoint(server["url"])
        assert endpoint is not None
        host, port = parse_target(f"{endpoint[0]}:{endpoint[1]}")
        if not decide(policy, request_for(policy, host, port)).allow:
            raise invalid(
                f"agent.mcp_servers: {server['name']} is at {host}, which the environment's limited networking "
                "keeps out: add it to allowed_hosts, or set allow_mcp_servers."
            )


OFF, ALLOW, ASK = "off", "allow", "ask"


def bash_policy(agent: Document) -> tuple[str, Document | None]:
    """Whether the agent's bash is ``off``, to ``allow`` or to ``ask``, and the policy that says so."""
    for toolset in agent["tools"]:
        if toolset["type"] != "agent_toolset_20260401":
            continue
        chosen = toolset["default_config"]
        for tool in toolset["configs"]:
            if tool["name"] == "bash":
                chosen = tool
        if not chosen["enabled"]:
            return OFF, None
        policy: Document = chosen["permission_policy"]
        return (ASK if policy["type"] == "always_ask" else ALLOW), policy
    return OFF, None
