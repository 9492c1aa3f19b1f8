"""The bodies of requests about credentials in vaults."""

import ipaddress
from typing import Annotated, Literal

from pydantic import Field, field_validator

from netpolicy.errors import InputError as HostMistake
from netpolicy.hosts import parse_pattern
from sandbox.managed.mcp import mcp_endpoint
from sandbox.managed.values import Metadata, MetadataPatch, Strict

_Name = Annotated[str, Field(min_length=1, max_length=255)]
_Secret = Annotated[str, Field(min_length=1, max_length=1 << 16)]
_Text = Annotated[str, Field(min_length=1, max_length=2048)]


class Unrestricted(Strict):
    type: Literal["unrestricted"]


class LimitedHosts(Strict):
    type: Literal["limited"]
    allowed_hosts: Annotated[list[str], Field(max_length=16)]

    @field_validator("allowed_hosts")
    @classmethod
    def _check(cls, hosts: list[str]) -> list[str]:
        for host in hosts:
            problem = _host_problem(host)
            if problem is not None:
                raise ValueError(f"{host!r} is no host name, IPv4 address or *.name: {problem}")
        return hosts


Networking = Annotated[Unrestricted | LimitedHosts, Field(discriminator="type")]


class Injection(Strict):
    header: bool | None = None
    body: bool | None = None


class _ForServer(Strict):
    mcp_server_url: Annotated[str, Field(max_length=2048)]

    @field_validator("mcp_server_url")
    @classmethod
    def _check(cls, url: str) -> str:
        return _url(url)


class NoClientSecret(Strict):
    type: Literal["none"]


class ClientSecret(Strict):
    type: Literal["client_secret_basic", "client_secret_post"]
    client_secret: _Secret


class Refresh(Strict):
    client_id: _Text
    refresh_token: _Secret
    token_endpoint: Annotated[str, Field(max_length=2048)]
    token_endpoint_auth: Annotated[NoClientSecret | ClientSecret, Field(discriminator="type")]
    resource: _Text | None = None
    scope: Annotated[str, Field(max_length=2048)] | None = None

    @field_validator("token_endpoint")
    @classmethod
    def _check(cls, url: str) -> str:
        return _url(url)


class OAuth(_ForServer):
    type: Literal["mcp_oauth"]
    access_token: _Secret
    expires_at: str | None = None
    refresh: Refresh | None = None


class Bearer(_ForServer):
    type: Literal["static_bearer"]
    token: _Secret


class Variable(Strict):
    type: Literal["environment_variable"]
    secret_name: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,254}$")]
    secret_value: _Secret
    networking: Networking
    injection_location: Injection | None = None


class ClientSecretUpdate(Strict):
    type: Literal["client_secret_basic", "client_secret_post"]
    client_secret: _Secret | None = None


class RefreshUpdate(Strict):
    refresh_token: _Secret | None = None
    scope: Annotated[str, Field(max_length=2048)] | None = None
    token_endpoint_auth: ClientSecretUpdate | None = None


class OAuthUpdate(Strict):
    type: Literal["mcp_oauth"]
    access_token: _Secret | None = None
    expires_at: str | None = None
    refresh: RefreshUpdate | None = None


class BearerUpdate(Strict):
    type: Literal["static_bearer"]
    token: _Secret | None = None


class VariableUpdate(Strict):
    type: Literal["environment_variable"]
    secret_value: _Secret | None = None
    networking: Networking | None = None
    injection_location: Injection | None = None


class CredentialCreate(Strict):
    auth: Annotated[OAuth | Bearer | Variable, Field(discriminator="type")]
    display_name: Annotated[str, Field(max_length=255)] | None = None
    metadata: Metadata = {}


class CredentialUpdate(Strict):
    """What is left out stays as it is. The type, names and addresses can't change."""

    auth: Annotated[OAuthUpdate | BearerUpdate | VariableUpdate, Field(discriminator="type")] | None = None
    display_name: _Name | None = None
    metadata: MetadataPatch | None = None


def _url(url: str) -> str:
    if mcp_endpoint(url) is None:
        raise ValueError("must be an https:// URL with a host")
    return url


def _host_problem(host: str) -> str | None:
    try:
        ipaddress.IPv4Address(host)
        return None
    except ValueError:
        pass
    if any(mark in host for mark in ":/@[]"):
        return "it has a scheme, a port, a path or an IPv6 address"
    try:
        parse_pattern(host)
    except HostMistake as error:
        return str(error)
    return None
