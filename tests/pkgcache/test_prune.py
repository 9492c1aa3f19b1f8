"""A store becomes smaller, and what is needed stays."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from pkgcache.build import build
from pkgcache.image import Image, lease
from pkgcache.inventory import inventory
from pkgcache.memo import recall
from pkgcache.prune import prune, remove_all
from pkgcache.store import Store, open_store
from tests.pkgcache.scripted import Scripted, add_base, installs_files, remove, standing

PACKAGES = {"apt": ["jq"], "pip": ["six"]}
LONG_AGO = 1_000_000


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = open_store(str(tmp_path / "data"))
    add_base(made)
    return made


def made(store: Store, packages: dict[str, list[str]] = PACKAGES) -> Image:
    return build(store, "debian", packages, runner=Scripted(installs_files), remove=remove)


def names(store: Store) -> list[str]:
    return [kept.name for kept in inventory(store)]


def test_nothing_goes_while_everything_can_still_be_used(store: Store) -> None:
    image = made(store)
    assert prune(store, time.time(), remove=remove).gone == ()
    assert recall(store, "debian", PACKAGES) == image


def test_a_replaced_base_goes_with_its_layers_and_what_is_kept_of_it(store: Store) -> None:
    old = made(store)
    lists = Path(store.downloads("apt/lists-debian-1"))
    assert lists.exists()
    add_base(store, identity="debian-2")
    new = made(store)
    gone = prune(store, time.time(), remove=remove).gone
    assert {kept.id for kept in gone} == {"debian-1", *old.keys}
    assert not lists.exists()
    assert {kept.id for kept in inventory(store)} == {"debian-2", *new.keys}
    assert recall(store, "debian", PACKAGES) in (None, new)
    assert standing(store)["work"] == []


def test_what_a_session_uses_stays_until_it_ends(store: Store) -> None:
    image = made(store)
    add_base(store, identity="debian-2")
    with lease(image):
        pruned = prune(store, time.time(), remove=remove, max_size=0)
        assert [kept.id for kept in pruned.gone] == ["debian-2"]
        assert {kept.id for kept in inventory(store)} == {"debian-1", *image.keys}
    assert {kept.id for kept in prune(store, time.time(), remove=remove).gone} == {"debian-1", *image.keys}


def test_a_dry_run_removes_nothing(store: Store) -> None:
    made(store)
    told = prune(store, time.time(), remove=remove, max_size=0, dry_run=True)
    assert [kept.name for kept in told.gone] == ["pip", "apt", "debian"]
    assert names(store) == ["debian", "apt", "pip"]


def test_what_was_not_used_for_long_goes_and_the_rest_stays(store: Store) -> None:
    made(store)
    made(store, {"npm": ["tsx"]})
    for kept in inventory(store):
        if kept.name == "npm":
            os.utime(kept.path, (LONG_AGO, LONG_AGO))
    assert [kept.name for kept in prune(store, time.time(), remove=remove, older_than=3600).gone] == ["npm"]
    assert names(store) == ["debian", "apt", "pip"]


def test_a_size_is_reached_by_what_was_used_longest_ago(store: Store) -> None:
    made(store)
    made(store, {"npm": ["tsx"]})
    sizes = {kept.name: kept.size for kept in inventory(store)}
    for kept in inventory(store):
        if kept.name == "npm":
            os.utime(kept.path, (LONG_AGO, LONG_AGO))
    pruned = prune(store, time.time(), remove=remove, max_size=sum(sizes.values()) - 1)
    assert [kept.name for kept in pruned.gone] == ["npm"]


def test_a_layer_that_came_since_keeps_what_it_stands_on(store: Store) -> None:
    made(store, {"apt": ["jq"]})
    everything = inventory(store)
    made(store)
    pruned = remove_all(store, list(everything[::-1]), frozenset(kept.id for kept in everything), remove)
    assert pruned.gone == () and [kept.name for kept in pruned.kept] == ["apt", "debian"]
    assert names(store) == ["debian", "apt", "pip"]


def test_an_unreadable_record_goes(store: Store) -> None:
    image = made(store)
    Path(store.layer(image.keys[0]), "layer.json").write_text("{")
    assert {kept.id for kept in prune(store, time.time(), remove=remove).gone} == set(image.keys)
    assert names(store) == ["debian"]
