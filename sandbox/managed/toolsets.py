"""The tools, MCP servers, skills and model of an agent: what a body may say, and what the answer spells out."""

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from sandbox.managed.mcp import mcp_endpoint
from sandbox.managed.values import Strict

Document = dict[str, Any]


class Policy(Strict):
    type: Literal["always_allow", "always_ask", "auto"]


ALLOW, ASK = Policy(type="always_allow"), Policy(type="always_ask")


class ToolDefault(Strict):
    enabled: bool | None = None
    permission_policy: Policy | None = None

    def spelled_out(self, policy: Policy) -> Document:
        chosen = self.permission_policy or policy
        return {"enabled": self.enabled is not False, "permission_policy": chosen.model_dump()}


class BuiltInTool(ToolDefault):
    name: Literal["bash", "edit", "read", "write", "glob", "grep", "web_fetch", "web_search"]
    type: Literal["bash", "edit", "read", "write", "glob", "grep", "web_fetch", "web_search"] | None = None
    allowed_domains: Annotated[list[str], Field(min_length=1, max_length=64)] | None = None
    blocked_domains: Annotated[list[str], Field(min_length=1, max_length=64)] | None = None
    max_content_tokens: Annotated[int, Field(ge=1)] | None = None
    max_uses: Annotated[int, Field(ge=1)] | None = None
    url_sources: Document | None = None
    user_location: Document | None = None

    @model_validator(mode="after")
    def _check(self) -> "BuiltInTool":
        if self.type not in (None, self.name):
            raise ValueError(f"type is {self.type}, but name is {self.name}")
        web = {
            name
            for name in type(self).model_fields
            if name not in ("name", "type", *ToolDefault.model_fields)
        }
        given = sorted(name for name in web if getattr(self, name) is not None)
        if given and not self.name.startswith("web_"):
            raise ValueError(f"{given[0]} means nothing for the tool {self.name}")
        if self.allowed_domains and self.blocked_domains:
            raise ValueError("allowed_domains and blocked_domains exclude each other")
        return self

    def with_name(self, default: Document) -> Document:
        policy = Policy.model_validate(default["permission_policy"])
        enabled = default["enabled"] if self.enabled is None else self.enabled
        rest = self.model_dump(exclude_none=True, exclude={"enabled", "permission_policy", "name", "type"})
        told = self.permission_policy or policy
        return {
            "type": self.name,
            "name": self.name,
            "enabled": enabled,
            "permission_policy": told.model_dump(),
            **rest,
        }


class McpTool(ToolDefault):
    name: Annotated[str, Field(min_length=1, max_length=128)]

    def with_name(self, default: Document) -> Document:
        enabled = default["enabled"] if self.enabled is None else self.enabled
        policy = (
            self.permission_policy.model_dump() if self.permission_policy else default["permission_policy"]
        )
        return {"name": self.name, "enabled": enabled, "permission_policy": policy}


class AgentToolset(Strict):
    type: Literal["agent_toolset_20260401"]
    configs: list[BuiltInTool] = []
    default_config: ToolDefault | None = None

    def spelled_out(self) -> Document:
        default = (self.default_config or ToolDefault()).spelled_out(ALLOW)
        configs = [tool.with_name(default) for tool in self.configs]
        return {"type": self.type, "configs": configs, "default_config": default}


class McpToolset(Strict):
    type: Literal["mcp_toolset"]
    mcp_server_name: Annotated[str, Field(min_length=1, max_length=255)]
    configs: list[McpTool] = []
    default_config: ToolDefault | None = None

    def spelled_out(self) -> Document:
        default = (self.default_config or ToolDefault()).spelled_out(ASK)
        configs = [tool.with_name(default) for tool in self.configs]
        return {
            "type": self.type,
            "mcp_server_name": self.mcp_server_name,
            "configs": configs,
            "default_config": default,
        }


class CustomTool(Strict):
    type: Literal["custom"]
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,128}$")]
    description: Annotated[str, Field(min_length=1, max_length=10_000)]
    input_schema: Document

    @field_validator("input_schema")
    @classmethod
    def _check(cls, schema: Document) -> Document:
        if schema.get("type") != "object":
            raise ValueError('must be a JSON schema of the type "object"')
        return schema

    def spelled_out(self) -> Document:
        return self.model_dump()


Tool = Annotated[AgentToolset | McpToolset | CustomTool, Field(discriminator="type")]


class McpServer(Strict):
    type: Literal["url"]
    name: Annotated[str, Field(min_length=1, max_length=255)]
    url: Annotated[str, Field(max_length=2048)]

    @field_validator("url")
    @classmethod
    def _check(cls, url: str) -> str:
        if mcp_endpoint(url) is None:
            raise ValueError("must be an https:// URL with a host")
        return url


class Skill(Strict):
    type: Literal["anthropic", "custom"]
    skill_id: Annotated[str, Field(min_length=1, max_length=64)]
    version: Annotated[str, Field(max_length=64)] | None = None

    def spelled_out(self) -> Document:
        return {"type": self.type, "skill_id": self.skill_id, "version": self.version or "latest"}


class Effort(Strict):
    type: Literal["low", "medium", "high", "xhigh", "max"]


class Model(Strict):
    id: Annotated[str, Field(min_length=1, max_length=256)]
    effort: Literal["low", "medium", "high", "xhigh", "max"] | Effort | None = None
    inference_geo: Annotated[str, Field(max_length=64)] | None = None
    speed: Literal["standard", "fast"] | None = None

    def spelled_out(self) -> Document:
        effort = (
            Effort(type=self.effort) if isinstance(self.effort, str) else self.effort or Effort(type="high")
        )
        return {
            "id": self.id,
            "effort": effort.model_dump(),
            "inference_geo": self.inference_geo,
            "speed": self.speed or "standard",
        }
