"""The agent of a session: which one, with what in the place of its own, fixed when the session is made."""

from typing import TYPE_CHECKING

from netpolicy.hosts import parse_target
from netpolicy.policy import decide, request_for
from sandbox import networks
from sandbox.environment import Environment
from sandbox.managed import agents
from sandbox.managed.database import Database, Document
from sandbox.managed.failures import invalid
from sandbox.managed.mcp import check_together, mcp_endpoint

if TYPE_CHECKING:
    from sandbox.managed.session_bodies import AgentChange, AgentNamed, AgentOverridden

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


def snapshot(database: Database, given: "str | AgentNamed | AgentOverridden") -> Document:
    """The agent as the session keeps it. Refused when there is none such, or it takes no new sessions."""
    identifier, version = (given, None) if isinstance(given, str) else (given.id, given.version)
    found = agents.get(database, identifier, version)
    # A version keeps how it was; the agent as it is says whether it is archived.
    if agents.get(database, found["id"])["archived_at"] is not None:
        raise invalid(f"agent: {found['id']} is archived and takes no new sessions.", code="agent_archived")
    agent: Document = {"type": "agent", **{name: found[name] for name in _SNAPSHOT}}
    if not isinstance(given, str) and given.type == "agent_with_overrides":
        agent |= given.replaced()
        _check(agent, "agent")
    return agent


def change(agent: Document, given: "AgentChange") -> Document:
    """``agent`` with the lists that are ``given``."""
    new = agent | given.replaced()
    _check(new, "agent")
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
