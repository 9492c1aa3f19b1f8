"""The bodies of requests about sessions, with what they say of the session's agent."""

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from sandbox.managed.client_events import InitialEvent
from sandbox.managed.resource_bodies import Resources
from sandbox.managed.toolsets import McpServer, Model, Skill, Tool
from sandbox.managed.values import Metadata, MetadataPatch, Strict

_Id = Annotated[str, Field(min_length=1, max_length=128)]
_Version = Annotated[int, Field(ge=1, lt=1 << 31)]
_Tools = Annotated[list[Tool], Field(max_length=256)]
_Servers = Annotated[list[McpServer], Field(max_length=20)]
_Title = Annotated[str, Field(max_length=1024)]


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

    def replaced(self) -> dict[str, Any]:
        """The fields of the agent that are others."""
        new = _lists(self)
        if self.model is not None:
            new["model"] = (Model(id=self.model) if isinstance(self.model, str) else self.model).spelled_out()
        if "system" in self.model_fields_set:
            new["system"] = self.system or None
        if self.skills is not None:
            new["skills"] = [skill.spelled_out() for skill in self.skills]
        return new


class AgentChange(Strict):
    """What may change of a session's agent. Each list replaces the old one."""

    tools: _Tools | None = None
    mcp_servers: _Servers | None = None

    def replaced(self) -> dict[str, Any]:
        return _lists(self)


def _lists(given: AgentOverridden | AgentChange) -> dict[str, Any]:
    new: dict[str, Any] = {}
    if given.tools is not None:
        new["tools"] = [tool.spelled_out() for tool in given.tools]
    if given.mcp_servers is not None:
        new["mcp_servers"] = [server.model_dump() for server in given.mcp_servers]
    return new


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


class Money(Strict):
    """Minor units of the currency: "2500" is 25 dollars."""

    amount: Annotated[str, Field(pattern=r"^[1-9][0-9]{0,14}$")]
    currency: Literal["USD"]


class Budget(Strict):
    type: Literal["limit"]
    max_list_cost: Money


class SessionCreate(Strict):
    """The body of creating a session."""

    agent: AgentGiven
    environment_id: _Id
    title: _Title | None = None
    metadata: Metadata = {}
    vault_ids: Annotated[list[_Id], Field(max_length=100)] = []
    resources: Resources = []
    budget: Budget | None = None
    initial_events: Annotated[list[InitialEvent], Field(max_length=50)] = []


class SessionUpdate(Strict):
    """The body of updating one: what is left out stays; null clears the title or removes the budget."""

    title: _Title | None = None
    metadata: MetadataPatch | None = None
    budget: Budget | None = None
    agent: AgentChange | None = None
    vault_ids: Any = None
