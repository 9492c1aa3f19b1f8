"""Damage is found, named and removed; what is in order is left alone."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from pkgcache.build import build
from pkgcache.image import Image, lease
from pkgcache.inventory import inventory
from pkgcache.records import to_json
from pkgcache.store import Store, create, open_store, point, publish, workplace, write
from pkgcache.verify import Verdict, repair, verify
from tests.pkgcache.scripted import Scripted, add_base, installs_files, remove

PACKAGES = {"apt": ["jq"], "pip": ["six"]}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = open_store(str(tmp_path / "data"))
    record = add_base(made)
    shutil.rmtree(made.base(record.id))
    with workplace(made, remove) as place:
        os.makedirs(f"{place}/made/root/bin")
        Path(place, "made/root/bin/sh").touch()
        write(made, f"{place}/made/base.json", to_json(record))
        publish(made, f"{place}/made", made.base(record.id))
    return made


@pytest.fixture
def image(store: Store) -> Image:
    return build(store, "debian", PACKAGES, runner=Scripted(installs_files), remove=remove)


def damaged(store: Store) -> dict[str, Verdict]:
    return {verdict.kept.name: verdict for verdict in verify(store) if verdict.damaged}


def test_what_was_just_built_is_in_order(store: Store, image: Image) -> None:
    told: list[Verdict] = []
    verdicts = verify(store, told.append)
    assert [verdict.kept.name for verdict in verdicts] == ["debian", "apt", "pip"]
    assert list(verdicts) == told and not any(verdict.damaged for verdict in verdicts)


def test_looking_is_not_using(store: Store, image: Image) -> None:
    for path in image.held:
        os.utime(path, (1, 1))
    verify(store)
    assert {kept.used for kept in inventory(store)} == {1}


@pytest.mark.parametrize(
    ("damage", "path", "what"),
    [
        (lambda layer: Path(layer, "upper/six").write_text("sax"), "upper/six", "changed: content"),
        (lambda layer: Path(layer, "upper/six").unlink(), "upper/six", "missing"),
        (lambda layer: Path(layer, "upper/more").touch(), "upper/more", "extra"),
        (lambda layer: Path(layer, "upper/six").chmod(0o777), "upper/six", "changed: mode"),
    ],
)
def test_a_damaged_file_is_named(
    store: Store, image: Image, damage: Callable[[str], object], path: str, what: str
) -> None:
    damage(store.layer(image.keys[1]))
    found = damaged(store)
    assert set(found) == {"pip"}
    assert [(file.path, file.what) for file in found["pip"].files] == [(path, what)]


@pytest.mark.parametrize("name", ["manifest", "layer.json"])
@pytest.mark.parametrize("how", ["gone", "cut short"])
def test_a_damaged_record_is_damage(store: Store, image: Image, name: str, how: str) -> None:
    path = Path(store.layer(image.keys[1]), name)
    if how == "gone":
        path.unlink()
    else:
        path.write_text(path.read_text()[:-20])
    found = [verdict for verdict in verify(store) if verdict.damaged]
    assert [verdict.kept.id for verdict in found] == [image.keys[1]] and found[0].problem


def test_a_changed_record_that_can_be_read_is_damage(store: Store, image: Image) -> None:
    path = Path(store.layer(image.keys[1]), "layer.json")
    path.write_text(path.read_text().replace('"1.0"', '"2.0"'))
    assert [file.path for file in damaged(store)["pip"].files] == ["layer.json"]


def test_a_layer_without_the_one_below_is_damaged(store: Store, image: Image) -> None:
    shutil.rmtree(store.layer(image.keys[0]))
    assert "gone" in damaged(store)["pip"].problem


def test_repairing_removes_what_is_damaged_and_what_is_above_and_it_is_built_again(
    store: Store, image: Image
) -> None:
    Path(store.layer(image.keys[0]), "upper/jq").unlink()
    done = repair(store, verify(store), remove=remove)
    assert [kept.name for kept in done.gone] == ["pip", "apt"]
    assert build(store, "debian", PACKAGES, runner=Scripted(installs_files), remove=remove) == image
    assert damaged(store) == {}


def test_repairing_a_base_takes_all_that_stands_on_it(store: Store, image: Image) -> None:
    Path(store.base("debian-1"), "root/bin/sh").unlink()
    done = repair(store, verify(store), remove=remove)
    assert [kept.name for kept in done.gone] == ["pip", "apt", "debian"]
    assert inventory(store) == () and os.listdir(store.names()) == []


def test_what_is_in_use_stays_damaged_until_it_is_free(store: Store, image: Image) -> None:
    Path(store.layer(image.keys[1]), "upper/six").unlink()
    with lease(image):
        done = repair(store, verify(store), remove=remove)
        assert done.gone == () and [kept.name for kept in done.kept] == ["pip"]
    assert [kept.name for kept in repair(store, verify(store), remove=remove).gone] == ["pip"]


def test_repairing_what_is_in_order_changes_nothing(store: Store, image: Image) -> None:
    assert repair(store, verify(store), remove=remove) == ((), ())
    assert len(inventory(store)) == 3


def test_an_empty_store_is_in_order(tmp_path: Path) -> None:
    empty = open_store(str(tmp_path / "empty"))
    assert verify(empty) == ()
    create(empty)
    point(empty, "debian", "nobody")
    assert verify(empty) == ()
