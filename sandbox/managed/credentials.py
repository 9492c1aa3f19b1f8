"""Credentials in vaults: stored and validated, their secrets sealed and never answered."""

import json
from typing import TYPE_CHECKING, Any

from sandbox.managed import identifiers, paging, vaults
from sandbox.managed.database import Database, Document, load
from sandbox.managed.failures import conflict, invalid, not_found
from sandbox.managed.metadata import merge
from sandbox.managed.paging import Condition, Limits, Page, Query
from sandbox.managed.secrets import Secrets

if TYPE_CHECKING:
    from sandbox.managed.credential_bodies import (
        Bearer,
        BearerUpdate,
        CredentialCreate,
        CredentialUpdate,
        Injection,
        OAuth,
        OAuthUpdate,
        Variable,
        VariableUpdate,
    )

LIMITS = Limits(20, 100)
MOST = 20


def create(database: Database, secrets: Secrets, vault_id: str, body: "CredentialCreate") -> Document:
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
    database: Database, secrets: Secrets, vault_id: str, identifier: str, body: "CredentialUpdate"
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


def _taken_apart(auth: "OAuth | Bearer | Variable") -> tuple[Document, dict[str, str]]:
    """What is answered of ``auth``, and its secrets."""
    if auth.type == "static_bearer":
        return {"type": auth.type, "mcp_server_url": auth.mcp_server_url}, {"token": auth.token}
    if auth.type == "environment_variable":
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
        if endpoint_auth.type != "none":
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
    old: Document, auth: "OAuthUpdate | BearerUpdate | VariableUpdate"
) -> tuple[Document, dict[str, str]]:
    """What is answered from now on, and the secrets that are new."""
    if auth.type != old["type"]:
        raise invalid(f"auth.type: is {old['type']} and can't become {auth.type}")
    new = dict(old)
    if auth.type == "static_bearer":
        return new, _given(token=auth.token)
    if auth.type == "environment_variable":
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


def _locations(given: "Injection | None") -> dict[str, bool]:
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
