"""Where sandboxsh keeps what lasts."""

import os
from collections.abc import Mapping

from sandbox.errors import HostError, InputError


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


def prepare(data: str) -> None:
    """Make the data directory, private to its owner; HostError when it can't be made, written or passed through."""
    try:
        if not os.path.isdir(data):
            os.makedirs(data, mode=0o700)
            if os.geteuid() == 0:
                # The ids of root's sessions have to pass through to their own directories.
                os.chmod(data, 0o711)  # noqa: S103
        if not os.access(data, os.W_OK | os.X_OK):
            raise PermissionError(13, "not writable")
    except OSError as error:
        raise HostError(
            f"the data directory {data} can't be used: {error.strerror}",
            hint="make it writable, or name another with --data or SANDBOXSH_DATA",
        ) from error
    if os.geteuid() == 0:
        _check_passage(data)


def _check_passage(data: str) -> None:
    path = data
    while path != "/":
        if not os.stat(path).st_mode & 0o001:
            raise HostError(
                f"the data directory {data} can't be reached by the ids of root's sessions: {path} lets only some in",
                hint=f"name a directory that everybody may pass through with --data, or: chmod o+x {path}",
            )
        path = os.path.dirname(path)
