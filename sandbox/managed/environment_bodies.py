"""The bodies of requests about environments, read into what `sandbox.managed.environments` works on."""

from typing import Annotated, Any, Literal

from pydantic import Field, WithJsonSchema

from sandbox.environment import MANAGERS, OLD_LIMITED
from sandbox.managed.environments import Changes, NewEnvironment
from sandbox.managed.values import Strict

_FLAG = {"anyOf": [{"type": "boolean"}, {"type": "null"}]}
_TEXTS = {"anyOf": [{"type": "array", "items": {"type": "string"}}, {"type": "null"}]}
_NETWORKING = {
    "type": "object",
    "additionalProperties": False,
    "required": ["type"],
    "properties": {
        "type": {"enum": ["unrestricted", "limited", OLD_LIMITED]},
        "allowed_hosts": _TEXTS,
        "allow_mcp_servers": _FLAG,
        "allow_package_managers": _FLAG,
    },
}
_PACKAGES = {
    "type": "object",
    "additionalProperties": False,
    "properties": {"type": {"const": "packages"}, **dict.fromkeys(MANAGERS, _TEXTS)},
}
_CONFIG = {
    "oneOf": [
        {
            "type": "object",
            "additionalProperties": False,
            "required": ["type"],
            "properties": {
                "type": {"const": "cloud"},
                "networking": {"anyOf": [_NETWORKING, {"type": "null"}]},
                "packages": {"anyOf": [_PACKAGES, {"type": "null"}]},
            },
        },
        {
            "type": "object",
            "additionalProperties": False,
            "required": ["type"],
            "properties": {"type": {"const": "self_hosted"}},
        },
    ]
}
_Name = Annotated[str, Field(min_length=1, max_length=256)]
_Description = Annotated[str, Field(max_length=2048)]
_Config = Annotated[dict[str, Any], WithJsonSchema(_CONFIG)]


class EnvironmentCreate(Strict):
    """The body of creating an environment. ``config`` left out: a cloud one, unrestricted, without packages."""

    name: _Name
    config: _Config | None = None
    description: _Description | None = None
    metadata: dict[str, str] = {}
    scope: Literal["organization"] | None = None

    def wanted(self) -> NewEnvironment:
        return NewEnvironment(self.name, self.config, self.description, self.metadata)


class EnvironmentUpdate(Strict):
    """The body of updating one: what is left out stays as it is, in ``config`` too."""

    name: _Name | None = None
    config: _Config | None = None
    description: _Description | None = None
    metadata: dict[str, str | None] | None = None
    scope: Literal["organization"] | None = None

    def changes(self) -> Changes:
        """What is null stays as it is, but for the description, which that clears."""
        found = Changes()
        if self.name is not None:
            found["name"] = self.name
        if self.config is not None:
            found["config"] = self.config
        if "description" in self.model_fields_set:
            found["description"] = self.description
        if self.metadata is not None:
            found["metadata"] = self.metadata
        return found
