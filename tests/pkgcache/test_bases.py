from __future__ import annotations

import os
from pathlib import Path

import pytest

from pkgcache.bases import list_bases, read_base, read_packages, remove_base, root_of
from pkgcache.build import build
from pkgcache.errors import InputError, StoreError
from pkgcache.records import BaseRecord, Locked
from pkgcache.store import Store, hold, open_store
from tests.pkgcache.scripted import Scripted, add_base, installs_files, remove, standing


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path))


def make_layer(store: Store, base: str) -> str:
    made = build(store, base, {"pip": ["six"]}, runner=Scripted(installs_files), remove=remove)
    return made.keys[0]


def test_an_empty_store_has_no_bases(store: Store) -> None:
    assert list_bases(store) == ()
    assert read_base(store, "debian") is None


def test_the_list_tells_which_is_current_what_stands_on_it_and_who_uses_it(store: Store) -> None:
    old = add_base(store)
    make_layer(store, "debian")
    new = add_base(store, identity="debian-2")
    with hold([store.base(old.id)]):
        entries = list_bases(store)
    assert [(entry.record.id, entry.current, entry.in_use, entry.layers) for entry in entries] == [
        (new.id, True, False, 0), (old.id, False, True, 1),
    ]  # fmt: skip


def test_removing_a_base_takes_its_layers_and_no_others(store: Store) -> None:
    add_base(store)
    other = add_base(store, "other", "other-1")
    gone, kept = make_layer(store, "debian"), make_layer(store, "other")
    assert set(remove_base(store, "debian", remove=remove)) == {gone, "debian-1"}
    left = standing(store)
    assert (left["bases"], left["layers"], left["work"]) == ([other.id], [kept], [])
    assert read_base(store, "debian") is None
    assert os.listdir(store.names()) == ["other"]


def test_removing_an_old_build_by_its_id_leaves_the_name_to_the_new_one(store: Store) -> None:
    add_base(store)
    add_base(store, identity="debian-2")
    remove_base(store, "debian-1", remove=remove)
    current = read_base(store, "debian")
    assert current is not None and current.id == "debian-2"


def test_a_base_with_a_layer_in_use_stays_whole(store: Store) -> None:
    add_base(store)
    key = make_layer(store, "debian")
    with hold([store.layer(key)]), pytest.raises(StoreError, match="in use"):
        remove_base(store, "debian", remove=remove)
    assert (standing(store)["bases"], standing(store)["layers"]) == (["debian-1"], [key])


@pytest.mark.parametrize("name", ["debian", "no-such", "host"])
def test_removing_what_is_not_there_is_told(store: Store, name: str) -> None:
    with pytest.raises(InputError, match="there is no base"):
        remove_base(store, name, remove=remove)


def test_the_machine_itself_has_no_directory(store: Store) -> None:
    assert root_of(store, BaseRecord("host-1", "host")) is None
    assert root_of(store, BaseRecord("debian-1", "debian")) == f"{store.base('debian-1')}/root"


def test_a_bases_packages_are_read_where_they_are_known(store: Store) -> None:
    record = add_base(store)
    assert read_packages(store, record) == ()
    path = Path(store.base(record.id), "packages.json")
    path.write_text('[{"name": "bash:amd64", "version": "5.2", "hash": ""}]')
    assert read_packages(store, record) == (Locked("bash:amd64", "5.2"),)
    path.write_text('[{"name": "bash"}]')
    with pytest.raises(StoreError, match="damaged"):
        read_packages(store, record)
