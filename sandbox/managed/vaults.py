"""Vaults: named sets of credentials. What a credential holds is in `sandbox.managed.credentials`."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sandbox.managed import identifiers, paging
from sandbox.managed.database import Database, Document
from sandbox.managed.failures import invalid, not_found
from sandbox.managed.metadata import merge
from sandbox.managed.paging import Condition, Limits, Page, Query

if TYPE_CHECKING:
    from sandbox.managed.vault_bodies import VaultCreate, VaultUpdate

LIMITS = Limits(20, 100)


def create(database: Database, body: "VaultCreate") -> Document:
    now = identifiers.now()
    vault: Document = {
        "id": identifiers.new("vlt"),
        "type": "vault",
        "display_name": body.display_name,
        "metadata": body.metadata,
        "created_at": now,
        "updated_at": now,
        "archived_at": None,
    }
    database.insert("vaults", vault)
    return vault


def get(database: Database, identifier: str) -> Document:
    found = database.get("vaults", identifier)
    if found is None:
        raise not_found("vault", identifier)
    return found


def usable(database: Database, identifier: str) -> Document:
    """The vault, when it may still be changed and attached; Refused when it is archived."""
    found = get(database, identifier)
    if found["archived_at"] is not None:
        raise invalid(
            f"The vault {identifier} is archived and can't be used any more.", code="vault_archived"
        )
    return found


def list_page(database: Database, query: Query, *, include_archived: bool = False) -> Page:
    """Vaults, newest first."""
    conditions = () if include_archived else (Condition("archived_at IS NULL"),)
    return paging.fetch(database, "vaults", query, LIMITS, conditions)


def update(database: Database, identifier: str, body: "VaultUpdate") -> Document:
    with database.write():
        old = usable(database, identifier)
        new = dict(old)
        if body.display_name is not None:
            new["display_name"] = body.display_name
        if body.metadata is not None:
            new["metadata"] = merge(old["metadata"], body.metadata, empty_deletes=False)
        if new != old:
            new["updated_at"] = identifiers.now()
            database.replace("vaults", new)
    return new


def archive(database: Database, identifier: str) -> Document:
    """Take it out of use and archive its credentials, whose secrets are forgotten. Doing so again changes nothing."""
    with database.write() as connection:
        vault = get(database, identifier)
        if vault["archived_at"] is None:
            vault["archived_at"] = vault["updated_at"] = now = identifiers.now()
            database.replace("vaults", vault, archived_at=now)
            connection.execute(
                "UPDATE credentials SET archived_at = ?1, secret = NULL, "
                "doc = json_set(doc, '$.archived_at', ?1, '$.updated_at', ?1) "
                "WHERE vault_id = ?2 AND archived_at IS NULL",
                (now, identifier),
            )
    return vault


def delete(database: Database, identifier: str) -> Document:
    """Forget it and all that is in it."""
    with database.write() as connection:
        get(database, identifier)
        connection.execute("DELETE FROM credentials WHERE vault_id = ?", (identifier,))
        database.delete("vaults", identifier)
    return {"id": identifier, "type": "vault_deleted"}


def attach(database: Database, vault_ids: Sequence[str]) -> None:
    """A session gets these vaults. Refused when one can't be used; a warning that their secrets don't travel yet."""
    if len(set(vault_ids)) < len(vault_ids):
        raise invalid("vault_ids: one is there twice")
    for vault_id in vault_ids:
        usable(database, vault_id)
    if vault_ids:
        import logging

        logging.getLogger("sandboxsh.vaults").warning(
            "A session was given the vaults %s, but this version puts no secret of a vault into what sessions "
            "send: their variables are not set, and MCP servers are asked without them.",
            ", ".join(vault_ids),
        )
