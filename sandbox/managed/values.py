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
        raise refusal(error.errors(include_url=False), value, source=source) from None


def refusal(errors: Iterable[Mapping[str, Any]], body: object, *, source: str = "") -> Refused:
    """One refusal that tells all of pydantic's ``errors`` in ``body``."""
    told = dict.fromkeys(_tell(error, body) for error in errors)
    return invalid((f"{source}: " if source else "") + "; ".join(told))


def _tell(error: Mapping[str, Any], body: object) -> str:
    path = _path(error["loc"], body)
    kind, message = error["type"], error["msg"]
    if kind == "extra_forbidden":
        message = "unknown or unsupported field"
    elif kind == "missing":
        message = "is required"
    elif kind == "json_invalid":
        return f"the body is not valid JSON: {message}"
    elif kind in ("union_tag_invalid", "union_tag_not_found"):
        context = error["ctx"]
        path = ".".join(filter(None, (path, context["discriminator"].strip("'"))))
        missing = kind == "union_tag_not_found"
        message = "is required" if missing else f"{context['tag']!r} is none of {context['expected_tags']}"
    else:
        message = message.removeprefix("Value error, ")
    return f"{path}: {message}" if path else message


def _path(place: Iterable[str | int], body: object) -> str:
    """A field's path as its author knows it, which a union's own tags are no part of."""
    found: list[str] = []
    here, tagged = body, False
    for part in place:
        if isinstance(here, dict):
            if not tagged and part not in here and part == here.get("type"):
                tagged = True
                continue
            here = here.get(part)
        elif isinstance(here, list) and isinstance(part, int) and part < len(here):
            here = here[part]
        else:
            here = None
        tagged = False
        found.append(str(part))
    return ".".join(found)
