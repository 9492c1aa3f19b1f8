"""What is asked of the starter, and its answers, as bytes: plain values, so that reading them runs no code."""

import marshal
import os
from typing import Any, NamedTuple

from sandbox.containers.directory import NoContainerError, Place
from sandbox.containers.orders import in_memory as _in_memory
from sandbox.errors import Failure, HostError, InputError, SetupError
from sandbox.idmap import Extent, IdMap

_KINDS: dict[str, type[Failure]] = {
    "absent": NoContainerError,
    "host": HostError,
    "input": InputError,
    "setup": SetupError,
}


class Request(NamedTuple):
    """``values``: what the word's own meaning needs besides the container. ``secret`` travels apart from them: whoever
    reads the request reads it when it is time, or not at all."""

    place: Place
    values: tuple[Any, ...]
    secret: bytes = b""


def write(request: Request) -> tuple[int, int]:
    """Files in memory with the request, and with its secret."""
    data, ids, id_ = request.place
    maps = (ids.mode, [tuple(each) for each in ids.uids], [tuple(each) for each in ids.gids], ids.helper)
    written = in_memory((data, maps, id_, request.values))
    try:
        return written, _in_memory(request.secret)
    except BaseException:
        os.close(written)
        raise


def read(fd: int) -> Request:
    """The request in a file that `write` made, without its secret."""
    with open(fd, "rb", closefd=False) as file:
        data, (mode, uids, gids, helper), id_, values = marshal.loads(file.read())  # noqa: S302
    ids = IdMap(mode, tuple(Extent(*each) for each in uids), tuple(Extent(*each) for each in gids), helper)
    return Request(Place(data, ids, id_), values)


def in_memory(value: Any) -> int:
    """A file in memory with a plain value."""
    return _in_memory(marshal.dumps(value))


def taken_out(fd: int) -> Any:
    """The value in a file that `in_memory` made; the file is closed."""
    with open(fd, "rb") as file:
        os.lseek(fd, 0, os.SEEK_SET)
        return marshal.loads(file.read())  # noqa: S302


def failure(error: Exception) -> str | None:
    """The words for an error that a person can mend; None for one of our own."""
    hint = getattr(error, "hint", None)
    if hint is None:
        return None
    kind = next((kind for kind, known in _KINDS.items() if type(error) is known), "host")
    return f"failed {kind}\n{hint}\n{error}"


def told(error: Exception) -> str:
    """The words for any error. One of our own is shown on standard error as well."""
    words = failure(error)
    if words is None:
        import traceback

        traceback.print_exception(error)
    return words or f"failed bug\n\n{type(error).__name__}: {error}"


def raised(words: str) -> Exception:
    """The error that `failure` made words of."""
    head, _, rest = words.partition("\n")
    hint, _, message = rest.partition("\n")
    kind = _KINDS.get(head.removeprefix("failed "))
    return RuntimeError(message) if kind is None else kind(message, hint=hint)
