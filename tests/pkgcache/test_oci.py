"""The documents of an OCI layout: read, refused, written."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pkgcache import oci
from pkgcache.errors import InputError

HERE = "linux/x86_64"
A, B = (f"sha256:{letter * 64}" for letter in "ab")
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"


def entry(
    digest: str = A, platform: str | None = "amd64", tag: str | None = None, **more: Any
) -> dict[str, Any]:
    found: dict[str, Any] = {"mediaType": MANIFEST, "digest": digest, "size": 10, **more}
    if platform:
        found["platform"] = {"os": "linux", "architecture": platform}
    if tag:
        found["annotations"] = {"org.opencontainers.image.ref.name": tag}
    return found


def index(*entries: Any) -> bytes:
    return json.dumps({"schemaVersion": 2, "manifests": list(entries)}).encode()


@pytest.mark.parametrize(
    ("entries", "tag", "chosen"),
    [
        ([entry()], None, A),
        ([entry(platform=None)], None, A),
        ([entry(platform="arm64"), entry(B)], None, B),
        ([entry(tag="1"), entry(B, tag="2")], "2", B),
        ([entry(tag="1"), entry(tag="2")], None, A),
        ([entry(B, "unknown"), entry()], None, A),
        ([entry(B, mediaType="text/plain"), entry()], None, A),
        ([entry(mediaType="application/vnd.docker.distribution.manifest.v2+json")], None, A),
    ],
)
def test_the_image_for_this_machine_is_chosen(entries: list[Any], tag: str | None, chosen: str) -> None:
    assert oci.choose(index(*entries), "index.json", HERE, tag).digest == chosen


@pytest.mark.parametrize(
    ("text", "tag", "why"),
    [
        (index(), None, "no image for linux/amd64"),
        (index(entry(platform="arm64")), None, "no image for linux/amd64"),
        (index(entry(tag="1"), entry(B, tag="2")), None, "2 images"),
        (index(entry(tag="1")), "3", "no image with the tag '3'"),
        (index("x"), None, r"manifests\[0\]: it is no JSON object"),
        (index(entry(digest="sha256:../../../../etc/passwd")), None, "no digest"),
        (index(entry(digest="md5:" + "a" * 32)), None, "no digest"),
        (index(entry(digest=A + "\n")), None, "no digest"),
        (index(entry(size=-1)), None, "a size of -1"),
        (index(entry(size=True)), None, "size is of the wrong type"),
        (index(entry(size="1")), None, "size is of the wrong type"),
        (b"{}", None, "manifests is missing"),
        (b"[]", None, "no JSON object"),
        (b"\xff", None, "no JSON"),
        (b"[" * 100_000, None, "no JSON"),
    ],
)
def test_an_index_that_leads_nowhere_says_why(text: bytes, tag: str | None, why: str) -> None:
    with pytest.raises(InputError, match=why):
        oci.choose(text, "index.json", HERE, tag)


def test_an_ambiguous_index_names_the_tags() -> None:
    with pytest.raises(InputError) as told:
        oci.choose(index(entry(tag="one"), entry(B, tag="two")), "index.json", HERE, None)
    assert told.value.hint == "choose one with --tag: one, two"


def manifest(*layers: str) -> bytes:
    blobs = [{"mediaType": kind, "digest": B, "size": 2} for kind in layers]
    return json.dumps({"config": {"mediaType": "x", "digest": A, "size": 1}, "layers": blobs}).encode()


def test_layers_may_be_plain_gzip_or_zstd() -> None:
    docker = "application/vnd.docker.image.rootfs.diff.tar.gzip"
    read = oci.read_manifest(manifest(LAYER, f"{LAYER}+gzip", f"{LAYER}+zstd", docker), "m")
    assert [compression for _, compression in read.layers] == ["", "gzip", "zstd", "gzip"]
    assert read.config.digest == A


@pytest.mark.parametrize("kind", [f"{LAYER}+encrypted", f"{LAYER}+gzip+encrypted", "text/plain", ""])
def test_other_layers_are_refused(kind: str) -> None:
    with pytest.raises(InputError, match=r"layers\[0\]: .* is no layer that can be read here"):
        oci.read_manifest(manifest(kind), "m")


def config(**more: Any) -> bytes:
    data = {"os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": [A]}, **more}
    return json.dumps(data).encode()


def test_a_configuration_tells_variables_and_digests() -> None:
    variables = ["PATH=/a:/b", "EMPTY=", "A=b=c", "BAD NAME=x", "NONE", "LINE=1\n2", "PATH=/c"]
    read = oci.read_config(config(config={"Env": variables}), "c", HERE, 1)
    assert read.environment == (("PATH", "/c"), ("EMPTY", ""), ("A", "b=c"))
    assert read.diff_ids == (A,)
    assert oci.read_config(config(config=None), "c", HERE, 1).environment == ()


@pytest.mark.parametrize(
    ("text", "layers", "why"),
    [
        (config(architecture="arm64"), 1, "is for linux/arm64, this machine is linux/amd64"),
        (config(os="windows"), 1, "is for windows/amd64"),
        (config(), 2, "1 diff_ids, its manifest 2 layers"),
        (config(rootfs={"diff_ids": ["x"]}), 1, "no digest"),
        (config(rootfs=None), 1, "rootfs is missing"),
        (config(config=[1]), 1, "config is not an object"),
    ],
)
def test_a_configuration_that_does_not_fit_is_refused(text: bytes, layers: int, why: str) -> None:
    with pytest.raises(InputError, match=why):
        oci.read_config(text, "c", HERE, layers)


def test_what_is_written_is_read_again() -> None:
    text = oci.write_config(HERE, "2026-01-01T00:00:00Z", {"B": "2", "A": "1"}, [A], ["apt: jq"])
    assert oci.read_config(text, "c", HERE, 1) == oci.Config((("A", "1"), ("B", "2")), (A,))
    layer = oci.layer_descriptor(B, 5, "zstd")
    text = oci.write_manifest(oci.config_descriptor(A, 3), [layer])
    assert oci.read_manifest(text, "m").layers == ((layer, "zstd"),)
    text = oci.write_index(oci.manifest_descriptor(A, 3), HERE, "mine")
    assert oci.choose(text, "i", HERE, "mine").digest == A
    assert oci.blob_path(A) == f"blobs/sha256/{'a' * 64}"


@pytest.mark.parametrize(
    ("name", "tag"),
    [("demo", "demo"), ("My env/2", "My-env-2"), (None, "latest"), ("ü", "latest"), ("-x", "x")],
)
def test_any_name_gives_a_tag(name: str | None, tag: str) -> None:
    assert oci.tag_for(name) == tag
