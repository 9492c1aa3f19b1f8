from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pkgcache import store as stores
from pkgcache.errors import StoreError
from pkgcache.store import (
    Store,
    create,
    discard,
    exclusive,
    hold,
    in_use,
    open_store,
    publish,
    sweep,
    workplace,
)
from tests.capabilities import need
from tests.pkgcache.scripted import remove


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = open_store(str(tmp_path / "data"))
    create(made)
    return made


@contextmanager
def another_process(script: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A Python process that has printed its first line; killed at the end."""
    process = subprocess.Popen(
        [sys.executable, "-c", script, *arguments], stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.kill()
        process.communicate()


HOLD = """
import sys
from pkgcache.store import hold
lease = hold([sys.argv[1]])
print("ready", flush=True)
sys.stdin.read()
"""
WORK = """
import os, sys
from pkgcache.store import open_store, workplace
with workplace(open_store(sys.argv[1]), lambda path: None) as place:
    open(place + "/half-made", "w").close()
    print("ready", flush=True)
    sys.stdin.read()
"""
LOCK = """
import sys
from pkgcache.store import exclusive, open_store
with exclusive(open_store(sys.argv[1]), "key", lambda: None):
    print("ready", flush=True)
    sys.stdin.read()
"""


def layer(store: Store, key: str = "key") -> str:
    os.mkdir(store.layer(key))
    return store.layer(key)


def test_opening_a_store_touches_nothing(tmp_path: Path) -> None:
    open_store(str(tmp_path / "data"))
    assert not (tmp_path / "data").exists()


def test_creating_twice_is_the_same_as_once(store: Store) -> None:
    before = sorted(os.listdir(store.path))
    create(store)
    assert sorted(os.listdir(store.path)) == before
    assert {"bases", "layers", "work"} <= set(before)


def test_what_code_of_packages_writes_is_closed_to_other_users(store: Store) -> None:
    assert os.stat(f"{store.path}/downloads").st_mode & 0o777 == 0o700


def test_a_place_that_can_not_be_written_is_told_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="can't use the package store") as refused:
        create(open_store(str(tmp_path / "file")))
    assert refused.value.hint and refused.value.exit_code == 125


def test_a_leased_layer_is_not_removed_and_a_free_one_is(store: Store) -> None:
    path = layer(store)
    with hold([path]):
        assert in_use(store, path)
        with pytest.raises(StoreError, match="in use"):
            discard(store, path, remove)
        assert os.path.isdir(path)
    assert not in_use(store, path)
    assert discard(store, path, remove)
    assert not os.path.exists(path)
    assert os.listdir(f"{store.path}/work") == []


def test_looking_whether_a_layer_is_in_use_never_keeps_anybody_from_it(store: Store) -> None:
    path = layer(store)
    stop = threading.Event()

    def looking() -> None:
        while not stop.is_set():
            in_use(store, path)

    lookers = [threading.Thread(target=looking) for _ in range(2)]
    for looker in lookers:
        looker.start()
    try:
        for _ in range(300):
            hold([path]).close()
    finally:
        stop.set()
        for looker in lookers:
            looker.join()


def test_a_lease_counts_as_use_unless_it_is_only_for_looking(store: Store) -> None:
    path = layer(store)
    os.utime(path, (1, 1))
    hold([path], used=False).close()
    assert os.stat(path).st_mtime == 1
    hold([path]).close()
    assert os.stat(path).st_mtime > 1


def test_nothing_is_removed_that_came_to_be_needed(store: Store) -> None:
    path = layer(store)
    assert not discard(store, path, remove, unless=lambda: True)
    assert os.path.isdir(path) and not in_use(store, path)
    assert discard(store, path, remove, unless=lambda: False)


def test_what_is_needed_for_longer_stays_though_nobody_holds_it(store: Store) -> None:
    path = layer(store)
    keeping = store._replace(needed=lambda: frozenset({"layers/key"}))
    assert in_use(keeping, path)
    with pytest.raises(StoreError, match="stands on"):
        discard(keeping, path, remove)
    assert not in_use(store._replace(needed=lambda: frozenset({"layers/other"})), path)
    assert discard(store, path, remove)


def test_another_layer_may_be_chosen_for_the_same_inputs_while_it_is_there(store: Store) -> None:
    layer(store, "other")
    assert store.chosen("key") == "key"
    stores.choose(store, "key", "other")
    assert store.chosen("key") == "other"
    stores.choose(store, "key", "gone")
    assert store.chosen("key") == "key"


def test_many_may_lease_one_layer(store: Store) -> None:
    path = layer(store)
    with hold([path]), hold([path]):
        assert in_use(store, path)


def test_a_lease_on_something_removed_says_what_to_do(store: Store) -> None:
    with pytest.raises(StoreError, match="was removed") as refused:
        hold([layer(store), store.layer("gone")])
    assert "again" in refused.value.hint
    assert not in_use(store, store.layer("key"))


def test_removing_what_is_not_there_is_no_error(store: Store) -> None:
    assert not discard(store, store.layer("gone"), remove)


def test_another_processs_lease_counts_and_ends_with_it_however_it_ends(store: Store) -> None:
    path = layer(store)
    with another_process(HOLD, path) as process:
        assert in_use(store, path)
        process.send_signal(signal.SIGKILL)
        process.wait(60)
        assert not in_use(store, path)


def test_a_work_place_is_gone_after_success_and_after_failure(store: Store) -> None:
    with workplace(store, remove) as place:
        assert os.path.dirname(place) == f"{store.path}/work"
    with pytest.raises(ZeroDivisionError), workplace(store, remove) as other:
        Path(other, "half-made").touch()
        raise ZeroDivisionError
    assert os.listdir(f"{store.path}/work") == []


def test_a_sweep_takes_what_a_killed_process_left_and_nothing_that_is_in_use(store: Store) -> None:
    with workplace(store, remove) as mine, another_process(WORK, os.path.dirname(store.path)) as process:
        assert sweep(store, remove) == 0
        assert len(os.listdir(f"{store.path}/work")) == 2
        process.send_signal(signal.SIGKILL)
        process.wait(60)
        assert sweep(store, remove) == 1
        assert os.listdir(f"{store.path}/work") == [os.path.basename(mine)]


def test_a_sweep_keeps_the_newest_logs(store: Store) -> None:
    names = [f"20260101T{number:06d}Z-pip-aa.log" for number in range(stores.KEPT_LOGS + 2)]
    for name in names:
        Path(store.path, "logs", name).touch()
    sweep(store, remove)
    assert sorted(os.listdir(f"{store.path}/logs")) == names[2:]


def test_sweeping_a_store_that_is_not_there_does_nothing(tmp_path: Path) -> None:
    assert sweep(open_store(str(tmp_path)), remove) == 0


def test_sweeps_and_new_work_places_do_not_disturb_each_other(store: Store) -> None:
    stop = threading.Event()

    def sweeping() -> None:
        while not stop.is_set():
            sweep(store, remove)

    sweeper = threading.Thread(target=sweeping)
    sweeper.start()
    try:
        for _ in range(200):
            with workplace(store, remove) as place:
                Path(place, "file").touch()
                assert Path(place, "file").exists()
    finally:
        stop.set()
        sweeper.join()


def test_one_builds_and_the_other_is_told_and_waits(store: Store) -> None:
    told = threading.Event()
    got_it = threading.Event()

    def second() -> None:
        with exclusive(store, "key", told.set):
            got_it.set()

    with another_process(LOCK, os.path.dirname(store.path)) as process:
        waiter = threading.Thread(target=second)
        waiter.start()
        assert told.wait(60)
        assert not got_it.is_set()
        process.send_signal(signal.SIGKILL)
        waiter.join(20)
    assert got_it.is_set()


def test_nobody_waits_for_another_key(store: Store) -> None:
    waited: list[str] = []
    with (
        exclusive(store, "one", lambda: waited.append("one")),
        exclusive(store, "two", lambda: waited.append("two")),
    ):
        assert waited == []


def test_publishing_is_a_rename(store: Store) -> None:
    with workplace(store, remove) as place:
        os.mkdir(f"{place}/made")
        inode = os.stat(f"{place}/made").st_ino
        publish(store, f"{place}/made", store.layer("key"))
    assert os.stat(store.layer("key")).st_ino == inode


def test_publishing_does_without_the_program_that_begins_to_flush(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    monkeypatch.setenv("PATH", str(tools))
    for name, works in (("without", False), ("with", True)):
        if works:
            (tools / "sync").write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/asked\nexit 1\n')
            (tools / "sync").chmod(0o755)
        with workplace(store, remove) as place:
            os.mkdir(f"{place}/made")
            publish(store, f"{place}/made", store.layer(name))
        assert os.path.isdir(store.layer(name)) and (tmp_path / "asked").exists() == works


def test_nothing_is_published_over_something_else(store: Store) -> None:
    Path(layer(store), "layer.json").touch()
    with workplace(store, remove) as place, pytest.raises(StoreError):
        os.mkdir(f"{place}/made")
        publish(store, f"{place}/made", store.layer("key"))


def test_a_name_is_moved_from_one_base_to_the_next_at_once(store: Store) -> None:
    stores.point(store, "debian", "debian-1")
    stores.point(store, "debian", "debian-2")
    assert os.readlink(f"{store.names()}/debian") == "debian-2"
    assert os.listdir(store.names()) == ["debian"]


def test_a_full_disk_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    need("tmpfs")
    script = """
import os, sys
from pkgcache.errors import StoreError
from pkgcache.store import create, is_full, open_store, workplace, write
store = open_store(sys.argv[1])
create(store)
try:
    with workplace(store, lambda path: __import__("shutil").rmtree(path)) as place:
        write(store, place + "/small", "x")
        assert not is_full(store, spare=4096)
        write(store, place + "/large", "x" * 10_000_000)
except StoreError as error:
    print(error, "|", error.hint, "|", os.listdir(store.path + "/work"))
"""
    mounted = 'mount -t tmpfs -o size=1m tmpfs "$1" && exec "$2" -c "$3" "$1"'
    done = subprocess.run(
        [
            "unshare",
            "--user",
            "--map-root-user",
            "--mount",
            "sh",
            "-c",
            mounted,
            "sh",
            str(tmp_path),
            sys.executable,
            script,
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert f"the disk that holds {tmp_path}/v1 is full | free some space" in done.stdout
    assert done.stdout.rstrip().endswith("| []")
