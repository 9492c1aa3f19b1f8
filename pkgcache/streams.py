"""Bytes on their way out of an archive or into one: counted, digested, compressed."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import lzma
import sys
import zlib
from typing import IO, Any

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

DAMAGED = (zlib.error, gzip.BadGzipFile, lzma.LZMAError, zstd.ZstdError, EOFError)
"""What the readers of compressed data raise for data that isn't right; bz2 raises a bare OSError or ValueError."""

_PIECE = 1 << 20
_MAGIC = (
    (b"\x1f\x8b", "gzip"),
    (b"\xfd7zXZ\0", "xz"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"BZh", "bzip2"),
)
# The levels that the programs of these names use by default.
_GZIP_LEVEL = 6
_ZSTD_LEVEL = 3


class TooMuch(Exception):
    """There are more bytes than were announced or are allowed."""


class Digested(io.RawIOBase):
    """Reads from `file`, or writes to it; counts and digests what passes. TooMuch: more than `limit` bytes to read."""

    def __init__(self, file: IO[bytes], algorithm: str = "sha256", limit: int | None = None) -> None:
        self._file = file
        self._state = hashlib.new(algorithm)
        self._algorithm = algorithm
        self._limit = limit
        self.count = 0

    @property
    def digest(self) -> str:
        """Of what has passed so far, like "sha256:…"."""
        return f"{self._algorithm}:{self._state.hexdigest()}"

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        piece = self._file.read(len(buffer))
        self._note(piece)
        if self._limit is not None and self.count > self._limit:
            raise TooMuch
        buffer[: len(piece)] = piece
        return len(piece)

    def write(self, data: Any) -> int:
        self._file.write(data)
        self._note(data)
        return len(data)

    def _note(self, piece: Any) -> None:
        self._state.update(piece)
        self.count += len(piece)

    def drain(self) -> None:
        """Read to the end."""
        while self.read(_PIECE):
            pass


def guess(first: bytes) -> str:
    """The compression that these first bytes of a file show: "" when they show none."""
    return next((name for magic, name in _MAGIC if first.startswith(magic)), "")


def reader(file: Any, compression: str) -> IO[bytes]:
    """What `file` holds, decompressed: "", "gzip", "xz", "zstd" or "bzip2"."""
    if compression == "gzip":
        return gzip.GzipFile(fileobj=file, mode="rb")  # type: ignore[return-value]
    if compression == "xz":
        return lzma.LZMAFile(file, "rb")
    if compression == "bzip2":
        return bz2.BZ2File(file, "rb")
    if compression == "zstd":
        return zstd.ZstdFile(file, "rb")  # type: ignore[return-value]
    assert compression == ""
    return file  # type: ignore[no-any-return]


def writer(file: Any, compression: str) -> IO[bytes]:
    """Compresses into `file`, to the same bytes each time; closing it finishes them and leaves `file` open."""
    if compression == "gzip":
        # Neither a time nor a name, which would tell one run from the next.
        return gzip.GzipFile(  # type: ignore[return-value]
            filename="", fileobj=file, mode="wb", compresslevel=_GZIP_LEVEL, mtime=0
        )
    if compression == "zstd":
        return zstd.ZstdFile(file, "wb", level=_ZSTD_LEVEL)  # type: ignore[return-value]
    assert compression == ""
    return file  # type: ignore[no-any-return]
