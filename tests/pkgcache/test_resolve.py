from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from pkgcache.build import build
from pkgcache.errors import InputError, StoreError
from pkgcache.resolve import image, read_layer, resolve
from pkgcache.store import Store, open_store
from tests.pkgcache.scripted import Scripted, add_base, installs_files, remove


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path))


def test_a_known_base_that_is_not_there_makes_no_keys(store: Store) -> None:
    resolution = resolve(store, "debian", {"pip": ["six"], "apt": ["jq"]})
    assert not resolution.ready and resolution.base is None
    assert [(step.manager, step.key, step.present) for step in resolution.steps] == [
        ("apt", "", False), ("pip", "", False),
    ]  # fmt: skip
    assert os.listdir(os.path.dirname(store.path)) == []


def test_a_base_alone_is_ready_when_it_is_there(store: Store) -> None:
    add_base(store)
    resolution = resolve(store, "debian")
    assert resolution.ready
    assert image(store, resolution).base == f"{store.base('debian-1')}/root"


def test_keys_change_with_the_base_and_the_platform(store: Store) -> None:
    add_base(store)
    add_base(store, "other", "other-1")
    wanted = {"pip": ["six"]}
    keys = {
        resolve(store, base, wanted, platform=platform).steps[0].key
        for base in ("debian", "other")
        for platform in ("linux/x86_64", "linux/aarch64")
    }
    assert len(keys) == 4


def test_a_base_can_be_named_by_its_id(store: Store) -> None:
    add_base(store)
    add_base(store, identity="debian-2")
    for name, identity in (("debian", "debian-2"), ("debian-1", "debian-1")):
        record = resolve(store, name).base
        assert record is not None and record.id == identity


@pytest.mark.parametrize("name", ["no-such", "debian-0"])
def test_an_unknown_base_is_refused_with_the_known_ones(store: Store, name: str) -> None:
    with pytest.raises(InputError, match=f"there is no base '{name}'") as refused:
        resolve(store, name)
    assert "debian" in refused.value.hint


@pytest.mark.parametrize("name", ["", "../bases", "a/b", "Debian", ".hidden", "-x", "a\n", "a" * 65])
def test_a_base_name_can_not_be_a_path(store: Store, name: str) -> None:
    with pytest.raises(InputError, match="a base's name"):
        resolve(store, name)


def test_apt_packages_on_the_machine_itself_are_refused_with_the_reason(store: Store) -> None:
    with pytest.raises(InputError, match=r"packages\.apt: .*the machine's own") as refused:
        resolve(store, "host", {"apt": ["jq"]})
    assert "debian" in refused.value.hint
    assert refused.value.exit_code == 2


def test_the_machine_itself_needs_nothing_until_somebody_asks_for_its_servers(store: Store) -> None:
    assert resolve(store, "host").ready
    assert image(store, resolve(store, "host")).held == ()
    assert not resolve(store, "host", need_endpoints=True).ready
    assert not resolve(store, "host", {"pip": ["six"]}).ready


def test_a_layer_that_was_removed_in_the_meantime_is_told(store: Store) -> None:
    add_base(store)
    made = build(store, "debian", {"pip": ["six"]}, runner=Scripted(installs_files), remove=remove)
    resolution = resolve(store, "debian", {"pip": ["six"]})
    shutil.rmtree(store.layer(made.keys[0]))
    with pytest.raises(StoreError, match="was removed"):
        image(store, resolution)
    with pytest.raises(StoreError, match="was removed"):
        read_layer(store, made.keys[0])
    assert not resolve(store, "debian", {"pip": ["six"]}).ready


def test_a_damaged_base_record_is_told_with_its_file(store: Store) -> None:
    add_base(store)
    Path(store.base("debian-1"), "base.json").write_text("{")
    with pytest.raises(StoreError, match=r"base\.json is damaged"):
        resolve(store, "debian")
