"""OCI image layouts as documents: an index, a manifest and a configuration, read and written. Nothing is opened here.

After the OCI image specification 1.1. Docker's names for the same media types are taken too.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from pkgcache.errors import InputError

LAYOUT = '{"imageLayoutVersion":"1.0.0"}'
LARGEST_DOCUMENT = 4 << 20
"""Bytes; registries refuse larger manifests, and a configuration has no reason to be larger."""

_INDEX = "application/vnd.oci.image.index.v1+json"
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_INDEXES = (_INDEX, "application/vnd.docker.distribution.manifest.list.v2+json")
_MANIFESTS = (_MANIFEST, "application/vnd.docker.distribution.manifest.v2+json")
_LAYER = "application/vnd.oci.image.layer.v1.tar"
_SUFFIXES = {"": "", "gzip": "+gzip", "zstd": "+zstd"}
COMPRESSIONS = tuple(name or "none" for name in _SUFFIXES)
_LAYERS = {
    **{f"{_LAYER}{suffix}": name for name, suffix in _SUFFIXES.items()},
    **{
        f"application/vnd.oci.image.layer.nondistributable.v1.tar{suffix}": name
        for name, suffix in _SUFFIXES.items()
    },
    "application/vnd.docker.image.rootfs.diff.tar": "",
    "application/vnd.docker.image.rootfs.diff.tar.gzip": "gzip",
    "application/vnd.docker.image.rootfs.diff.tar.zstd": "zstd",
}
_TAG = "org.opencontainers.image.ref.name"
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_MACHINES = {
    "x86_64": "amd64",
    "aarch64": "arm64",
    "armv7l": "arm",
    "i686": "386",
    "ppc64le": "ppc64le",
    "riscv64": "riscv64",
    "s390x": "s390x",
}


class Descriptor(NamedTuple):
    """A blob: what it is, its digest like "sha256:…", its size in bytes."""

    media_type: str
    digest: str
    size: int

    @property
    def path(self) -> str:
        """Where it is in the layout."""
        return blob_path(self.digest)

    @property
    def is_index(self) -> bool:
        return self.media_type in _INDEXES


class Manifest(NamedTuple):
    """`layers`: lowest first, each with its compression: "", "gzip" or "zstd"."""

    config: Descriptor
    layers: tuple[tuple[Descriptor, str], ...]


class Config(NamedTuple):
    """`diff_ids`: the layers' digests before compression, lowest first."""

    environment: tuple[tuple[str, str], ...]
    diff_ids: tuple[str, ...]


def blob_path(digest: str) -> str:
    """Where the blob of a well-formed digest is in a layout."""
    return f"blobs/{digest.replace(':', '/')}"


def tag_for(name: str | None) -> str:
    """A tag from a name that need not be one."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name or "").strip("-.")[:128] or "latest"


def choose(text: bytes, where: str, platform: str, tag: str | None) -> Descriptor:
    """The manifest, or the index that leads to it, of the image for `platform` ("linux/x86_64") that has `tag`.

    `where` names the document in the InputError for one that is malformed, lacks it or has several.
    """
    listed = _field(_object(text, where), "manifests", list, where)
    found = []
    for number, entry in enumerate(listed):
        at = f"{where}: manifests[{number}]"
        descriptor = _descriptor(entry, at)
        if descriptor.media_type in (*_INDEXES, *_MANIFESTS):
            annotations = entry.get("annotations") or {}
            named = annotations.get(_TAG) if isinstance(annotations, dict) else None
            found.append((descriptor, str(named) if named else "", _platform(entry.get("platform"), at)))
    tags = sorted({name for _, name, _ in found if name})
    if tag is not None:
        found = [one for one in found if one[1] == tag]
        if not found:
            raise InputError(f"{where}: there is no image with the tag {tag!r}", _known_tags(tags))
    wanted = architecture(platform)
    fitting = {one[0]: one for one in found if one[2] in (None, wanted)}
    if not fitting:
        others = sorted({"/".join(one[2]) for one in found if one[2]})
        raise InputError(
            f"{where}: there is no image for {'/'.join(wanted)}",
            f"it has {', '.join(others)}" if others else "it lists no image at all",
        )
    if len(fitting) > 1:
        raise InputError(f"{where}: there are {len(fitting)} images", _known_tags(tags))
    return next(iter(fitting))


def _known_tags(tags: Sequence[str]) -> str:
    return f"choose one with --tag: {', '.join(tags)}" if tags else "none of its images has a tag"


def architecture(platform: str) -> tuple[str, str]:
    """The platform in OCI's words (Go's), as (system, architecture)."""
    system, _, machine = platform.partition("/")
    return system, _MACHINES.get(machine, machine)


def _platform(value: Any, where: str) -> tuple[str, str] | None:
    if value is None:
        return None
    if not isinstance(value, dict):
        raise _malformed(where, "platform is not an object")
    return str(value.get("os", "")), str(value.get("architecture", ""))


def read_manifest(text: bytes, where: str) -> Manifest:
    """A manifest. InputError for one that is malformed or has layers of an unknown kind."""
    data = _object(text, where)
    layers = []
    for number, entry in enumerate(_field(data, "layers", list, where)):
        at = f"{where}: layers[{number}]"
        layer = _descriptor(entry, at)
        if layer.media_type not in _LAYERS:
            raise InputError(
                f"{at}: {layer.media_type!r} is no layer that can be read here",
                "layers are tar archives: plain, gzip or zstd, not encrypted",
            )
        layers.append((layer, _LAYERS[layer.media_type]))
    return Manifest(_descriptor(_field(data, "config", dict, where), f"{where}: config"), tuple(layers))


def read_config(text: bytes, where: str, platform: str, layers: int) -> Config:
    """A configuration. InputError for one that is malformed, of another platform, or of other layers."""
    data = _object(text, where)
    built_for = (str(data.get("os", "")), str(data.get("architecture", "")))
    if built_for != architecture(platform):
        raise InputError(
            f"{where}: the image is for {'/'.join(built_for)}, this machine is {'/'.join(architecture(platform))}"
        )
    diff_ids = _field(_field(data, "rootfs", dict, where), "diff_ids", list, f"{where}: rootfs")
    for digest in diff_ids:
        _check_digest(digest, f"{where}: rootfs.diff_ids")
    if len(diff_ids) != layers:
        raise _malformed(where, f"it has {len(diff_ids)} diff_ids, its manifest {layers} layers")
    inner = data.get("config") or {}
    if not isinstance(inner, dict):
        raise _malformed(where, "config is not an object")
    variables: dict[str, str] = {}
    for item in inner.get("Env") or ():
        name, equals, value = str(item).partition("=")
        # What no shell could read or set is no variable that a session's programs would look for.
        if equals and _VARIABLE.fullmatch(name) and value.isprintable():
            variables[name] = value
    return Config(tuple(variables.items()), tuple(diff_ids))


def write_config(
    platform: str,
    created: str,
    environment: Mapping[str, str],
    diff_ids: Sequence[str],
    history: Sequence[str],
) -> bytes:
    """The configuration of an image; `history` says for each layer what made it."""
    system, machine = architecture(platform)
    return _written(
        {
            "architecture": machine,
            "os": system,
            "created": created,
            "config": {
                "Cmd": ["/bin/sh"],
                "Env": [f"{name}={value}" for name, value in sorted(environment.items())],
                "WorkingDir": "/workspace",
            },
            "rootfs": {"type": "layers", "diff_ids": list(diff_ids)},
            "history": [{"created": created, "created_by": text} for text in history],
        }
    )


def write_manifest(config: Descriptor, layers: Sequence[Descriptor]) -> bytes:
    return _written(
        {
            "schemaVersion": 2,
            "mediaType": _MANIFEST,
            "config": _described(config),
            "layers": [_described(layer) for layer in layers],
        }
    )


def write_index(manifest: Descriptor, platform: str, tag: str) -> bytes:
    system, machine = architecture(platform)
    entry = {
        **_described(manifest),
        "platform": {"architecture": machine, "os": system},
        "annotations": {_TAG: tag},
    }
    return _written({"schemaVersion": 2, "mediaType": _INDEX, "manifests": [entry]})


def config_descriptor(digest: str, size: int) -> Descriptor:
    return Descriptor(_CONFIG, digest, size)


def manifest_descriptor(digest: str, size: int) -> Descriptor:
    return Descriptor(_MANIFEST, digest, size)


def layer_descriptor(digest: str, size: int, compression: str) -> Descriptor:
    return Descriptor(f"{_LAYER}{_SUFFIXES[compression]}", digest, size)


def _described(descriptor: Descriptor) -> dict[str, Any]:
    return {"mediaType": descriptor.media_type, "digest": descriptor.digest, "size": descriptor.size}


def _written(data: Mapping[str, Any]) -> bytes:
    return json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()


def _object(text: bytes, where: str) -> dict[str, Any]:
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _malformed(where, f"it is no JSON ({error})") from None
    if not isinstance(data, dict):
        raise _malformed(where, "it is no JSON object")
    return data


def _descriptor(value: Any, where: str) -> Descriptor:
    if not isinstance(value, dict):
        raise _malformed(where, "it is no JSON object")
    size = _field(value, "size", int, where)
    if size < 0:
        raise _malformed(where, f"a size of {size}")
    digest = _field(value, "digest", str, where)
    _check_digest(digest, where)
    return Descriptor(_field(value, "mediaType", str, where), digest, size)


def _check_digest(digest: Any, where: str) -> None:
    if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
        raise _malformed(where, f"{str(digest)[:80]!r} is no digest of sha256 or sha512")


def _field(data: Mapping[str, Any], name: str, kind: type, where: str) -> Any:
    value = data.get(name)
    if not isinstance(value, kind) or isinstance(value, bool):
        raise _malformed(where, f"{name} is {'missing' if value is None else 'of the wrong type'}")
    return value


def _malformed(where: str, why: str) -> InputError:
    return InputError(f"{where}: {why}", "it is not an OCI image layout that can be imported")
