"""The root directory of this process as a tar archive: a base, or one layer with overlayfs's marks made whiteouts.

This runs in a process confined to that directory (`pkgcache.runner.Inside`), so that owners are the session's. The same
tree gives the same bytes: names in order, times in whole seconds, no names of users.
"""

from __future__ import annotations

import os
import stat
import tarfile
from collections.abc import Iterator
from typing import IO, NamedTuple

from pkgcache.streams import Digested, writer

_PIECE = 1 << 20
_OVERLAY = "user.overlay."
_OPAQUE = f"{_OVERLAY}opaque"
_WHITEOUT = f"{_OVERLAY}whiteout"
_KINDS = {
    stat.S_IFREG: tarfile.REGTYPE,
    stat.S_IFDIR: tarfile.DIRTYPE,
    stat.S_IFLNK: tarfile.SYMTYPE,
    stat.S_IFIFO: tarfile.FIFOTYPE,
}


class Unpackable(Exception):
    """Why the tree can't be told as an archive."""


class Packed(NamedTuple):
    """A layer's blob: digest and size as it is, digest before compression."""

    digest: str
    size: int
    diff_id: str


def pack(file: IO[bytes], compression: str, *, layer: bool) -> Packed:
    """Write what is in / to `file`. `layer`: it is overlayfs's upper directory, whose root's own mode is no matter.

    Sockets and device nodes are left out. Raises Unpackable, OSError.
    """
    blob = Digested(file)
    compressed = writer(blob, compression)
    tar = Digested(compressed)
    with tarfile.open(
        mode="w|",
        fileobj=tar,
        format=tarfile.PAX_FORMAT,
        bufsize=_PIECE,
    ) as archive:
        _pack(archive, layer)
    if compression:
        compressed.close()
    return Packed(blob.digest, blob.count, tar.digest)


def _pack(archive: tarfile.TarFile, layer: bool) -> None:
    links: dict[tuple[int, int], str] = {}
    if not layer:
        archive.addfile(_entry("/", "./", os.lstat("/")))
    for path, status in _walk():
        name = path[1:]
        folder, _, last = name.rpartition("/")
        if last.startswith(".wh."):
            raise Unpackable(f"{path}: an image can't hold names that begin with '.wh.'")
        if layer and _is_whiteout(path, status):
            archive.addfile(_mark(f"{folder}/.wh.{last}" if folder else f".wh.{last}", status))
            continue
        if stat.S_IFMT(status.st_mode) not in _KINDS:
            continue
        entry = _entry(path, name, status)
        first = links.get((status.st_dev, status.st_ino))
        if first is not None:
            entry.type, entry.linkname, entry.size = tarfile.LNKTYPE, first, 0
            entry.pax_headers = {}
            archive.addfile(entry)
            continue
        if status.st_nlink > 1 and not stat.S_ISDIR(status.st_mode):
            links[status.st_dev, status.st_ino] = name
        if entry.isreg():
            with open(path, "rb", buffering=0) as source:
                archive.addfile(entry, source)
        else:
            archive.addfile(entry)
        if layer and entry.isdir() and _is_opaque(path):
            archive.addfile(_mark(f"{name}/.wh..wh..opq", status))
        archive.members.clear()  # type: ignore[attr-defined]


def _walk() -> Iterator[tuple[str, os.stat_result]]:
    """Everything below /, each directory before what is in it, in the order of the names' bytes."""
    waiting = ["/"]
    while waiting:
        here = waiting.pop()
        if here != "/":
            status = os.lstat(here)
            yield here, status
            if not stat.S_ISDIR(status.st_mode):
                continue
        names = sorted(os.listdir(here), key=os.fsencode, reverse=True)
        waiting += [os.path.join(here, name) for name in names]


def _entry(path: str, name: str, status: os.stat_result) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type = _KINDS[stat.S_IFMT(status.st_mode)]
    entry.mode = stat.S_IMODE(status.st_mode)
    entry.uid, entry.gid = status.st_uid, status.st_gid
    entry.mtime = int(status.st_mtime_ns // 1_000_000_000)
    if entry.isreg():
        entry.size = status.st_size
    if entry.issym():
        entry.linkname = os.readlink(path)
        return entry
    headers: dict[str, str] = {}
    for attribute in sorted(os.listxattr(path, follow_symlinks=False)):
        kept = attribute == "security.capability" or attribute.startswith("user.")
        if kept and not attribute.startswith(_OVERLAY):
            value = os.getxattr(path, attribute, follow_symlinks=False)
            headers[f"SCHILY.xattr.{attribute}"] = value.decode("utf-8", "surrogateescape")
    entry.pax_headers = headers
    return entry


def _mark(name: str, status: os.stat_result) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.mode = 0o600
    entry.mtime = int(status.st_mtime_ns // 1_000_000_000)
    return entry


def _is_whiteout(path: str, status: os.stat_result) -> bool:
    """overlayfs has two: a character device 0:0, and an empty file with an attribute."""
    if stat.S_ISCHR(status.st_mode):
        return status.st_rdev == 0
    return stat.S_ISREG(status.st_mode) and status.st_size == 0 and _has(path, _WHITEOUT)


def _is_opaque(path: str) -> bool:
    return _has(path, _OPAQUE) and os.getxattr(path, _OPAQUE) == b"y"


def _has(path: str, attribute: str) -> bool:
    return attribute in os.listxattr(path, follow_symlinks=False)
