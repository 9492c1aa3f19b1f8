"""The layer of files that every session gets from sandboxsh itself, made once and shared.

It is the topmost lower layer of a session, so that a session starts with an empty upper directory: nothing to write
at the start, nothing to remove at the end. ``<data>/ground/<ids>/<digest of its steps>``.
"""

import os
from _blake2 import blake2b

from sandbox.errors import HostError, SetupError
from sandbox.idmap import IdMap
from sandbox.operations import Operation
from sandbox.removal import as_session_root, remove_tree

# A change of what the steps do, other than to their values, needs a new format.
_FORMAT = "1"


def path_of(data: str, ids: IdMap, steps: tuple[Operation, ...]) -> str:
    """Where the layer that ``steps`` make belongs."""
    content = blake2b(digest_size=16)
    content.update(_FORMAT.encode())
    for step in steps:
        content.update(f"\n{type(step).__name__}".encode())
        for value in step:
            text = repr(value).encode("utf-8", "surrogateescape") if not isinstance(value, bytes) else value
            content.update(b"%d:" % len(text))
            content.update(text)
    return os.path.join(data, "ground", ids.name, content.hexdigest())


def ensure(path: str, ids: IdMap, steps: tuple[Operation, ...]) -> None:
    """Make the layer at ``path`` (see path_of) when it is missing. HostError when it can't be made."""
    if os.path.isdir(path):
        return
    parent = os.path.dirname(path)
    making = f"{path}.{os.getpid()}"
    try:
        mode = 0o711 if os.geteuid() == 0 else 0o700
        os.makedirs(os.path.dirname(parent), mode=mode, exist_ok=True)
        if not os.path.isdir(parent):
            os.mkdir(parent, mode)
        os.mkdir(making, 0o755)
        if os.geteuid() == 0:
            os.chown(making, ids.root_uid, ids.root_gid)

        def make() -> None:
            os.umask(0o022)
            for step in steps:
                step.execute(making)

        as_session_root(ids, make)
        # Whoever comes second finds the same content in place.
        try:
            os.rename(making, path)
        except OSError:
            if not os.path.isdir(path):
                raise
    except (OSError, SetupError) as error:
        raise HostError(
            f"the files that sessions share can't be made in {parent}: {error}",
            hint="free some space, or name another data directory with --data",
        ) from error
    finally:
        remove_tree(making, ids)
