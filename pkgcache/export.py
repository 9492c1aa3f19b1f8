"""An image as an OCI layout: a blob for the base and one for each layer of packages on it.

The same image gives the same digests, however often and by whom it is exported on one machine.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from hashlib import sha256
from typing import IO, Any, NamedTuple

from pkgcache import names, oci
from pkgcache.bases import read_record
from pkgcache.errors import HostError, InputError
from pkgcache.image import Image, lease
from pkgcache.pack import Packed, Unpackable, pack
from pkgcache.phases import Event, Progress
from pkgcache.resolve import read_layer
from pkgcache.runner import Inside
from pkgcache.store import Store

_PARTIAL = ".partial-"
_LEFT = re.compile(r"[0-9a-f]{8}")
_MADE = {"blobs", "index.json", "oci-layout"}


class Exported(NamedTuple):
    """`digest` is the manifest's."""

    digest: str
    layers: int
    size: int


class _Tree(NamedTuple):
    """One blob to be. `made_by` is told in the image's history."""

    path: str
    layer: bool
    made_by: str


def export_image(
    store: Store,
    image: Image,
    target: str,
    *,
    tag: str,
    environment: Mapping[str, str],
    inside: Inside,
    compression: str = "gzip",
    progress: Progress = lambda _: None,
) -> Exported:
    """Write the image to the directory `target`, which must be empty or not there, whole or not at all.

    `environment` becomes the image's; `compression` is "gzip", "zstd" or "none". Raises InputError, HostError (the
    disk or the directory), StoreError.
    """
    if image.base is None:
        raise InputError(
            "the base 'host' is the machine itself, which can't be exported",
            "export one that was built or imported",
        )
    target = os.path.abspath(target)
    _check_target(target)
    begun = time.monotonic()

    def say(phase: str, text: str) -> None:
        progress(Event("export", phase, text, time.monotonic() - begun))

    kind = "" if compression == "none" else compression
    with lease(image):
        trees, created = _trees(store, image)
        partial, lock = "", -1
        try:
            _sweep(target)
            partial, lock = _begin(target)
            os.makedirs(f"{partial}/blobs/sha256")
            layers: list[tuple[oci.Descriptor, str]] = []
            for number, tree in enumerate(trees, 1):
                say("pack", f"{tree.made_by} ({number} of {len(trees)})")
                packed = _pack(tree, f"{partial}/blobs/sha256", kind, inside)
                layers.append((oci.layer_descriptor(packed.digest, packed.size, kind), packed.diff_id))
            digest = _documents(partial, tag, created, environment, trees, layers)
            # Over an empty directory too.
            os.rename(partial, target)
        except OSError as error:
            raise HostError(
                f"{target}: {error.strerror}", "name another directory, or free some space"
            ) from error
        finally:
            if lock >= 0:
                shutil.rmtree(partial, ignore_errors=True)
                os.close(lock)
    size = sum(layer.size for layer, _ in layers)
    say("done", f"{tag}: {len(layers)} layers, {size >> 20} MiB")
    return Exported(digest, len(layers), size)


def _check_target(target: str) -> None:
    try:
        if os.listdir(target):
            raise InputError(f"{target}: it is not empty", "name a directory that is not there yet")
    except FileNotFoundError:
        return
    except OSError as error:
        raise InputError(f"{target}: {error.strerror}", "name a directory that is not there yet") from error


def _begin(target: str) -> tuple[str, int]:
    """A new directory beside `target`, and the lock on it: it is whoever's that holds this."""
    os.makedirs(os.path.dirname(target), exist_ok=True)
    while True:
        partial = f"{target}{_PARTIAL}{os.urandom(4).hex()}"
        os.mkdir(partial)
        lock = _lock(partial)
        if lock is not None:
            return partial, lock


def _lock(partial: str) -> int | None:
    """The lock on a directory, as a descriptor; None when somebody has it, or has removed the directory."""
    try:
        fd = os.open(partial, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(fd), os.stat(partial)):
            return fd
    except (BlockingIOError, FileNotFoundError):
        pass
    os.close(fd)
    return None


def _sweep(target: str) -> None:
    """Remove what killed exports to `target` left beside it."""
    folder, begin = os.path.split(target + _PARTIAL)
    try:
        beside = [name for name in os.listdir(folder) if _LEFT.fullmatch(name.removeprefix(begin))]
    except FileNotFoundError:
        return
    for name in beside:
        partial = os.path.join(folder, name)
        with suppress(OSError):
            # Whoever else has a name like that is not at risk.
            if not name.startswith(begin) or set(os.listdir(partial)) - _MADE:
                continue
            lock = _lock(partial)
            if lock is not None:
                shutil.rmtree(partial, ignore_errors=True)
                os.close(lock)


def _trees(store: Store, image: Image) -> tuple[list[_Tree], str]:
    """What the image stands on, lowest first, and when the last of it was made."""
    assert image.base is not None
    base = read_record(store, image.base_id)
    if base is None:
        raise InputError("the base was removed in the meantime", "see: sandboxctl base list")
    created = base.created
    trees = [_Tree(image.base, False, f"base {base.name}")]
    for key, path in zip(image.keys, reversed(image.layers), strict=True):
        record = read_layer(store, key)
        created = max(created, record.created)
        trees.append(_Tree(path, True, f"{record.manager}: {', '.join(record.specs)}"))
    return trees, created


def _pack(tree: _Tree, blobs: str, compression: str, inside: Inside) -> Packed:
    temporary = f"{blobs}/.partial"
    with open(temporary, "wb") as file:
        told = json.loads(inside(tree.path, _work(file, compression, tree.layer)))
    if "unpackable" in told:
        raise InputError(told["unpackable"], "it can't be exported")
    if "errno" in told:
        raise OSError(told["errno"], os.strerror(told["errno"]))
    packed = Packed(told["digest"], told["size"], told["diff_id"])
    os.rename(temporary, f"{blobs}/{packed.digest.partition(':')[2]}")
    return packed


def _work(file: IO[bytes], compression: str, layer: bool) -> Callable[[], str]:
    def work() -> str:
        answer: dict[str, Any]
        try:
            answer = pack(file, compression, layer=layer)._asdict()
            file.flush()
        except Unpackable as error:
            answer = {"unpackable": str(error)}
        except OSError as error:
            answer = {"errno": error.errno}
        return json.dumps(answer)

    return work


def _documents(
    place: str,
    tag: str,
    created: str,
    environment: Mapping[str, str],
    trees: list[_Tree],
    layers: list[tuple[oci.Descriptor, str]],
) -> str:
    """Write all but the layers; returns the manifest's digest."""
    platform = names.platform()
    config = oci.write_config(
        platform, created, environment, [diff_id for _, diff_id in layers], [tree.made_by for tree in trees]
    )
    manifest = oci.write_manifest(
        oci.config_descriptor(_blob(place, config), len(config)), [layer for layer, _ in layers]
    )
    digest = _blob(place, manifest)
    index = oci.write_index(oci.manifest_descriptor(digest, len(manifest)), platform, tag)
    for name, data in (("index.json", index), ("oci-layout", oci.LAYOUT.encode())):
        with open(f"{place}/{name}", "wb") as file:
            file.write(data)
    return digest


def _blob(place: str, data: bytes) -> str:
    digest = f"sha256:{sha256(data).hexdigest()}"
    with open(f"{place}/{oci.blob_path(digest)}", "wb") as file:
        file.write(data)
    return digest
