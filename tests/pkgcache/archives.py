"""Archives and OCI layouts made by hand, honest ones and others."""

from __future__ import annotations

import gzip
import io
import json
import os
import tarfile
from hashlib import sha256
from pathlib import Path
from typing import Any

from pkgcache import names, oci


def member(name: str, kind: bytes = tarfile.REGTYPE, **values: Any) -> tarfile.TarInfo:
    """A member of an archive. Directories and files get a mode that fits."""
    made = tarfile.TarInfo(name)
    made.type = kind
    made.mode = 0o755 if kind == tarfile.DIRTYPE else 0o644
    made.mtime = 1_600_000_000
    for field, value in values.items():
        setattr(made, field, value)
    return made


def folder(name: str, **values: Any) -> tarfile.TarInfo:
    return member(name, tarfile.DIRTYPE, **values)


def link(name: str, target: str, **values: Any) -> tarfile.TarInfo:
    return member(name, tarfile.SYMTYPE, linkname=target, **values)


def hard(name: str, target: str) -> tarfile.TarInfo:
    return member(name, tarfile.LNKTYPE, linkname=target)


def tar(*members: tarfile.TarInfo | tuple[str | tarfile.TarInfo, bytes]) -> bytes:
    """An archive of these members; a pair is a file with its content."""
    out = io.BytesIO()
    with tarfile.open(mode="w", fileobj=out, format=tarfile.PAX_FORMAT) as archive:
        for one in members:
            if isinstance(one, tarfile.TarInfo):
                archive.addfile(one)
                continue
            made = member(one[0]) if isinstance(one[0], str) else one[0]
            made.size = len(one[1])
            archive.addfile(made, io.BytesIO(one[1]))
    return out.getvalue()


def digest(data: bytes) -> str:
    return f"sha256:{sha256(data).hexdigest()}"


def put(place: Path, data: bytes) -> tuple[str, int]:
    """A blob in a layout: its digest and size."""
    name = digest(data)
    path = place / oci.blob_path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return name, len(data)


def layout(
    place: Path,
    *layers: bytes,
    environment: dict[str, str] | None = None,
    platform: str | None = None,
    tags: tuple[str, ...] = ("latest",),
) -> Path:
    """An OCI layout of these layers (archives, not compressed yet), once for each tag."""
    platform = platform or names.platform()
    blobs = [put(place, gzip.compress(layer, mtime=0)) for layer in layers]
    entries = []
    for tag in tags:
        config = oci.write_config(
            platform,
            "2026-01-01T00:00:00Z",
            {**(environment or {}), "TAG": tag},
            [digest(layer) for layer in layers],
            ["by hand"] * len(layers),
        )
        manifest = oci.write_manifest(
            oci.config_descriptor(*put(place, config)),
            [oci.layer_descriptor(*blob, "gzip") for blob in blobs],
        )
        index = oci.write_index(oci.manifest_descriptor(*put(place, manifest)), platform, tag)
        entries += json.loads(index)["manifests"]
    (place / "oci-layout").write_text(oci.LAYOUT)
    (place / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": entries}))
    return place


def tree(place: Path) -> dict[str, tuple[Any, ...]]:
    """What is in a directory, by path: kind and mode, size, content or target."""
    found: dict[str, tuple[Any, ...]] = {}
    for here, folders, files in os.walk(place):
        for name in (*folders, *files):
            path = Path(here, name)
            status = path.lstat()
            content = (
                os.readlink(path) if path.is_symlink() else (path.read_bytes() if path.is_file() else b"")
            )
            found[str(path.relative_to(place))] = (oct(status.st_mode), content)
    return found
