"""Locks of real layers: what was installed can be told, and comes back."""

from __future__ import annotations

from pathlib import Path

import pytest

from pkgcache.build import outdated, read_lock
from pkgcache.errors import BuildError
from pkgcache.image import Image
from pkgcache.lock import Lock
from pkgcache.records import Locked
from pkgcache.resolve import read_layer, resolve
from tests.capabilities import need
from tests.integration.layers import Place

pytestmark = pytest.mark.timeout(600)

PACKAGES = {"apt": ["hello"], "npm": ["is-odd"], "pip": ["six", "pyparsing<3.2"]}


@pytest.fixture
def place(data_dir: Path) -> Place:
    need("user-namespaces", "overlay", "registries", "mmdebstrap", "subids")
    return Place(str(data_dir), "range")


def test_each_package_has_the_hash_of_its_archive(place: Place) -> None:
    image = place.build("debian", PACKAGES)
    apt, npm, pip = (read_layer(place.store, key).packages for key in image.keys)
    assert {package.hash.partition(":")[0] for package in (*apt, *pip)} == {"sha256"}
    hashes = {package.name: package.hash for package in npm}
    assert hashes["is-odd"].startswith("sha512:") and len(hashes["is-odd"]) == 7 + 128


def versions(place: Place, image: Image) -> dict[str, str]:
    packages = [package for key in image.keys for package in read_layer(place.store, key).packages]
    return {package.name: package.version for package in packages}


def with_version(lock: Lock, name: str, version: str) -> Lock:
    """The lock with another version of one package, whose hash is not known."""
    return lock._replace(
        layers=tuple(
            layer._replace(
                packages=tuple(
                    Locked(name, version) if package.name == name else package for package in layer.packages
                )
            )
            for layer in lock.layers
        )
    )


def test_an_older_version_comes_back_by_its_lock_and_goes_by_a_refresh(place: Place) -> None:
    place.build("debian", PACKAGES)
    newest = place.build("debian", PACKAGES, refresh=True)
    lock = read_lock(place.store, resolve(place.store, "debian", PACKAGES))
    old = place.build("debian", PACKAGES, lock=with_version(lock, "six", "1.16.0"))
    assert versions(place, old) == versions(place, newest) | {"six": "1.16.0"}
    assert place.run(old, "hello && python3 -c 'import six; print(six.__version__)'")[1].endswith("1.16.0\n")
    moved = outdated(place.store, "debian", PACKAGES, runner=place.run_job, remove=place.remove)
    assert [(manager, [change.name for change in changes]) for manager, changes in moved] == [
        ("apt", []),
        ("npm", []),
        ("pip", ["six"]),
    ]
    assert versions(place, place.build("debian", PACKAGES, refresh=True)) == versions(place, newest)
    assert place.build("debian", PACKAGES, lock=lock).keys == newest.keys


@pytest.mark.parametrize("name", ["hello:amd64", "is-odd", "six"])
def test_a_version_that_is_not_there_is_told_and_changes_nothing(place: Place, name: str) -> None:
    before = place.build("debian", PACKAGES)
    lock = read_lock(place.store, resolve(place.store, "debian", PACKAGES))
    if name not in versions(place, before):
        pytest.skip(f"this machine's architecture has another {name}")
    with pytest.raises(BuildError) as failed:
        place.build("debian", PACKAGES, lock=with_version(lock, name, "99.98.97"))
    assert "could not install" in str(failed.value)
    assert name.partition(":")[0] in str(failed.value)
    assert place.build("debian", PACKAGES) == before
