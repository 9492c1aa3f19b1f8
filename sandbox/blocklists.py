"""The user's files of names and networks that no session reaches."""

import os
from collections.abc import Mapping, Sequence

from netpolicy.blocklist import Block, parse_blocklist
from sandbox.errors import InputError

_LARGEST = 8 * 1024 * 1024


def default_path(environment: Mapping[str, str]) -> str:
    """The file that is read without being named, if it is there."""
    home = environment.get("XDG_CONFIG_HOME") or os.path.join(environment.get("HOME", ""), ".config")
    return os.path.join(home, "sandboxsh", "blocklist") if home.startswith("/") else ""


def read(named: Sequence[str], environment: Mapping[str, str]) -> tuple[Block, ...]:
    """The entries of the user's own file and of those that are named. InputError for one that can't be read.

    The user's own may be missing. It counts all the same when it is there and can't be read: a wall that was meant
    must not be left out.
    """
    own = default_path(environment)
    found: list[Block] = []
    if own and os.path.lexists(own):
        found += _file(own)
    for path in named:
        found += _file(path)
    return tuple(found)


def _file(path: str) -> tuple[Block, ...]:
    try:
        with open(path, "rb") as file:
            text = file.read(_LARGEST + 1)
    except OSError as error:
        raise InputError(
            f"the blocklist {path}: {error.strerror}", hint="name a file that can be read"
        ) from error
    if len(text) > _LARGEST:
        raise InputError(
            f"the blocklist {path} is larger than 8 MiB", hint="shorten it, or split off what matters"
        )
    try:
        return parse_blocklist(text.decode(), path)
    except UnicodeDecodeError as error:
        raise InputError(
            f"the blocklist {path} is not UTF-8 text", hint="write names and networks"
        ) from error
