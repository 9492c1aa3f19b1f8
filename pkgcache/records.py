"""What is written down about bases and layers, as values and as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from pkgcache.errors import StoreError
from pkgcache.runner import Endpoint

IMPORTED = "imported"
"""The profile of bases that come from elsewhere."""


class Locked(NamedTuple):
    """One package that is really there. `hash` is like "sha256:…", or "" where the manager tells none."""

    name: str
    version: str
    hash: str = ""


class BaseRecord(NamedTuple):
    """A base: `id` is unique to each build and part of every layer's key; `name` is what users call it.

    `sources` are the lines of its apt sources; `created` is RFC 3339 in UTC; `tools` maps a toolchain's program
    to its version; `endpoints` are those of the package managers found in it. `environment` has the variables that
    an imported image brings, as (name, value).
    """

    id: str
    name: str
    suite: str = ""
    profile: str = ""
    created: str = ""
    sources: tuple[str, ...] = ()
    tools: Mapping[str, str] = MappingProxyType({})
    endpoints: tuple[Endpoint, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()

    @property
    def foreign(self) -> bool:
        """Whether it was imported, so that its settings are not the user's own."""
        return self.profile == IMPORTED


class LayerRecord(NamedTuple):
    """A layer: its key, what went into the key, what is in it (`packages`), and how long its build took.

    `endpoints` are those of managers that came with this very layer and that the base lacks. `resolution` is the
    part of the key that tells it from others with the same inputs.
    """

    key: str
    manager: str
    specs: tuple[str, ...]
    parent: str
    base: str
    platform: str
    created: str = ""
    seconds: float = 0.0
    packages: tuple[Locked, ...] = ()
    endpoints: tuple[Endpoint, ...] = ()
    resolution: str = ""


def to_json(record: BaseRecord | LayerRecord) -> str:
    """The record as a JSON object with the field names as keys."""
    data = record._asdict()
    data["endpoints"] = [endpoint._asdict() for endpoint in record.endpoints]
    if isinstance(record, LayerRecord):
        data["packages"] = [package._asdict() for package in record.packages]
    else:
        data["tools"] = dict(record.tools)
    return json.dumps(data, indent=1, sort_keys=True) + "\n"


def base_from_json(text: str | bytes, where: str) -> BaseRecord:
    """The reverse of `to_json`; `where` names the file in the StoreError for a damaged one."""
    data = _object(text, where, BaseRecord)
    try:
        values = {"sources": tuple(data["sources"]), "endpoints": _endpoints(data)}
        variables = tuple((name, value) for name, value in data.get("environment", ()))
        return BaseRecord(**data | values | {"environment": variables})
    except (TypeError, KeyError, ValueError) as error:
        raise _damaged(where, str(error)) from None


def layer_from_json(text: str | bytes, where: str) -> LayerRecord:
    """The reverse of `to_json`; `where` names the file in the StoreError for a damaged one."""
    data = _object(text, where, LayerRecord)
    try:
        packages = tuple(Locked(**package) for package in data["packages"])
        values = {"specs": tuple(data["specs"]), "packages": packages, "endpoints": _endpoints(data)}
        return LayerRecord(**data | values)
    except (TypeError, KeyError) as error:
        raise _damaged(where, str(error)) from None


def packages_from_json(text: str | bytes, where: str) -> tuple[Locked, ...]:
    """A list of packages, as it stands beside a base; `where` names the file in the StoreError for a damaged one."""
    try:
        return tuple(Locked(**package) for package in json.loads(text))
    except (ValueError, TypeError) as error:
        raise _damaged(where, str(error)) from None


_LATER = {"environment", "resolution"}
"""What an older version's records lack."""


def _object(text: str | bytes, where: str, kind: type[BaseRecord] | type[LayerRecord]) -> dict[str, Any]:
    try:
        data = json.loads(text)
    except ValueError as error:
        raise _damaged(where, str(error)) from None
    fields = set(kind._fields)
    if not isinstance(data, dict) or not fields - _LATER <= data.keys() <= fields:
        raise _damaged(where, "it is not such a record")
    return data


def _endpoints(data: dict[str, Any]) -> tuple[Endpoint, ...]:
    return tuple(Endpoint(**endpoint) for endpoint in data["endpoints"])


def _damaged(where: str, reason: str) -> StoreError:
    return StoreError(f"{where} is damaged: {reason}", "remove what it describes and build it again")
