"""Bytes counted, digested and compressed on their way."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
from hashlib import sha256, sha512

import pytest

from pkgcache.streams import DAMAGED, Digested, TooMuch, guess, reader, writer

TEXT = b"a line of text\n" * 10_000


def zstd(data: bytes) -> bytes:
    out = io.BytesIO()
    with writer(out, "zstd") as file:
        file.write(data)
    return out.getvalue()


PACKED = {
    "": TEXT,
    "gzip": gzip.compress(TEXT),
    "xz": lzma.compress(TEXT),
    "bzip2": bz2.compress(TEXT),
    "zstd": zstd(TEXT),
}


@pytest.mark.parametrize("kind", PACKED)
def test_the_compression_is_seen_in_the_first_bytes_and_undone(kind: str) -> None:
    data = PACKED[kind]
    assert guess(data[:8]) == kind
    raw = Digested(io.BytesIO(data))
    plain = Digested(reader(raw, kind))
    plain.drain()
    raw.drain()
    assert (plain.count, plain.digest) == (len(TEXT), f"sha256:{sha256(TEXT).hexdigest()}")
    assert (raw.count, raw.digest) == (len(data), f"sha256:{sha256(data).hexdigest()}")


@pytest.mark.parametrize("kind", ["", "gzip", "zstd"])
def test_the_same_bytes_are_written_each_time(kind: str) -> None:
    def packed() -> bytes:
        out = io.BytesIO()
        digested = Digested(out)
        file = writer(digested, kind)
        for _ in range(3):
            file.write(TEXT)
        if kind:
            file.close()
        assert digested.digest == f"sha256:{sha256(out.getvalue()).hexdigest()}"
        return out.getvalue()

    data = packed()
    assert data == packed()
    assert reader(io.BytesIO(data), kind).read() == TEXT * 3


@pytest.mark.parametrize("kind", ["gzip", "xz", "zstd"])
def test_data_that_is_cut_short_is_damaged(kind: str) -> None:
    with pytest.raises(DAMAGED):
        Digested(reader(io.BytesIO(PACKED[kind][:-4]), kind)).drain()


def test_more_than_the_limit_is_too_much() -> None:
    assert Digested(io.BytesIO(TEXT), limit=len(TEXT)).readall() == TEXT
    with pytest.raises(TooMuch):
        Digested(io.BytesIO(TEXT), limit=len(TEXT) - 1).drain()


def test_other_digests_can_be_taken() -> None:
    file = Digested(io.BytesIO(b"x"), "sha512")
    file.drain()
    assert file.digest == f"sha512:{sha512(b'x').hexdigest()}"
