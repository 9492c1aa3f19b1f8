"""What a container stands on is not removed while the container exists."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pkgcache.errors import StoreError
from pkgcache.store import create, discard, in_use
from sandbox import images, paths, upkeep
from sandbox.containers.containers import Containers
from sandbox.containers.starting import Starter
from sandbox.idmap import IdMap
from sandbox.removal import remove_tree
from tests.containers.conftest import SPEC, left


@pytest.fixture
def containers(starter: Starter, ids: IdMap, empty_data_dir: Path) -> Iterator[Containers]:
    """With a store of its own, which is pruned without regard to other tests."""
    paths.prepare(str(empty_data_dir), ids)
    containers = Containers(str(empty_data_dir), ids, starter)
    yield containers
    containers.sweep(())


@pytest.fixture
def layer(containers: Containers) -> str:
    """Something that is kept in the store like a layer."""
    store = images.store(containers.data, containers.ids)
    create(store)
    path = store.layer("0" * 64)
    os.makedirs(path, exist_ok=True)
    return path


def test_a_container_that_does_not_run_keeps_its_layers(
    containers: Containers, layer: str, ids: IdMap
) -> None:
    store = images.store(containers.data, ids)
    containers.create("one", SPEC._replace(held=(layer,)))
    assert in_use(store, layer)
    with pytest.raises(StoreError, match="stands on"):
        discard(store, layer, lambda path: remove_tree(path, ids))
    upkeep.prune(containers.data, ids, max_size=0)
    assert os.path.isdir(layer)
    containers.delete("one")
    assert not in_use(store, layer)
    upkeep.prune(containers.data, ids, max_size=0)
    assert not os.path.isdir(layer)


def test_a_running_container_keeps_them_too(containers: Containers, layer: str, ids: IdMap) -> None:
    containers.create("one", SPEC._replace(held=(layer,)))
    containers.start("one")
    (Path(containers.data) / "containers" / ids.name / "one" / "held").unlink()
    assert in_use(images.store(containers.data, ids), layer)
    containers.stop("one")
    assert not in_use(images.store(containers.data, ids), layer)


def test_no_container_is_made_on_a_layer_that_is_gone(containers: Containers) -> None:
    with pytest.raises(StoreError, match="was removed"):
        containers.create("one", SPEC._replace(held=("/nosuch/layers/key",)))
    assert left(containers) == []
