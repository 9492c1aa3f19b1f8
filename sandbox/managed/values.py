"""What the bodies of requests have in common: strict fields, metadata, and how their mistakes are told."""

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sandbox.managed.failures import Refused, invalid
from sandbox.managed.metadata import METADATA_PAIRS


class Strict(BaseModel):
    """A body whose every field is known, and nothing is taken for something else."""

    model_config = ConfigDict(extra="forbid", strict=True)


Key = Annotated[str, Field(min_length=1, max_length=64)]
Value = Annotated[str, Field(max_length=512)]
Metadata = Annotated[dict[Key, Value], Field(max_length=METADATA_PAIRS)]
MetadataPatch = dict[Key, Value | None]

Body = TypeVar("Body", bound=BaseModel)


def read(kind: type[Body], value: object, *, source: str = "") -> Body:
    """``value`` as a ``kind``; Refused with all that is wrong, each with its field's path."""
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        raise refusal(error.errors(include_url=False, include_context=False), source=source) from None


def refusal(errors: Iterable[Mapping[str, Any]], *, source: str = "") -> Refused:
    """One refusal that tells all of pydantic's ``errors``."""
    told = dict.fromkeys(_tell(error) for error in errors)
    return invalid((f"{source}: " if source else "") + "; ".join(told))


def _tell(error: Mapping[str, Any]) -> str:
    # A union's own tags and a request's "body" are no part of the field's path.
    path = ".".join(str(part) for part in error["loc"] if part not in ("body", "query"))
    kind, message = error["type"], error["msg"]
    if kind == "extra_forbidden":
        message = "unknown or unsupported field"
    elif kind == "missing":
        message = "is required"
    elif kind == "json_invalid":
        return f"the body is not valid JSON: {message}"
    else:
        message = message.removeprefix("Value error, ")
    return f"{path}: {message}" if path else message
