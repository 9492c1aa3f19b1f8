"""A container's specification as text, kept beside its files. Reading it runs no code."""

import json
from typing import Any

from netpolicy.advice import Terms
from netpolicy.blocklist import Block
from netpolicy.hosts import HostPattern
from netpolicy.policy import ConnectTo, Policy, Rule
from sandbox.containers.spec import Attachment, ContainerSpec, Repository
from sandbox.spec import HostMount, RootFs

_TYPES: dict[str, Any] = {
    each.__name__: each
    for each in (
        Attachment,
        Block,
        ConnectTo,
        ContainerSpec,
        HostMount,
        HostPattern,
        Policy,
        Repository,
        RootFs,
        Rule,
        Terms,
    )
}


def to_text(value: ContainerSpec | tuple[Attachment, ...]) -> str:
    """``value`` as JSON, its tuples and types told apart."""
    return json.dumps(_plain(value), separators=(",", ":"))


def from_text(text: str) -> Any:
    """The value that `to_text` was given; ValueError when the text holds none. Fields may be missing."""
    try:
        return _value(json.loads(text))
    except (KeyError, TypeError) as error:
        raise ValueError(f"no value of a container's: {error}") from error


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        fields = getattr(value, "_fields", None)
        if fields is not None:
            return {"": type(value).__name__, **{name: _plain(getattr(value, name)) for name in fields}}
        return [_plain(each) for each in value]
    if value is None or isinstance(value, str | int | float):
        return value
    raise TypeError(f"{type(value).__name__} can't be kept")


def _value(plain: Any) -> Any:
    if isinstance(plain, list):
        return tuple(_value(each) for each in plain)
    if isinstance(plain, dict):
        made = _TYPES[plain.pop("")]
        return made(**{name: _value(each) for name, each in plain.items()})
    return plain
