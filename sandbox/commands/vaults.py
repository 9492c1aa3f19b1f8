"""``sandboxctl vault``: the same records as ``/v1/vaults``.

Secrets come from files or standard input, never as words of a command line, which other processes can read.
"""

from typing import TYPE_CHECKING, Any

import click

from sandbox.commands import records
from sandbox.commands.failures import spoken
from sandbox.commands.place import opened

if TYPE_CHECKING:
    from sandbox.managed.database import Document


@click.group()
def vault() -> None:
    """Vaults: credentials for sessions. They are stored, and not yet put into what sessions send."""


@vault.command("create")
@click.argument("name")
@records.metadata
@records.as_json
@click.pass_context
def vault_create(context: click.Context, name: str, metadata: tuple[str, ...], as_json: bool) -> None:
    """Make a vault called NAME."""
    from sandbox.managed import values, vaults
    from sandbox.managed.vault_bodies import VaultCreate

    body = {"display_name": name, "metadata": records.pairs(metadata)}
    with opened(context) as service:
        made = vaults.create(service.database, values.read(VaultCreate, body))
    _tell("created", made, as_json)


@vault.command("list")
@records.archived
@records.as_json
@click.pass_context
def vault_list(context: click.Context, archived: bool, as_json: bool) -> None:
    """List vaults, newest first."""
    from sandbox.managed import vaults

    with opened(context) as service:
        rows = list(
            records.every(lambda query: vaults.list_page(service.database, query, include_archived=archived))
        )
    _rows(rows, as_json)


@vault.command("show")
@click.argument("vault_id", metavar="ID")
@records.as_json
@click.pass_context
def vault_show(context: click.Context, vault_id: str, as_json: bool) -> None:
    """Print a vault."""
    from sandbox.managed import vaults

    with opened(context) as service:
        _show(vaults.get(service.database, vault_id), as_json)


@vault.command("update")
@click.argument("vault_id", metavar="ID")
@click.argument("file", required=False)
@click.option("--name")
@records.metadata
@records.as_json
@click.pass_context
def vault_update(
    context: click.Context,
    vault_id: str,
    file: str | None,
    name: str | None,
    metadata: tuple[str, ...],
    as_json: bool,
) -> None:
    """Change what FILE (YAML or JSON, - for standard input) and the options name of a vault.

    FILE has the fields of the API's body: display_name and metadata, of which null removes a key.
    """
    from sandbox.managed import values, vaults
    from sandbox.managed.vault_bodies import VaultUpdate

    body = values.read(VaultUpdate, _changes(file, name, metadata), source=file or "")
    with opened(context) as service:
        old = vaults.get(service.database, vault_id)
        new = vaults.update(service.database, vault_id, body)
    _tell("updated" if new != old else "unchanged", new, as_json)


@vault.command("archive")
@click.argument("vault_id", metavar="ID")
@click.pass_context
def vault_archive(context: click.Context, vault_id: str) -> None:
    """Take a vault out of use, and forget the secrets in it. It can't be undone."""
    from sandbox.managed import vaults

    with opened(context) as service:
        _tell("archived", vaults.archive(service.database, vault_id))


@vault.command("delete")
@click.argument("vault_id", metavar="ID")
@click.pass_context
def vault_delete(context: click.Context, vault_id: str) -> None:
    """Forget a vault with all that is in it."""
    from sandbox.managed import vaults

    with opened(context) as service:
        found = vaults.get(service.database, vault_id)
        vaults.delete(service.database, vault_id)
    _tell("deleted", found)


@vault.group()
def credential() -> None:
    """The credentials in a vault."""


@credential.command("create")
@click.argument("vault_id", metavar="VAULT")
@click.argument("file")
@records.as_json
@click.pass_context
def credential_create(context: click.Context, vault_id: str, file: str, as_json: bool) -> None:
    """Put a credential into VAULT: what FILE (YAML or JSON, - for standard input) says, in the API's shape.

    For example: auth: {type: environment_variable, secret_name: TOKEN, secret_value: …, networking: {type:
    unrestricted}}
    """
    from sandbox.managed import credentials, values
    from sandbox.managed.credential_bodies import CredentialCreate

    body = values.read(CredentialCreate, records.read(file), source=file)
    with opened(context) as service:
        made = credentials.create(service.database, service.secrets, vault_id, body)
    _tell("created", made, as_json)


@credential.command("list")
@click.argument("vault_id", metavar="VAULT")
@records.archived
@records.as_json
@click.pass_context
def credential_list(context: click.Context, vault_id: str, archived: bool, as_json: bool) -> None:
    """List the credentials in VAULT, newest first, without their secrets."""
    from sandbox.managed import credentials

    with opened(context) as service:
        rows = list(
            records.every(
                lambda query: credentials.list_page(
                    service.database, vault_id, query, include_archived=archived
                )
            )
        )
    _rows(rows, as_json)


@credential.command("show")
@click.argument("vault_id", metavar="VAULT")
@click.argument("credential_id", metavar="ID")
@records.as_json
@click.pass_context
def credential_show(context: click.Context, vault_id: str, credential_id: str, as_json: bool) -> None:
    """Print a credential without its secret."""
    from sandbox.managed import credentials

    with opened(context) as service:
        _show(credentials.get(service.database, vault_id, credential_id), as_json)


@credential.command("update")
@click.argument("vault_id", metavar="VAULT")
@click.argument("credential_id", metavar="ID")
@click.argument("file", required=False)
@click.option("--name")
@records.metadata
@records.as_json
@click.pass_context
def credential_update(
    context: click.Context,
    vault_id: str,
    credential_id: str,
    file: str | None,
    name: str | None,
    metadata: tuple[str, ...],
    as_json: bool,
) -> None:
    """Change what FILE (YAML or JSON, - for standard input) and the options name of a credential.

    FILE has the fields of the API's body. For example a new secret: auth: {type: environment_variable, secret_value: …}
    """
    from sandbox.managed import credentials, values
    from sandbox.managed.credential_bodies import CredentialUpdate

    given = _changes(file, name, metadata)
    body = values.read(CredentialUpdate, given, source=file or "")
    with opened(context) as service:
        old = credentials.get(service.database, vault_id, credential_id)
        new = credentials.update(service.database, service.secrets, vault_id, credential_id, body)
    _tell("updated" if new != old else "unchanged", new, as_json)


@credential.command("archive")
@click.argument("vault_id", metavar="VAULT")
@click.argument("credential_id", metavar="ID")
@click.pass_context
def credential_archive(context: click.Context, vault_id: str, credential_id: str) -> None:
    """Take a credential out of use and forget its secret. It can't be undone."""
    from sandbox.managed import credentials

    with opened(context) as service:
        _tell("archived", credentials.archive(service.database, vault_id, credential_id))


@credential.command("delete")
@click.argument("vault_id", metavar="VAULT")
@click.argument("credential_id", metavar="ID")
@click.pass_context
def credential_delete(context: click.Context, vault_id: str, credential_id: str) -> None:
    """Forget a credential."""
    from sandbox.managed import credentials

    with opened(context) as service:
        found = credentials.get(service.database, vault_id, credential_id)
        credentials.delete(service.database, vault_id, credential_id)
    _tell("deleted", found)


def _changes(file: str | None, name: str | None, metadata: tuple[str, ...]) -> dict[str, Any]:
    """The body of an update. UsageError when there is nothing in it."""
    body: dict[str, Any] = {} if file is None else records.read(file)
    body |= records.given(display_name=name)
    if metadata:
        body["metadata"] = {**(body.get("metadata") or {}), **records.pairs(metadata)}
    if not body:
        raise click.UsageError("there is nothing to change: give FILE, --name or --metadata")
    return body


def _show(found: "Document", as_json: bool) -> None:
    if as_json:
        records.show_json(found)
    else:
        click.echo(records.as_yaml({name: value for name, value in found.items() if value}), nl=False)


def _name(found: "Document") -> str:
    auth: dict[str, Any] = found.get("auth", {})
    name = found["display_name"] or auth.get("secret_name") or auth.get("mcp_server_url") or ""
    return spoken(name)


def _rows(rows: "list[Document]", as_json: bool) -> None:
    if as_json:
        records.show_json(rows)
        return
    for row in rows:
        kind = row["auth"]["type"] if "auth" in row else ""
        note = "archived" if row["archived_at"] else ""
        click.echo(records.line((row["id"], 29), (_name(row), 16), (kind, 0), (note, 0)))


def _tell(what: str, found: "Document", as_json: bool = False) -> None:
    if as_json:
        records.show_json(found)
    else:
        click.echo(f"{what} {found['id']} {_name(found)}")
