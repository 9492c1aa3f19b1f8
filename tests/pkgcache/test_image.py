from __future__ import annotations

from pathlib import Path

import pytest

from pkgcache.bases import remove_base
from pkgcache.build import build
from pkgcache.errors import StoreError
from pkgcache.image import Image, lease
from pkgcache.store import open_store
from tests.pkgcache.scripted import Scripted, add_base, installs_files, remove


def test_a_leased_image_outlives_the_removal_of_its_base(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    add_base(store)
    image = build(store, "debian", {"pip": ["six"]}, runner=Scripted(installs_files), remove=remove)
    with lease(image):
        with pytest.raises(StoreError, match="in use"):
            remove_base(store, "debian", remove=remove)
        assert all(Path(layer).is_dir() for layer in image.layers)
    assert set(remove_base(store, "debian", remove=remove)) == {"debian-1", *image.keys}
    with pytest.raises(StoreError, match="was removed"):
        lease(image)


def test_an_image_without_the_store_needs_no_lease() -> None:
    with lease(Image(None, ())) as held:
        assert held.fds == ()
