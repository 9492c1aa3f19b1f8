"""Resolving again, building from a lock, and what that means for the next session; with a runner that runs nothing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pkgcache.build import build, outdated, read_lock
from pkgcache.errors import BuildError, InputError, StoreError
from pkgcache.image import Image, lease
from pkgcache.inventory import inventory
from pkgcache.lock import Change, Lock
from pkgcache.memo import recall
from pkgcache.prune import prune
from pkgcache.recipe import OFFLINE
from pkgcache.records import Locked
from pkgcache.resolve import read_layer, resolve
from pkgcache.runner import Job
from pkgcache.store import Store, in_use, open_store
from tests.pkgcache.scripted import Scripted, add_base, installs_files, remove, standing

PACKAGES = {"npm": ["tsx"], "pip": ["six"]}


class Servers:
    """What the registries have now: the version of each package. A pinned one is given as it was asked for."""

    def __init__(self) -> None:
        self.versions = {"tsx": "1", "six": "1"}
        self.installed: list[tuple[str, ...]] = []

    def __call__(self, job: Job) -> int:
        specs = job.argv[4:]
        if job.scratch is None or not specs:
            return 0
        self.installed.append(specs)
        found = {}
        for spec in specs:
            name, _, version = spec.replace("==", "@").partition("@")
            found[name] = version or found.get(name) or self.versions[name]
        for name, version in found.items():
            Path(job.scratch, "upper", name).write_text(version)
            job.output(f"@sandbox\tpackage\t{name}\t{version}\t\n".encode())
        return 0


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = open_store(str(tmp_path / "data"))
    add_base(made)
    return made


@pytest.fixture
def servers() -> Servers:
    return Servers()


def run(store: Store, servers: Servers, **more: object) -> Image:
    return build(store, "debian", PACKAGES, runner=Scripted(servers), remove=remove, **more)  # type: ignore[arg-type]


def versions(store: Store, image: Image) -> list[str]:
    return [package.version for key in image.keys for package in read_layer(store, key).packages]


def the_lock(store: Store) -> Lock:
    return read_lock(store, resolve(store, "debian", PACKAGES))


def test_resolving_again_without_a_move_changes_nothing(store: Store, servers: Servers) -> None:
    first = run(store, servers)
    assert run(store, servers, refresh=True) == first
    assert len(servers.installed) == 4
    assert len(standing(store)["layers"]) == 2 and standing(store)["work"] == []


def test_what_has_moved_is_used_from_now_on_and_the_old_stays(store: Store, servers: Servers) -> None:
    first = run(store, servers)
    servers.versions["six"] = "2"
    with lease(first):
        second = run(store, servers, refresh=True)
        assert versions(store, second) == ["1", "2"]
        assert second.keys[0] == first.keys[0] and second.keys[1] != first.keys[1]
        assert Path(first.layers[0], "six").read_text() == "1"
        assert in_use(store, store.layer(first.keys[1]))
    assert recall(store, "debian", PACKAGES) == second
    assert run(store, Servers()) == second
    current = {kept.id: kept.current for kept in inventory(store)}
    assert current[second.keys[1]] and not current[first.keys[1]]


def test_a_move_below_builds_what_is_above_on_it(store: Store, servers: Servers) -> None:
    first = run(store, servers)
    servers.versions["tsx"] = "2"
    second = run(store, servers, refresh=True)
    assert versions(store, second) == ["2", "1"]
    assert not set(first.keys) & set(second.keys)
    assert read_layer(store, second.keys[1]).parent == second.keys[0]
    assert resolve(store, "debian", PACKAGES).ready


def test_a_second_refresh_goes_on_from_the_first(store: Store, servers: Servers) -> None:
    run(store, servers)
    for version in ("2", "3"):
        servers.versions["six"] = version
        run(store, servers, refresh=True)
    assert versions(store, run(store, Servers())) == ["1", "3"]
    prune(store, 0, remove=remove)
    assert len(standing(store)["layers"]) == 2
    assert versions(store, run(store, Servers())) == ["1", "3"]


def test_what_comes_to_the_same_as_before_is_there_once(store: Store, servers: Servers) -> None:
    first = run(store, servers)
    servers.versions["six"] = "2"
    second = run(store, servers, refresh=True)
    servers.versions["six"] = "1"
    assert run(store, servers, refresh=True) == first == recall(store, "debian", PACKAGES)
    servers.versions["six"] = "2"
    assert run(store, servers, refresh=True) == second == recall(store, "debian", PACKAGES)
    assert len(standing(store)["layers"]) == 3


def test_a_layer_that_can_not_be_read_does_not_stand_in_the_way_of_a_lock(
    store: Store, servers: Servers
) -> None:
    first = run(store, servers)
    lock = the_lock(store)
    os.mkdir(store.layer("0" * 64))
    assert run(store, servers, lock=lock) == first


def test_a_chosen_layer_that_was_removed_is_built_again(store: Store, servers: Servers) -> None:
    run(store, servers)
    servers.versions["six"] = "2"
    image = run(store, servers, refresh=True)
    remove(store.layer(image.keys[1]))
    again = run(store, servers)
    assert versions(store, again) == ["1", "1"]
    prune(store, 0, remove=remove)
    assert os.listdir(f"{store.path}/chosen") == []


def test_a_refresh_that_fails_leaves_what_was_there(store: Store, servers: Servers) -> None:
    first = run(store, servers)
    with pytest.raises(BuildError):
        build(store, "debian", PACKAGES, runner=Scripted(lambda _: 1), remove=remove, refresh=True)
    assert recall(store, "debian", PACKAGES) == first and standing(store)["work"] == []


def test_what_is_outdated_is_told_and_nothing_changes(store: Store, servers: Servers) -> None:
    first = run(store, servers)

    def told() -> tuple[object, ...]:
        return outdated(store, "debian", PACKAGES, runner=Scripted(servers), remove=remove)

    assert told() == (("npm", ()), ("pip", ()))
    servers.versions["six"] = "2"
    assert told() == (("npm", ()), ("pip", (Change("six", "1", "2"),)))
    assert recall(store, "debian", PACKAGES) == first
    assert len(standing(store)["layers"]) == 2 and standing(store)["work"] == []


def test_what_is_not_built_has_no_lock_and_is_not_outdated(store: Store) -> None:
    with pytest.raises(StoreError, match="not all layers are built"):
        the_lock(store)
    with pytest.raises(StoreError, match="not all layers are built"):
        outdated(store, "debian", PACKAGES, runner=Scripted(), remove=remove)


def test_a_lock_brings_the_locked_versions_back(store: Store, servers: Servers, tmp_path: Path) -> None:
    run(store, servers)
    lock = the_lock(store)
    servers.versions.update(tsx="2", six="2")
    other = open_store(str(tmp_path / "other"))
    add_base(other)
    assert versions(other, run(other, servers)) == ["2", "2"]
    image = run(other, servers, lock=lock)
    assert versions(other, image) == ["1", "1"]
    assert servers.installed[-2:] == [("tsx@1",), ("six", "six==1")]
    assert recall(other, "debian", PACKAGES) == image == run(other, Servers())


def test_a_layer_that_fits_the_lock_is_used_without_running_anything(store: Store, servers: Servers) -> None:
    first = run(store, servers)
    lock = the_lock(store)
    servers.versions["six"] = "2"
    run(store, servers, refresh=True)
    never = Scripted(lambda _: pytest.fail("ran"))
    assert build(store, "debian", PACKAGES, runner=never, remove=remove, lock=lock) == first
    assert recall(store, "debian", PACKAGES) == first


def test_what_can_not_be_reproduced_fails_and_names_what_differs(store: Store, servers: Servers) -> None:
    first = run(store, servers)
    lock = the_lock(store)
    pip = lock.layers[1]
    lock = lock._replace(layers=(lock.layers[0], pip._replace(packages=(*pip.packages, Locked("more", "7")))))

    def without_more(job: Job) -> int:
        return servers(job._replace(argv=tuple(word for word in job.argv if not word.startswith("more"))))

    with pytest.raises(BuildError, match=r"what the lock says: more 7 → not there") as failed:
        build(store, "debian", PACKAGES, runner=Scripted(without_more), remove=remove, lock=lock)
    assert failed.value.log is not None and os.path.getsize(failed.value.log) > 0
    assert recall(store, "debian", PACKAGES) == first and standing(store)["work"] == []


def test_a_lock_of_other_packages_is_refused_before_anything_runs(store: Store, servers: Servers) -> None:
    run(store, servers)
    lock = the_lock(store)
    never = Scripted(lambda _: pytest.fail("ran"))
    with pytest.raises(InputError, match="the lock does not fit"):
        build(store, "debian", {"pip": ["six"]}, runner=never, remove=remove, lock=lock)


def test_without_a_network_no_job_has_servers_and_downloading_is_left_out(store: Store) -> None:
    online, offline = Scripted(installs_files), Scripted(installs_files)
    image = build(
        store, "debian", {"apt": ["jq"]}, runner=online, remove=remove, allowed_hosts=["extra.test"]
    )
    remove(store.layer(image.keys[0]))
    wanted = {"apt": ["jq"], "npm": ["tsx"]}
    build(store, "debian", wanted, runner=offline, remove=remove, allowed_hosts=["extra.test"], offline=True)
    assert all(job.endpoints and job.allowed_hosts for job in online.jobs if job.argv[4:] == ("jq",))
    assert {(job.endpoints, job.allowed_hosts) for job in offline.jobs} == {((), ())}
    assert {job.environment[OFFLINE] for job in offline.jobs} == {"1"}
    assert not any(OFFLINE in job.environment for job in online.jobs)
    for runner, expected in ((online, [True, False]), (offline, [False])):
        asked = [job for job in runner.jobs if job.argv[4:] == ("jq",)]
        assert [all(mount.writable for mount in job.mounts) for job in asked] == expected


def test_what_is_there_needs_no_network(store: Store, servers: Servers) -> None:
    first = run(store, servers)
    never = Scripted(lambda _: pytest.fail("ran"))
    assert build(store, "debian", PACKAGES, runner=never, remove=remove, offline=True) == first


def test_a_base_is_not_made_without_a_network(tmp_path: Path) -> None:
    never = Scripted(lambda _: pytest.fail("ran"))
    for base in ("debian", "host"):
        with pytest.raises(StoreError, match=f"the base {base} is not there"):
            build(
                open_store(str(tmp_path / base)),
                base,
                {"pip": ["six"]},
                runner=never,
                remove=remove,
                offline=True,
            )


def test_what_servers_answered_once_is_known_without_a_network(store: Store) -> None:
    """An apt layer brings a manager; which servers that uses, its own servers were asked."""

    def act(job: Job) -> int:
        if job.scratch is None and not job.argv[4:] and not job.endpoints:
            job.output(b"@sandbox\tendpoint\tcargo\thttps://index.test/\tsettings\n")
            job.output(b"@sandbox\tfollow\tcargo\thttps://index.test/config.json\n")
        elif job.argv[4:] == ("https://index.test/config.json",):
            assert {endpoint.host for endpoint in job.endpoints} == {"index.test"}
            job.output(b"@sandbox\tendpoint\tcargo\thttps://files.test/\tthe index\n")
        else:
            return installs_files(job)
        return 0

    def hosts(image: Image) -> list[str]:
        return [endpoint.host for endpoint in read_layer(store, image.keys[0]).endpoints]

    wanted = {"apt": ["cargo"]}
    with pytest.raises(StoreError, match="which servers cargo uses was never asked"):
        build(store, "debian", wanted, runner=Scripted(act), remove=remove, offline=True)
    image = build(store, "debian", wanted, runner=Scripted(act), remove=remove)
    assert hosts(image) == ["files.test", "index.test"]
    remove(store.layer(image.keys[0]))
    again = Scripted(act)
    assert hosts(build(store, "debian", wanted, runner=again, remove=remove, offline=True)) == hosts(image)
    assert all((job.endpoints, job.allowed_hosts) == ((), ()) for job in again.jobs)
