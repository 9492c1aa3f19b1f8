"""Reading what a base or a layer holds, as the owner of its files, for the manifest beside it."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from hashlib import sha256

from pkgcache.errors import StoreError
from pkgcache.manifest import NAME, Entry, compose, line
from pkgcache.store import Store

_APART = frozenset({NAME, "log"})
"""What is not covered: the manifest itself, and the log, which nothing is decided by."""

_PIECE = 1 << 20
_UNREADABLE = "unreadable "
_KINDS = {
    stat.S_IFREG: "f",
    stat.S_IFDIR: "d",
    stat.S_IFLNK: "l",
    stat.S_IFCHR: "c",
    stat.S_IFBLK: "b",
    stat.S_IFIFO: "p",
    stat.S_IFSOCK: "s",
}


def survey(place: str) -> str:
    """The manifest of the finished directory `place`. Raises OSError for what can't be read.

    For one who may read all of it and sees the session's ids. Nothing in it changes meanwhile.
    """
    size = 0
    lines = []
    linked: dict[tuple[int, int], str] = {}
    for path, status in _walk(place):
        kind = _KINDS[stat.S_IFMT(status.st_mode)]
        identity = (status.st_dev, status.st_ino)
        if identity not in linked:
            size += status.st_blocks * 512
        detail = linked.get(identity) or _detail(f"{place}/{path}", kind, status)
        if status.st_nlink > 1 and kind != "d":
            linked[identity] = detail
        # The files beside the trees are the builder's own, who has another id in a session than outside.
        owner = f"{status.st_uid}:{status.st_gid}" if "/" in path or kind == "d" else "-"
        attributes = _attributes(f"{place}/{path}")
        lines.append(line(Entry(path, kind, stat.S_IMODE(status.st_mode), owner, detail, attributes)))
    return compose(size, lines)


def _walk(place: str) -> Iterator[tuple[str, os.stat_result]]:
    """Everything below `place`, links not followed."""
    waiting = [""]
    while waiting:
        inside = waiting.pop()
        with os.scandir(f"{place}/{inside}") as entries:
            for entry in entries:
                if not inside and entry.name in _APART:
                    continue
                path = f"{inside}/{entry.name}" if inside else entry.name
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(path)
                yield path, entry.stat(follow_symlinks=False)


def _detail(path: str, kind: str, status: os.stat_result) -> str:
    if kind == "f":
        return f"{status.st_size}:{_digest(path)}"
    if kind == "l":
        return os.readlink(path)
    if kind in "cb":
        return f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"
    return "-"


def _digest(path: str) -> str:
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        data = os.read(fd, _PIECE)
        state = sha256(data)
        while data:
            data = os.read(fd, _PIECE)
            state.update(data)
        return state.hexdigest()
    finally:
        os.close(fd)


def _attributes(path: str) -> str:
    names = os.listxattr(path, follow_symlinks=False)
    if not names:
        return "-"
    state = sha256()
    for name in sorted(names):
        value = os.getxattr(path, name, follow_symlinks=False)
        state.update(b"%d:%s%d:%s" % (len(name), os.fsencode(name), len(value), value))
    return state.hexdigest()


def surveyed(store: Store, place: str) -> str:
    """The same, done as the owner of the store's files. Raises StoreError for what can't be read."""
    with open(os.memfd_create("manifest", os.MFD_CLOEXEC), "r+b", buffering=0) as answer:

        def work() -> None:
            try:
                text = survey(place)
            except OSError as error:
                text = f"{_UNREADABLE}{error.filename}: {error.strerror}"
            data = memoryview(text.encode("utf-8", "surrogateescape"))
            while data:
                data = data[os.write(answer.fileno(), data) :]

        store.as_owner(work)
        answer.seek(0)
        text = answer.read().decode("utf-8", "surrogateescape")
    if text.startswith(_UNREADABLE):
        raise StoreError(
            f"what is kept can't be read: {text.removeprefix(_UNREADABLE)}", "is the disk in order?"
        )
    return text
