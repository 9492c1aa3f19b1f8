"""The bodies of requests about vaults."""

from typing import Annotated

from pydantic import Field

from sandbox.managed.values import Metadata, MetadataPatch, Strict

_Name = Annotated[str, Field(min_length=1, max_length=255)]


class VaultCreate(Strict):
    display_name: _Name
    metadata: Metadata = {}


class VaultUpdate(Strict):
    """What is left out, or null, stays as it is."""

    display_name: _Name | None = None
    metadata: MetadataPatch | None = None
