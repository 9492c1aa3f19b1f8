"""The bodies of requests about agents."""

from typing import Annotated, Any, Literal

from pydantic import Field

from sandbox.managed.toolsets import McpServer, Model, Skill, Tool
from sandbox.managed.values import Metadata, MetadataPatch, Strict

_Name = Annotated[str, Field(min_length=1, max_length=256)]
_Description = Annotated[str, Field(max_length=2048)]
_System = Annotated[str, Field(max_length=100_000)]
_Tools = Annotated[list[Tool], Field(max_length=256)]
_Servers = Annotated[list[McpServer], Field(max_length=20)]
_Skills = Annotated[list[Skill], Field(max_length=20)]


class ServiceAccount(Strict):
    type: Literal["service_account"]


class AgentCreate(Strict):
    """The body of creating an agent. ``multiagent`` is not supported: null or left out."""

    name: _Name
    model: Annotated[str, Field(min_length=1, max_length=256)] | Model
    description: _Description | None = None
    system: _System | None = None
    tools: _Tools = []
    mcp_servers: _Servers = []
    skills: _Skills = []
    metadata: Metadata = {}
    multiagent: None = None
    execution_identity: ServiceAccount | None = None

    def full_model(self) -> dict[str, Any]:
        return _model(self.model)

    def lists(self) -> dict[str, Any]:
        return _lists(self)


class AgentUpdate(Strict):
    """The body of updating one: what is left out stays as it is; null clears."""

    version: Annotated[int, Field(ge=1)] | None = None
    name: _Name | None = None
    model: Annotated[str, Field(min_length=1, max_length=256)] | Model | None = None
    description: _Description | None = None
    system: _System | None = None
    tools: _Tools | None = None
    mcp_servers: _Servers | None = None
    skills: _Skills | None = None
    metadata: MetadataPatch | None = None
    multiagent: None = None
    execution_identity: ServiceAccount | None = None

    def full_model(self) -> dict[str, Any] | None:
        return None if self.model is None else _model(self.model)

    def lists(self) -> dict[str, Any]:
        return _lists(self)


def _lists(body: AgentCreate | AgentUpdate) -> dict[str, Any]:
    return {
        "tools": [tool.spelled_out() for tool in body.tools or []],
        "mcp_servers": [server.model_dump() for server in body.mcp_servers or []],
        "skills": [skill.spelled_out() for skill in body.skills or []],
    }


def _model(given: str | Model) -> dict[str, Any]:
    return (Model(id=given) if isinstance(given, str) else given).spelled_out()
