"""What a store says that it keeps."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pkgcache.build import build
from pkgcache.image import Image, lease
from pkgcache.inventory import Kept, downloads_size, inventory
from pkgcache.store import Store, open_store
from tests.pkgcache.scripted import Scripted, add_base, installs_files, remove


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = open_store(str(tmp_path / "data"))
    add_base(made)
    return made


def made(store: Store, packages: dict[str, list[str]]) -> Image:
    return build(store, "debian", packages, runner=Scripted(installs_files), remove=remove)


def by_name(store: Store) -> dict[str, Kept]:
    return {kept.name: kept for kept in inventory(store)}


def test_an_empty_store_keeps_nothing(tmp_path: Path) -> None:
    assert inventory(open_store(str(tmp_path))) == ()
    assert downloads_size(open_store(str(tmp_path))) == 0


def test_bases_and_layers_come_with_what_they_stand_on(store: Store) -> None:
    image = made(store, {"apt": ["jq"], "pip": ["six"]})
    base, apt, pip = inventory(store)
    assert (base.id, base.kind, base.name, base.below) == ("debian-1", "base", "debian", "")
    assert (apt.id, apt.name, apt.specs, apt.below) == (image.keys[0], "apt", ("jq",), "debian-1")
    assert (pip.id, pip.below, pip.base) == (image.keys[1], image.keys[0], "debian-1")
    assert all(kept.current and not kept.in_use and not kept.damage for kept in (base, apt, pip))
    assert apt.size > 0


def test_sizes_come_from_the_manifest_and_are_counted_without_one(store: Store) -> None:
    made(store, {"pip": ["six"]})
    pip = by_name(store)["pip"]
    os.unlink(f"{pip.path}/manifest")
    assert by_name(store)["pip"].size == pip.size


def test_a_lease_is_use_and_the_time_of_it_is_kept(store: Store) -> None:
    image = made(store, {"pip": ["six"]})
    for path in image.held:
        os.utime(path, (1, 1))
    assert {kept.used for kept in inventory(store)} == {1}
    with lease(image):
        assert all(kept.in_use and kept.used > 1 for kept in inventory(store))
    assert not any(kept.in_use for kept in inventory(store))


def test_what_stands_on_a_replaced_base_is_not_current(store: Store) -> None:
    made(store, {"apt": ["jq"], "pip": ["six"]})
    add_base(store, identity="debian-2")
    made(store, {"pip": ["six"]})
    found = [(kept.base or kept.id, kept.current) for kept in inventory(store)]
    assert sorted(found) == [("debian-1", False)] * 3 + [("debian-2", True)] * 2


def test_a_record_that_can_not_be_read_is_told_and_what_is_above_is_not_current(store: Store) -> None:
    image = made(store, {"apt": ["jq"], "pip": ["six"]})
    Path(store.layer(image.keys[0]), "layer.json").write_text("{")
    found = {kept.id: kept for kept in inventory(store)}
    assert "damaged" in found[image.keys[0]].damage
    assert not found[image.keys[0]].current and not found[image.keys[1]].current


def test_downloads_count_a_file_with_two_names_once(store: Store) -> None:
    place = Path(store.downloads("pip"))
    place.mkdir()
    (place / "wheel").write_bytes(b"x" * 100_000)
    once = downloads_size(store)
    os.link(place / "wheel", place / "twin")
    assert downloads_size(store) == once >= 100_000
