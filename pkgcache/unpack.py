"""Archives laid over one another in the root directory of this process: a root file system, or an image's layers.

This runs in a process that has been confined to that directory (`pkgcache.runner.Inside`), so that no path, whatever
an archive makes of links, leads anywhere else. What is refused here beyond that is what no honest archive has. The
rules of whiteouts are those of the OCI image specification: they hide what lower layers brought, never what their own
layer brings.
"""

from __future__ import annotations

import os
import shutil
import stat
import tarfile
from contextlib import suppress
from errno import EDQUOT, EINVAL, ENOSPC
from typing import IO, NamedTuple

IDS = 65536
"""How many ids a session has at most; a file of another can't be kept."""
ENTRIES = 2_000_000
"""How many names an image may have."""
_WHITEOUT = ".wh."
_OPAQUE = ".wh..wh..opq"
# Union file systems' own records, which some tools pack.
_RECORD = ".wh..wh."
_PIECE = 1 << 20
_XATTR = "SCHILY.xattr."
_FILES = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE, tarfile.GNUTYPE_SPARSE)
_DEVICES = (tarfile.CHRTYPE, tarfile.BLKTYPE)
# The label of a volume (GNU) is no file.
_LABEL = b"V"
_LATEST = 1 << 33


class Refused(Exception):
    """What is wrong with an archive."""


class Full(Exception):
    """The disk has no room for what an archive holds."""


class Left(NamedTuple):
    """What was made, and what was left out: device nodes."""

    entries: int
    devices: int


class _Member(tarfile.TarInfo):
    @classmethod
    def fromtarfile(cls, tarfile: tarfile.TarFile) -> _Member:
        # tarfile takes a damaged header for the end of the archive, and stumbles over numbers that are none.
        try:
            return super().fromtarfile(tarfile)
        except (_EOF_HEADER, _EMPTY_HEADER):
            raise
        except (_BAD_HEADER, ValueError, IndexError, OverflowError) as error:
            raise Refused(f"a header is damaged ({error})") from None


# They are not among tarfile's public names, though they have had these since Python 3.0.
_EOF_HEADER = tarfile.EOFHeaderError  # type: ignore[attr-defined]
_EMPTY_HEADER = tarfile.EmptyHeaderError  # type: ignore[attr-defined]
_BAD_HEADER = tarfile.HeaderError


def unpack(stream: IO[bytes], *, layer: bool, entries: int = ENTRIES, largest: int = 1 << 62) -> Left:
    """Lay a tar archive over what is in /. `layer`: names that begin with ".wh." are whiteouts.

    `entries` limits the names, `largest` the bytes of a file with holes. Raises Refused, Full, OSError for what the
    archive is not to blame for, and what `stream` raises.
    """
    try:
        with tarfile.open(mode="r|", fileobj=stream, tarinfo=_Member, bufsize=_PIECE) as archive:
            work = _Layer(archive, layer, entries, largest)
            while (member := archive.next()) is not None:
                # It would keep them all.
                archive.members.clear()  # type: ignore[attr-defined]
                work.add(member)
            work.finish()
            return Left(work.count, work.devices)
    except tarfile.TarError as error:
        raise Refused(f"it is no tar archive, or one that was cut short ({error})") from None


class _Layer:
    """One archive being laid over the others. Paths are absolute, without links above their last part."""

    def __init__(self, archive: tarfile.TarFile, layer: bool, entries: int, largest: int) -> None:
        self.archive = archive
        self.layer = layer
        self.entries = entries
        self.largest = largest
        self.count = 0
        self.devices = 0
        self.own: dict[str, bytes] = {}
        """What this archive brought, by path: the type."""
        self.above: set[str] = {"/"}
        """The directories that lead to something that this archive brought."""
        self.times: dict[str, int] = {}
        """The directories' own times, set when nothing is put in them any more."""

    def add(self, member: tarfile.TarInfo) -> None:
        self.count += 1
        if self.count > self.entries:
            raise Refused(f"it has more than {self.entries} entries")
        if member.type == _LABEL:
            return
        try:
            self._add(member)
        except OSError as error:
            if error.errno in (ENOSPC, EDQUOT):
                raise Full from None
            if error.errno is None:
                raise
            raise Refused(f"{_shown(member.name)}: {error.strerror}") from None
        except (ValueError, OverflowError) as error:
            raise Refused(f"{_shown(member.name)}: {error}") from None

    def _add(self, member: tarfile.TarInfo) -> None:
        parts = _parts(member.name, "name")
        if not parts:
            if not member.isdir():
                raise Refused(f"{_shown(member.name)}: the root itself can only be a directory")
            self._directory("/", member)
            return
        folder = self._folder(parts[:-1], member.name)
        name = parts[-1]
        if self.layer and name.startswith(_WHITEOUT):
            self._whiteout(folder, name, member.name)
            return
        path = os.path.join(folder, name)
        before = self.own.get(path)
        if before is not None and not (member.isdir() and before == tarfile.DIRTYPE):
            raise Refused(f"{_shown(member.name)}: it is there twice")
        if member.isdir():
            self._directory(path, member)
        else:
            self._make_room(path, member.name)
            self._other(path, member)
        self.own[path] = member.type

    def _folder(self, parts: list[str], whole: str) -> str:
        """The real directory of these parts, made where it is missing."""
        here = "/"
        for part in parts:
            path = os.path.join(here, part)
            try:
                mode = os.lstat(path).st_mode
            except FileNotFoundError:
                os.mkdir(path, 0o755)
                mode = stat.S_IFDIR
            if stat.S_ISLNK(mode):
                if self.own.get(path) is not None:
                    raise Refused(f"{_shown(whole)}: it is beneath a symbolic link of the same archive")
                # A lower layer's, which this process can't follow out of its root.
                path = os.path.realpath(path, strict=True)
                mode = os.stat(path).st_mode
            if not stat.S_ISDIR(mode):
                raise Refused(f"{_shown(whole)}: {_shown(path)} is no directory")
            self.above.add(path)
            here = path
        return here

    def _make_room(self, path: str, name: str) -> None:
        """Remove what lower layers brought at `path`."""
        if path in self.above:
            raise Refused(f"{_shown(name)}: there are files beneath it, and it is no directory")
        self.own.pop(path, None)
        _remove(path)

    def _whiteout(self, folder: str, name: str, whole: str) -> None:
        if name == _OPAQUE:
            self._clear(folder)
            return
        if name.startswith(_RECORD):
            return
        hidden = name[len(_WHITEOUT) :]
        if hidden in ("", ".", ".."):
            raise Refused(f"{_shown(whole)}: a whiteout of nothing")
        path = os.path.join(folder, hidden)
        if path in self.above or self.own.get(path) == tarfile.DIRTYPE:
            self._clear(path)
        elif path not in self.own:
            _remove(path)

    def _clear(self, folder: str) -> None:
        """Remove from a directory what this archive did not bring."""
        waiting = [folder]
        while waiting:
            here = waiting.pop()
            for name in os.listdir(here):
                path = os.path.join(here, name)
                if path in self.above or self.own.get(path) == tarfile.DIRTYPE:
                    waiting.append(path)
                elif path not in self.own:
                    _remove(path)

    def _directory(self, path: str, member: tarfile.TarInfo) -> None:
        try:
            there = stat.S_ISDIR(os.lstat(path).st_mode)
        except FileNotFoundError:
            there = False
        if not there:
            self._make_room(path, member.name)
            os.mkdir(path, 0o700)
        _own(path, member)
        os.chmod(path, member.mode & 0o7777)
        _set_attributes(path, member)
        self.times[path] = _time(member)

    def _other(self, path: str, member: tarfile.TarInfo) -> None:
        if member.type in _DEVICES:
            self.devices += 1
            return
        if member.type == tarfile.LNKTYPE:
            self._hard_link(path, member)
            return
        if member.type == tarfile.SYMTYPE:
            os.symlink(member.linkname, path)
        elif member.type == tarfile.FIFOTYPE:
            os.mkfifo(path, 0o600)
        elif member.type in _FILES:
            self._write(path, member)
        else:
            raise Refused(f"{_shown(member.name)}: an entry of the unknown type {member.type!r}")
        _own(path, member)
        if member.type != tarfile.SYMTYPE:
            os.chmod(path, member.mode & 0o7777)
        _set_attributes(path, member)
        time = _time(member)
        os.utime(path, ns=(time, time), follow_symlinks=False)

    def _hard_link(self, path: str, member: tarfile.TarInfo) -> None:
        parts = _parts(member.linkname, f"{_shown(member.name)}: the hard link's target")
        if not parts:
            raise Refused(f"{_shown(member.name)}: a hard link to the root")
        target = os.path.join(self._folder(parts[:-1], member.linkname), parts[-1])
        if self.own.get(target) in _DEVICES:
            self.devices += 1
            return
        try:
            mode = os.lstat(target).st_mode
        except FileNotFoundError:
            raise Refused(
                f"{_shown(member.name)}: a hard link to {_shown(target)}, which is not there"
            ) from None
        if stat.S_ISDIR(mode):
            raise Refused(f"{_shown(member.name)}: a hard link to the directory {_shown(target)}")
        os.link(target, path, follow_symlinks=False)

    def _write(self, path: str, member: tarfile.TarInfo) -> None:
        source = self.archive.extractfile(member)
        assert source is not None
        if member.size > self.largest:
            raise Full
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with open(os.open(path, flags, 0o600), "wb", buffering=0) as file:
            if not member.issparse():
                shutil.copyfileobj(source, file, _PIECE)
            else:
                while piece := source.read(_PIECE):
                    if piece.count(0) == len(piece):
                        file.seek(len(piece), os.SEEK_CUR)
                    else:
                        file.write(piece)
                file.truncate()
            if file.tell() != member.size:
                raise Refused(f"{_shown(member.name)}: it was cut short")

    def finish(self) -> None:
        for path, time in self.times.items():
            # A later entry may have put something else in its place.
            with suppress(FileNotFoundError):
                os.utime(path, ns=(time, time), follow_symlinks=False)


def _parts(name: str, what: str) -> list[str]:
    if name.startswith("/"):
        raise Refused(f"{what} {_shown(name)} is absolute")
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise Refused(f"{what} {_shown(name)} has '..' in it")
    return parts


def _remove(path: str) -> None:
    try:
        if stat.S_ISDIR(os.lstat(path).st_mode):
            shutil.rmtree(path)
        else:
            os.unlink(path)
    except FileNotFoundError:
        return


def _own(path: str, member: tarfile.TarInfo) -> None:
    """Give the file its owner, if there are more ids than one; the mode comes after, for chown takes set-id away."""
    if not (0 <= member.uid < IDS and 0 <= member.gid < IDS):
        raise Refused(
            f"{_shown(member.name)}: it belongs to user {member.uid} and group {member.gid}; "
            f"ids go up to {IDS - 1} in a session"
        )
    try:
        os.lchown(path, member.uid, member.gid)
    except OSError as error:
        if error.errno != EINVAL:
            raise


def _set_attributes(path: str, member: tarfile.TarInfo) -> None:
    for key, value in member.pax_headers.items():
        name = key.removeprefix(_XATTR)
        # What overlayfs notes there would change how the tree is seen.
        ours = name == "security.capability" or name.startswith("user.")
        if key.startswith(_XATTR) and ours and not name.startswith("user.overlay."):
            # Not every file system, kernel and kind of file takes them.
            with suppress(OSError):
                data = value.encode("utf-8", "surrogateescape")
                os.setxattr(path, name, data, follow_symlinks=False)


def _time(member: tarfile.TarInfo) -> int:
    """In nanoseconds."""
    seconds = member.mtime
    return int(seconds * 1_000_000_000) if -_LATEST < seconds < _LATEST else 0


def _shown(name: str) -> str:
    return repr(name if len(name) <= 200 else name[:200] + "…")
