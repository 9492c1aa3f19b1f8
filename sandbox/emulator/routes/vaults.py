"""``/v1/vaults`` and the credentials below."""

from fastapi import APIRouter
from starlette.responses import Response

from sandbox.emulator.answers import answer, page
from sandbox.emulator.queries import Paging
from sandbox.emulator.service import Served
from sandbox.managed import credentials, vaults
from sandbox.managed.credential_bodies import CredentialCreate, CredentialUpdate
from sandbox.managed.failures import invalid
from sandbox.managed.vault_bodies import VaultCreate, VaultUpdate

router = APIRouter(prefix="/v1/vaults", tags=["vaults"])


@router.post("")
async def create(body: VaultCreate, served: Served) -> Response:
    return answer(vaults.create(served.database, body))


@router.get("")
async def list_all(served: Served, query: Paging, include_archived: bool = False) -> Response:
    return page(vaults.list_page(served.database, query, include_archived=include_archived))


@router.get("/{vault_id}")
async def get(vault_id: str, served: Served) -> Response:
    return answer(vaults.get(served.database, vault_id))


@router.post("/{vault_id}")
async def update(vault_id: str, body: VaultUpdate, served: Served) -> Response:
    return answer(vaults.update(served.database, vault_id, body))


@router.post("/{vault_id}/archive")
async def archive(vault_id: str, served: Served) -> Response:
    return answer(vaults.archive(served.database, vault_id))


@router.delete("/{vault_id}")
async def delete(vault_id: str, served: Served) -> Response:
    return answer(vaults.delete(served.database, vault_id))


@router.post("/{vault_id}/credentials")
async def create_credential(vault_id: str, body: CredentialCreate, served: Served) -> Response:
    return answer(credentials.create(served.database, served.secrets, vault_id, body))


@router.get("/{vault_id}/credentials")
async def list_credentials(
    vault_id: str, served: Served, query: Paging, include_archived: bool = False
) -> Response:
    return page(credentials.list_page(served.database, vault_id, query, include_archived=include_archived))


@router.get("/{vault_id}/credentials/{credential_id}")
async def get_credential(vault_id: str, credential_id: str, served: Served) -> Response:
    return answer(credentials.get(served.database, vault_id, credential_id))


@router.post("/{vault_id}/credentials/{credential_id}")
async def update_credential(
    vault_id: str, credential_id: str, body: CredentialUpdate, served: Served
) -> Response:
    return answer(credentials.update(served.database, served.secrets, vault_id, credential_id, body))


@router.post("/{vault_id}/credentials/{credential_id}/archive")
async def archive_credential(vault_id: str, credential_id: str, served: Served) -> Response:
    return answer(credentials.archive(served.database, vault_id, credential_id))


@router.delete("/{vault_id}/credentials/{credential_id}")
async def delete_credential(vault_id: str, credential_id: str, served: Served) -> Response:
    return answer(credentials.delete(served.database, vault_id, credential_id))


@router.post("/{vault_id}/credentials/{credential_id}/mcp_oauth_validate")
async def validate_credential(vault_id: str, credential_id: str, served: Served) -> Response:
    credentials.get(served.database, vault_id, credential_id)
    raise invalid("mcp_oauth_validate: not supported; credentials are stored here and not tried out.")
