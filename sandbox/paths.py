"""Where sandboxsh keeps what lasts."""

import os
from collections.abc import Mapping

from sandbox.errors import HostError, InputError
from sandbox.idmap import IdMap

# What is kept for each way of mapping ids, in a directory of its own: files there belong to the sessions' ids.
_FOR_IDS = ("containers", "ground", "sessions", "store")


def data_directory(given: str | None, environment: Mapping[str, str], uid: int) -> str:
    """The data directory: ``given`` (--data), $SANDBOXSH_DATA, or the user's own place for data.

    Root's is below /var/lib, for the unprivileged ids that root's sessions have can't enter /root.
    """
    chosen = given or environment.get("SANDBOXSH_DATA")
    if chosen:
        return os.path.abspath(chosen)
    if uid == 0:
        return "/var/lib/sandboxsh"
    home = environment.get("XDG_DATA_HOME") or os.path.join(environment.get("HOME", ""), ".local/share")
    if not home.startswith("/"):
        raise InputError(
            "there is no place for data: neither HOME nor XDG_DATA_HOME is an absolute path",
            hint="set HOME, or name a directory with --data",
        )
    return os.path.join(home, "sandboxsh")


def prepare(data: str, ids: IdMap) -> None:
    """Make the data directory, private to its owner; HostError when it can't be made, written or passed through, or
    when somebody else may write to it."""
    try:
        if not os.path.isdir(data):
            os.makedirs(data, mode=0o700)
            if os.geteuid() == 0:
                # The ids of root's sessions have to pass through to their own directories.
                os.chmod(data, 0o711)  # noqa: S103
        if not os.access(data, os.W_OK | os.X_OK):
            raise PermissionError(13, "not writable")
        _check_owner(data)
        for kind in _FOR_IDS:
            directory_for(data, kind, ids)
    except OSError as error:
        raise HostError(
            f"the data directory {data} can't be used: {error.strerror}",
            hint="make it writable, or name another with --data or SANDBOXSH_DATA",
        ) from error
    if os.geteuid() == 0:
        _check_passage(data)


def directory_for(data: str, kind: str, ids: IdMap) -> str:
    """``<data>/<kind>/<ids>``, made when it is missing. OSError when it can't be.

    Only its owner and the sessions of these ids get through it. Other users of the machine must not: below are
    set-id programs of the sessions' ids, a base's or planted, which would lend them those ids.
    """
    path = os.path.join(data, kind, ids.name)
    root = os.geteuid() == 0
    if not os.path.isdir(path):
        os.makedirs(os.path.dirname(path), mode=0o711 if root else 0o700, exist_ok=True)
        try:
            os.mkdir(path, 0o700)
        except FileExistsError:
            # Another session came first.
            pass
    mode, group = (0o710, ids.root_gid) if root else (0o700, -1)
    found = os.stat(path)
    if found.st_mode & 0o777 != mode or group not in (-1, found.st_gid):
        os.chmod(path, mode)
        os.chown(path, -1, group)
    return path


def _check_owner(data: str) -> None:
    found = os.stat(data)
    if found.st_uid != os.geteuid() or found.st_mode & 0o022:
        problem = (
            "belongs to another user" if found.st_uid != os.geteuid() else "can be written by other users"
        )
        raise HostError(
            f"the data directory {data} {problem}, who could change what sessions are made of",
            hint=f"name one of your own with --data or SANDBOXSH_DATA, or: chmod go-w {data}",
        )


def _check_passage(data: str) -> None:
    path = data
    while path != "/":
        if not os.stat(path).st_mode & 0o001:
            raise HostError(
                f"the data directory {data} can't be reached by the ids of root's sessions: {path} lets only some in",
                hint=f"name a directory that everybody may pass through with --data, or: chmod o+x {path}",
            )
        path = os.path.dirname(path)
