"""What a session changed, read from its upper directory and the layers below it.

overlayfs marks what is gone with a whiteout (a character device 0:0, or an empty file with an attribute), and a
directory that stands in another's place as opaque; in a user namespace its attributes are called ``user.overlay.…``.
"""

import errno
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import suppress
from itertools import islice
from typing import NamedTuple

from sandbox import syscalls as sys_
from sandbox.containers.spec import Change
from sandbox.inroot import Opened
from sandbox.operations import Directory, Operation, Overlay

_DEEPEST = 200
# With the directory that it is kept in, and a name below it, a path has to stay within 4096 bytes.
_LONGEST = 3000
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_MOVED = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EAGAIN, errno.EXDEV)
_OWN_MOUNTS = ("/proc", "/sys", "/dev")


class View(NamedTuple):
    """What a session's root is made of. ``lowers``: the directories below each overlay, by its target, topmost first.
    ``covered``: what the session's upper directory holds at these paths is not the session's doing; ``made``: nor that
    these directories are there."""

    lowers: Mapping[str, tuple[str, ...]]
    covered: frozenset[str]
    made: frozenset[str]


def view(steps: tuple[Operation, ...], targets: tuple[str, ...]) -> View:
    """The view of a session whose root ``steps`` make, with more mounts at ``targets``."""
    lowers = {step.target: step.lowers for step in steps if isinstance(step, Overlay)}
    folders = {step.target for step in steps if isinstance(step, Directory)}
    found = {str(getattr(step, "target", "/")) for step in steps if not isinstance(step, Directory)}
    covered = found.union(targets, _OWN_MOUNTS).difference(lowers)
    made = folders.union(parent for path in (*covered, *folders, *lowers) for parent in _parents(path))
    return View(lowers, frozenset(covered), frozenset(made))


def _parents(path: str) -> Iterator[str]:
    while path != "/":
        path = os.path.dirname(path)
        yield path


def changes(upper: str, seen: View, limit: int) -> tuple[Change, ...]:
    """What stands in ``upper``, by path, no more than ``limit``, and nothing below _DEEPEST directories. The session
    may be at work meanwhile: nothing in ``upper`` is followed."""
    with Opened(os.open(upper, _FOLDER)) as top:
        return tuple(islice(_directory(top.fd, "/", seen, seen.lowers.get("/", ()), False), limit))


class _Entry(NamedTuple):
    """What stands by a name in the upper directory. ``marks``: those of overlayfs that it has."""

    status: os.stat_result
    marks: tuple[str, ...]


def _entries(top: int, path: str) -> dict[str, _Entry]:
    """What stands in the directory ``path`` below ``top``; nothing when the session put something else there."""
    try:
        fd = sys_.openat2(top, f".{path}", _FOLDER, resolve=sys_.RESOLVE_BENEATH | sys_.RESOLVE_NO_SYMLINKS)
    except OSError as error:
        if error.errno in _MOVED:
            return {}
        raise
    found = {}
    with Opened(fd), os.scandir(fd) as entries:
        for entry in entries:
            with suppress(FileNotFoundError):
                status = entry.stat(follow_symlinks=False)
                where = f"/proc/self/fd/{fd}/{entry.name}"
                marks = tuple(mark for mark in ("opaque", "whiteout") if _marked(where, mark))
                found[entry.name] = _Entry(status, marks)
    return found


def _directory(top: int, path: str, seen: View, lowers: tuple[str, ...], opaque: bool) -> Iterator[Change]:
    """The changes below the directory ``path``; ``opaque``: nothing of the layers below shows through."""
    if path.count("/") > _DEEPEST or len(os.fsencode(path)) > _LONGEST:
        return
    entries = _entries(top, path)
    names = set(entries)
    if opaque:
        names.update(_names(lowers))
    for name in sorted(names):
        where = f"{path.rstrip('/')}/{name}"
        if where in seen.covered:
            continue
        if name not in entries:
            if _below(lowers, name):
                yield Change("D", where)
            continue
        found = entries[name]
        if where in seen.lowers:
            yield from _directory(top, where, seen, seen.lowers[where], False)
            continue
        below = _below(lowers, name)
        if _is_whiteout(found.status, found.marks):
            if below:
                yield Change("D", where)
        elif stat.S_ISDIR(found.status.st_mode):
            yield from _changed_directory(top, where, seen, below, found)
        else:
            yield Change("C" if below else "A", where)


def _changed_directory(
    top: int, where: str, seen: View, below: tuple[str, ...], found: _Entry
) -> Iterator[Change]:
    opaque = "opaque" in found.marks
    before = os.lstat(below[0]) if below else None
    if before is None or not stat.S_ISDIR(before.st_mode):
        if before is not None or where not in seen.made:
            yield Change("A" if before is None else "C", where)
        yield from _directory(top, where, seen, (), False)
        return
    if opaque or _rights(before) != _rights(found.status):
        yield Change("C", where)
    yield from _directory(top, where, seen, below, opaque)


def _rights(found: os.stat_result) -> tuple[int, int, int]:
    return found.st_mode, found.st_uid, found.st_gid


def _below(lowers: tuple[str, ...], name: str) -> tuple[str, ...]:
    """What stands by ``name`` in the layers below: directories that are merged, or one thing of another kind."""
    found: list[str] = []
    for lower in lowers:
        path = f"{lower}/{name}"
        try:
            status = os.lstat(path)
        except OSError:
            continue
        if _is_whiteout(status, ("whiteout",) if _marked(path, "whiteout") else ()):
            break
        if not stat.S_ISDIR(status.st_mode):
            return tuple(found) or (path,)
        found.append(path)
        if _marked(path, "opaque"):
            break
    return tuple(found)


def _names(lowers: tuple[str, ...]) -> set[str]:
    found: set[str] = set()
    for lower in lowers:
        try:
            found.update(os.listdir(lower))
        except OSError:
            continue
    return found


def _is_whiteout(status: os.stat_result, marks: tuple[str, ...]) -> bool:
    if stat.S_ISCHR(status.st_mode):
        return status.st_rdev == 0
    return stat.S_ISREG(status.st_mode) and status.st_size == 0 and "whiteout" in marks


def _marked(path: str, name: str) -> bool:
    try:
        # A whiteout that is a file may hold anything in its attribute.
        return os.getxattr(path, f"user.overlay.{name}", follow_symlinks=False) in (b"y", b"")
    except OSError:
        return False
