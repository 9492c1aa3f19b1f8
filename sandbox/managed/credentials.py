"""Credentials in vaults: stored and validated, their secrets sealed and never answered."""

import ipaddress
import json
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from netpolicy.errors import InputError as HostMistake
from netpolicy.hosts import parse_pattern
from sandbox.managed import identifiers, paging, vaults
from sandbox.managed.database import Database, Document, load
from sandbox.managed.failures import conflict, invalid, not_found
from sandbox.managed.mcp import mcp_endpoint
from sandbox.managed.metadata import merge
from sandbox.managed.paging import Condition, Limits, Page, Query
from sandbox.managed.secrets import Secrets
from sandbox.managed.values import Metadata, MetadataPatch, Strict

LIMITS = Limits(20, 100)
MOST = 20
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


def create(database: Database, secrets: Secrets, vault_id: str, body: CredentialCreate) -> Document:
    """A new credential. Refused when the vault is full, or has one in use of the same name or for the same server."""
    auth, secret = _taken_apart(body.auth)
    now = identifiers.now()
    credential: Document = {
        "id": identifiers.new("vcrd"),
        "type": "vault_credential",
        "vault_id": vault_id,
        "display_name": body.display_name,
        "auth": auth,
        "metadata": body.metadata,
        "created_at": now,
        "updated_at": now,
        "archived_at": None,
    }
    sealed = _sealed(secrets, credential["id"], secret)
    with database.write():
        vaults.usable(database, vault_id)
        others = _active(database, vault_id)
        if len(others) >= MOST:
            raise invalid(f"The vault {vault_id} has {MOST} credentials, which is as many as one can have.")
        for name in ("secret_name", "mcp_server_url"):
            for other in others:
                if name in auth and other["auth"].get(name) == auth[name]:
                    raise conflict(f"auth.{name}: {other['id']} in this vault has {auth[name]!r} already.")
        database.insert(
            "credentials", credential, vault_id=vault_id, secret_name=auth.get("secret_name"), secret=sealed
        )
    return credential


def get(database: Database, vault_id: str, identifier: str) -> Document:
    found = database.get("credentials", identifier)
    if found is None or found["vault_id"] != vault_id:
        raise not_found(f"credential in the vault {vault_id} called", identifier)
    return found


def list_page(database: Database, vault_id: str, query: Query, *, include_archived: bool = False) -> Page:
    """The credentials of a vault, newest first."""
    vaults.get(database, vault_id)
    conditions = [Condition("vault_id = ?", (vault_id,))]
    if not include_archived:
        conditions.append(Condition("archived_at IS NULL"))
    return paging.fetch(database, "credentials", query, LIMITS, conditions)


def update(
    database: Database, secrets: Secrets, vault_id: str, identifier: str, body: CredentialUpdate
) -> Document:
    """The credential with what ``body`` changes."""
    with database.write():
        old = get(database, vault_id, identifier)
        if old["archived_at"] is not None:
            raise invalid(f"The credential {identifier} is archived and can't be changed.")
        new = dict(old)
        changed: dict[str, str] = {}
        if body.auth is not None:
            new["auth"], changed = _with_changes(old["auth"], body.auth)
        if body.display_name is not None:
            new["display_name"] = body.display_name
        if body.metadata is not None:
            new["metadata"] = merge(old["metadata"], body.metadata, empty_deletes=False)
        if new == old and not changed:
            return old
        new["updated_at"] = identifiers.now()
        columns = {}
        if changed:
            secret = reveal(database, secrets, identifier) | changed
            columns["secret"] = _sealed(secrets, identifier, secret)
        database.replace("credentials", new, **columns)
    return new


def archive(database: Database, vault_id: str, identifier: str) -> Document:
    """Take it out of use and forget its secret. Doing so again changes nothing."""
    with database.write():
        credential = get(database, vault_id, identifier)
        if credential["archived_at"] is None:
            credential["archived_at"] = credential["updated_at"] = now = identifiers.now()
            database.replace("credentials", credential, archived_at=now, secret=None)
    return credential


def delete(database: Database, vault_id: str, identifier: str) -> Document:
    with database.write():
        get(database, vault_id, identifier)
        database.delete("credentials", identifier)
    return {"id": identifier, "type": "vault_credential_deleted"}


def reveal(database: Database, secrets: Secrets, identifier: str) -> dict[str, str]:
    """The secrets of a credential by name, for those who send them; empty when they are forgotten."""
    with database.read() as connection:
        row = connection.execute("SELECT secret FROM credentials WHERE id = ?", (identifier,)).fetchone()
    if row is None or row[0] is None:
        return {}
    found: dict[str, str] = json.loads(secrets.open(row[0], identifier))
    return found


def _sealed(secrets: Secrets, identifier: str, secret: dict[str, str]) -> bytes:
    return secrets.seal(json.dumps(secret), identifier)


def _active(database: Database, vault_id: str) -> list[Document]:
    with database.read() as connection:
        rows = connection.execute(
            "SELECT doc FROM credentials WHERE vault_id = ? AND archived_at IS NULL", (vault_id,)
        ).fetchall()
    return [load(row[0]) for row in rows]


def _taken_apart(auth: OAuth | Bearer | Variable) -> tuple[Document, dict[str, str]]:
    """What is answered of ``auth``, and its secrets."""
    if isinstance(auth, Bearer):
        return {"type": auth.type, "mcp_server_url": auth.mcp_server_url}, {"token": auth.token}
    if isinstance(auth, Variable):
        shown: Document = {
            "type": auth.type,
            "secret_name": auth.secret_name,
            "networking": auth.networking.model_dump(),
            "injection_location": _locations(auth.injection_location),
        }
        return shown, {"secret_value": auth.secret_value}
    shown = {
        "type": auth.type,
        "mcp_server_url": auth.mcp_server_url,
        "expires_at": None if auth.expires_at is None else _future(auth.expires_at),
        "refresh": None,
    }
    secret = {"access_token": auth.access_token}
    if auth.refresh is not None:
        secret["refresh_token"] = auth.refresh.refresh_token
        endpoint_auth = auth.refresh.token_endpoint_auth
        if isinstance(endpoint_auth, ClientSecret):
            secret["client_secret"] = endpoint_auth.client_secret
        shown["refresh"] = {
            "client_id": auth.refresh.client_id,
            "token_endpoint": auth.refresh.token_endpoint,
            "token_endpoint_auth": {"type": endpoint_auth.type},
            "resource": auth.refresh.resource,
            "scope": auth.refresh.scope or None,
        }
    return shown, secret


def _with_changes(
    old: Document, auth: OAuthUpdate | BearerUpdate | VariableUpdate
) -> tuple[Document, dict[str, str]]:
    """What is answered from now on, and the secrets that are new."""
    if auth.type != old["type"]:
        raise invalid(f"auth.type: is {old['type']} and can't become {auth.type}")
    new = dict(old)
    if isinstance(auth, BearerUpdate):
        return new, _given(token=auth.token)
    if isinstance(auth, VariableUpdate):
        if auth.networking is not None:
            new["networking"] = auth.networking.model_dump()
        if auth.injection_location is not None:
            given = auth.injection_location.model_dump(exclude_none=True)
            new["injection_location"] = _some_location({**old["injection_location"], **given})
        return new, _given(secret_value=auth.secret_value)
    if "expires_at" in auth.model_fields_set:
        new["expires_at"] = None if auth.expires_at is None else _future(auth.expires_at)
    secret = _given(access_token=auth.access_token)
    if auth.refresh is not None:
        if old["refresh"] is None:
            raise invalid("auth.refresh: this credential was made without; make another one")
        new["refresh"] = dict(old["refresh"])
        if auth.refresh.scope is not None:
            new["refresh"]["scope"] = auth.refresh.scope or None
        secret |= _given(refresh_token=auth.refresh.refresh_token)
        if auth.refresh.token_endpoint_auth is not None:
            if old["refresh"]["token_endpoint_auth"]["type"] == "none":
                raise invalid(
                    "auth.refresh.token_endpoint_auth: this credential was made without a client secret"
                )
            secret |= _given(client_secret=auth.refresh.token_endpoint_auth.client_secret)
    return new, secret


def _given(**secrets: str | None) -> dict[str, str]:
    return {name: value for name, value in secrets.items() if value is not None}


def _locations(given: Injection | None) -> dict[str, bool]:
    if given is None:
        return {"header": True, "body": True}
    return _some_location({"header": bool(given.header), "body": bool(given.body)})


def _some_location(locations: dict[str, Any]) -> dict[str, bool]:
    if not any(locations.values()):
        raise invalid("auth.injection_location: header or body must be true")
    return locations


def _future(text: str) -> str:
    try:
        moment = identifiers.read_time(text)
    except (ValueError, OverflowError):
        raise invalid(f"auth.expires_at: {text!r} is not a time such as 2026-01-31T12:00:00Z") from None
    if moment <= identifiers.now():
        raise invalid(f"auth.expires_at: {text} is not in the future")
    return moment


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
