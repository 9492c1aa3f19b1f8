"""Locks as files: YAML or JSON, the same text for the same packages."""

import json
from typing import TYPE_CHECKING

from sandbox.document import load, show_path
from sandbox.errors import InputError

if TYPE_CHECKING:
    from pkgcache.lock import Lock

# A package takes about 150 characters.
_LONGEST = 1 << 24


def read(path: str) -> "Lock":
    """The lock in the file ``path``. InputError when it is none."""
    from pkgcache.lock import from_plain

    try:
        with open(path, "rb") as file:
            text = file.read(_LONGEST + 1)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}", hint="check the path") from error
    document = load(text, longest=_LONGEST)
    for problem in document.problems:
        where = f"{show_path(problem.path)}: " if problem.path else ""
        raise InputError(f"{path}: {where}{problem.message}", hint=problem.hint)
    return from_plain(document.value, path)


def to_json(lock: "Lock") -> str:
    from pkgcache.lock import to_plain

    return json.dumps(to_plain(lock), indent=2, ensure_ascii=False) + "\n"


def to_yaml(lock: "Lock") -> str:
    import yaml

    from pkgcache.lock import to_plain

    return yaml.safe_dump(to_plain(lock), sort_keys=False, allow_unicode=True, width=100)
