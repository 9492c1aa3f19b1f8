from __future__ import annotations

import json

import pytest

from pkgcache.errors import StoreError
from pkgcache.records import BaseRecord, LayerRecord, Locked, base_from_json, layer_from_json, to_json
from pkgcache.runner import Endpoint

ENDPOINT = Endpoint("pip", "https", "index.test", 443, "/etc/pip.conf")
BASE = BaseRecord(
    "debian-12ab",
    "debian",
    "trixie",
    "minimal",
    "2026-01-01T00:00:00Z",
    ("deb x y z",),
    {"go": "1"},
    (ENDPOINT,),
)
LAYER = LayerRecord(
    "k",
    "pip",
    ("a", "b"),
    "p",
    "debian-12ab",
    "linux/x86_64",
    "t",
    1.5,
    (Locked("a", "1", "sha256:0"),),
    (ENDPOINT,),
)


def test_a_base_comes_back_as_it_was_written() -> None:
    assert base_from_json(to_json(BASE), "file") == BASE


def test_a_layer_comes_back_as_it_was_written() -> None:
    assert layer_from_json(to_json(LAYER).encode(), "file") == LAYER


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", "null", to_json(LAYER), to_json(BASE)[:-3]])
def test_a_damaged_record_is_told_with_its_file(text: str) -> None:
    with pytest.raises(StoreError, match=r"/store/base\.json is damaged"):
        base_from_json(text, "/store/base.json")


@pytest.mark.parametrize("field", [field for field in LAYER._fields if field != "resolution"])
def test_a_record_that_lacks_a_field_is_damaged(field: str) -> None:
    data = json.loads(to_json(LAYER))
    del data[field]
    with pytest.raises(StoreError, match="damaged"):
        layer_from_json(json.dumps(data), "file")


@pytest.mark.parametrize("field, value", [("packages", [{"name": "a"}]), ("endpoints", [7]), ("specs", None)])
def test_a_field_of_another_shape_is_damage(field: str, value: object) -> None:
    data = json.loads(to_json(LAYER)) | {field: value}
    with pytest.raises(StoreError, match="damaged"):
        layer_from_json(json.dumps(data), "file")


def test_an_older_versions_record_is_read() -> None:
    data = json.loads(to_json(LAYER))
    del data["resolution"]
    assert layer_from_json(json.dumps(data), "where") == LAYER
