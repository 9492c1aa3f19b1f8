"""The bodies that bring files and repositories into a session. Pure."""

import re
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import ConfigDict, Field, SecretStr, field_validator, model_validator

from netpolicy.credentials import repository
from netpolicy.errors import InputError
from sandbox.managed.mountpaths import MOST_FILES, MOST_REPOSITORIES
from sandbox.managed.values import Strict

_Path = Annotated[str, Field(min_length=1, max_length=1024)]
_Token = Annotated[SecretStr, Field(min_length=1, max_length=4096)]
# git-check-ref-format(1).
_BRANCH = re.compile(
    r"(?!.*(\.\.|@\{|//|/\.|\.lock(/|$)))[^\x00-\x20\x7f~^:?*\[\\-][^\x00-\x20\x7f~^:?*\[\\]*"
)


class FileResource(Strict):
    """A file that was uploaded, seen read-only at ``mount_path``."""

    type: Literal["file"]
    file_id: Annotated[str, Field(min_length=1, max_length=128)]
    mount_path: _Path | None = None


class Branch(Strict):
    type: Literal["branch"]
    name: Annotated[str, Field(max_length=255)]

    @field_validator("name")
    @classmethod
    def _check(cls, name: str) -> str:
        if not _BRANCH.fullmatch(name) or name.endswith(("/", ".")) or name.startswith(("/", ".")):
            raise ValueError("can't be a branch's name")
        return name


class Commit(Strict):
    type: Literal["commit"]
    sha: Annotated[str, Field(pattern=r"^([0-9a-f]{40}|[0-9a-f]{64})$")]


class RepositoryResource(Strict):
    """A Git repository, cloned to ``mount_path``. The token is never told again."""

    type: Literal["github_repository"]
    url: Annotated[str, Field(max_length=2048)]
    authorization_token: _Token | None = None
    checkout: Annotated[Branch | Commit, Field(discriminator="type")] | None = None
    mount_path: _Path | None = None

    @field_validator("url")
    @classmethod
    def _check(cls, url: str) -> str:
        return checked_url(url)

    @field_validator("authorization_token")
    @classmethod
    def _check_token(cls, token: SecretStr | None) -> SecretStr | None:
        return None if token is None else checked_token(token)


class MemoryStoreResource(Strict):
    """Known by its name, so that what is missing is told."""

    model_config = ConfigDict(extra="allow", strict=True)

    type: Literal["memory_store"]

    @model_validator(mode="before")
    @classmethod
    def _refuse(cls, _given: Any) -> Any:
        raise ValueError("memory_store resources are not supported by this emulator")


class TokenChange(Strict):
    """The body of changing a repository's token."""

    authorization_token: _Token

    @field_validator("authorization_token")
    @classmethod
    def _check(cls, token: SecretStr) -> SecretStr:
        return checked_token(token)


ResourceCreate = Annotated[
    FileResource | RepositoryResource | MemoryStoreResource, Field(discriminator="type")
]
Resources = Annotated[list[ResourceCreate], Field(max_length=MOST_FILES + MOST_REPOSITORIES)]


def checked_url(url: str) -> str:
    """``url`` when it can be a repository's. ValueError otherwise; never shows a password in it."""
    if "@" in urlsplit(url).netloc:
        raise ValueError("has a user in it: give a token as authorization_token")
    try:
        repository(url)
    except InputError as error:
        raise ValueError(f"{error}; {error.hint}") from None
    return url


def checked_token(token: SecretStr) -> SecretStr:
    """``token`` when a header can carry it. ValueError otherwise."""
    text = token.get_secret_value()
    if not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError("has characters that a token can't have")
    return token
