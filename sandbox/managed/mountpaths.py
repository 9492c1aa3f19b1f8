"""Where a session's files and repositories may stand in it, and whether they stand in each other's way. Pure."""

import re
from typing import NamedTuple

from sandbox.spec import CA_BUNDLE, OUTPUTS, TRUST_FILE, UPLOADS, WORKSPACE

MOST_FILES, MOST_REPOSITORIES = 999, 32
"""How many a session may have."""

_LONGEST, _LONGEST_NAME = 1024, 255
# The kernel's own, and what the session's set-up keeps there.
REMOTES = "/mnt/session/remotes"
_KERNELS = ("/dev", "/proc", "/sys", "/mnt/session/.attached", REMOTES)
# Without these, as the session made them, names don't resolve, servers aren't trusted, or no program starts.
_NEEDED = (
    "/etc/group",
    "/etc/hostname",
    "/etc/hosts",
    "/etc/ld.so.cache",
    "/etc/ld.so.preload",
    "/etc/passwd",
    "/etc/resolv.conf",
    CA_BUNDLE,
    TRUST_FILE,
)
# A repository covers what stood at its place: a session whose programs are covered can't run any.
_PROGRAMS = ("/bin", "/boot", "/etc", "/lib", "/lib32", "/lib64", "/libx32", "/run", "/sbin", "/usr")
_AMONG_PROGRAMS = ("/usr/local/src", "/usr/src")
_FOLDERS = ("/home", "/media", "/mnt", "/opt", "/root", "/srv", "/tmp", "/var", "/var/tmp")


class Taken(NamedTuple):
    """What stands in a session. ``paths``: whether it is a directory (a repository), by its path; ``below``: by each
    directory above one, that one; ``repositories``: the same of repositories alone."""

    paths: dict[str, bool]
    below: dict[str, str]
    repositories: dict[str, str]


def nothing() -> Taken:
    """A session where nothing stands yet."""
    return Taken({}, {}, {})


def take(taken: Taken, path: str, *, directory: bool) -> None:
    """Let something stand at ``path``."""
    taken.paths[path] = directory
    for parent in _parents(path):
        taken.below[parent] = path
        if directory:
            taken.repositories[parent] = path


def default_upload(file_id: str) -> str:
    """Where a file stands when nobody says."""
    return f"{UPLOADS}/{file_id}"


def default_repository(url: str) -> str:
    """Where the repository at ``url`` stands when nobody says: below /workspace, by its name."""
    name = url.rstrip("/").rpartition("/")[2].removesuffix(".git")
    name = re.sub(r"[^A-Za-z0-9._-]", "_", name).lstrip(".-") or "repository"
    return f"{WORKSPACE}/{name[:_LONGEST_NAME]}"


def is_upload(path: str) -> bool:
    """Whether a file at ``path`` is where nothing of the session's can be in its way."""
    return path.startswith(f"{UPLOADS}/")


def problem(path: str, *, directory: bool) -> str | None:
    """Why nothing can stand at ``path``, or None."""
    if not path.startswith("/"):
        return f"{path!r} is not an absolute path"
    names = path[1:].split("/")
    if len(path.encode("utf-8", "surrogatepass")) > _LONGEST or any(
        len(name.encode("utf-8", "surrogatepass")) > _LONGEST_NAME for name in names
    ):
        return "is too long"
    if not path.isprintable():
        return f"{path!r} has characters that can't be shown"
    if any(name in ("", ".", "..") for name in names):
        return f'{path!r} has an empty component, or "." or ".."'
    if _at_or_below(path, (*_KERNELS, OUTPUTS)):
        why = "is where outputs are collected" if _at_or_below(path, (OUTPUTS,)) else "belongs to the system"
        return f"{path} {why}"
    closed = (UPLOADS, *(parent for folder in (OUTPUTS, UPLOADS) for parent in _parents(folder)))
    if path in _NEEDED or path in closed or (not directory and path == WORKSPACE):
        return f"{path} is needed by the session itself"
    if directory:
        if path in _FOLDERS or path in _AMONG_PROGRAMS:
            return f"{path} would be covered: name a directory below it"
        if _at_or_below(path, _PROGRAMS) and not _at_or_below(path, _AMONG_PROGRAMS):
            return f"{path} is where the session's programs are"
        if _at_or_below(path, (UPLOADS,)):
            return f"{path} is where files are"
    elif path in (*_FOLDERS, *_PROGRAMS, "/usr/bin", "/usr/lib", "/usr/local"):
        return f"{path} is a directory of the session's"
    return None


def collision(path: str, *, directory: bool, taken: Taken) -> str | None:
    """What of ``taken`` is in the way of ``path``, or None. A file may stand inside a repository."""
    if path in taken.paths:
        return path
    for parent in _parents(path):
        if parent in taken.paths and (directory or not taken.paths[parent]):
            return parent
    return (taken.repositories if directory else taken.below).get(path)


def _at_or_below(path: str, folders: tuple[str, ...]) -> bool:
    return any(path == folder or path.startswith(f"{folder}/") for folder in folders)


def _parents(path: str) -> tuple[str, ...]:
    names = path[1:].split("/")[:-1]
    return tuple("/" + "/".join(names[:end]) for end in range(1, len(names) + 1))
