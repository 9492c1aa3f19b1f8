"""Locks: compared, written, read back, and fitted to what is asked for."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from pkgcache.errors import InputError
from pkgcache.lock import (
    Change,
    Lock,
    LockedLayer,
    changes,
    from_plain,
    lock,
    name_of,
    select,
    sentence,
    to_plain,
)
from pkgcache.records import BaseRecord, LayerRecord, Locked

SIX = Locked("six", "1.17.0", "sha256:aa")
LOCK = Lock(
    "debian",
    "debian-1",
    "linux/x86_64",
    (
        LockedLayer("npm", ("tsx",), "2026-01-01T00:00:00Z", (Locked("tsx", "4.19.2"),)),
        LockedLayer("pip", ("six", "toml>=0.9"), "2026-01-01T00:00:00Z", (SIX, Locked("toml", "0.10.2"))),
    ),
)


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ([], [], ()),
        ([SIX], [SIX], ()),
        ([SIX], [SIX._replace(version="1.18")], (Change("six", "1.17.0", "1.18"),)),
        ([SIX], [], (Change("six", "1.17.0", ""),)),
        ([], [SIX], (Change("six", "", "1.17.0"),)),
        ([SIX], [SIX._replace(hash="")], ()),
        ([SIX], [SIX._replace(hash="sha256:bb")], (Change("six", "1.17.0 sha256:aa", "1.17.0 sha256:bb"),)),
        (
            [Locked("a", "1"), Locked("a", "2")],
            [Locked("a", "2"), Locked("b", "1")],
            (Change("a", "1, 2", "2"), Change("b", "", "1")),
        ),
    ],
)
def test_what_differs(before: list[Locked], after: list[Locked], told: tuple[Change, ...]) -> None:
    assert changes(before, after) == told
    assert changes(before, before) == changes(after, after) == ()


def test_a_change_reads_from_the_old_to_the_new() -> None:
    assert sentence(Change("six", "1.16", "1.17")) == "six 1.16 → 1.17"
    assert sentence(Change("six", "", "1.17")) == "six not there → 1.17"


def test_a_lock_is_what_the_layers_records_say() -> None:
    record = LayerRecord("k", "pip", ("six",), "", "debian-1", "linux/x86_64", "2026", packages=(SIX,))
    made = lock(BaseRecord("debian-1", "debian"), "linux/x86_64", [record])
    assert made == Lock("debian", "debian-1", "linux/x86_64", (LockedLayer("pip", ("six",), "2026", (SIX,)),))


def test_a_lock_comes_back_as_it_was_written() -> None:
    assert from_plain(to_plain(LOCK), "file") == LOCK
    assert to_plain(from_plain(to_plain(LOCK), "file")) == to_plain(LOCK)


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        ((), [], "it is not a mapping"),
        (("lock",), 2, "lock is 2"),
        (("lock",), None, "lock is None"),
        (("base",), "debian", "base: it is not a mapping"),
        (("base", "name"), 1, "base.name is not text"),
        (("layers",), {}, "layers is not a list"),
        (("layers", 0, "manager"), "yum", "layers[0]: manager is 'yum'"),
        (("layers", 0, "specs"), "tsx", "specs is not a list"),
        (("layers", 0, "packages", 0, "version"), 4.19, "packages[0]: version is not text"),
        (("layers", 0, "packages", 0, "sha"), "x", "sha is not a field"),
        (("more",), 1, "more is not a field"),
    ],
)
def test_what_is_no_lock_is_refused_with_the_field(path: tuple[Any, ...], value: object, told: str) -> None:
    plain: Any = copy.deepcopy(to_plain(LOCK))
    if path:
        place = plain
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] = value
    else:
        plain = value
    with pytest.raises(InputError) as refused:
        from_plain(plain, "file")
    assert told in str(refused.value) and str(refused.value).startswith("file: ")


@pytest.mark.parametrize("field", ["lock", "base", "platform", "layers"])
def test_a_missing_field_is_named(field: str) -> None:
    plain = to_plain(LOCK)
    del plain[field]
    with pytest.raises(InputError, match=f"{field} is missing"):
        from_plain(plain, "file")


ASKED = [("npm", ("tsx",)), ("pip", ("six", "toml>=0.9"))]


def test_a_lock_of_other_packages_is_refused() -> None:
    select(LOCK, "debian", "linux/x86_64", ASKED)
    with pytest.raises(InputError, match=r"packages\.pip is six, in the lock six, toml"):
        select(LOCK, "debian", "linux/x86_64", [ASKED[0], ("pip", ("six",))])
    with pytest.raises(InputError, match=r"packages\.apt is jq, in the lock empty"):
        select(LOCK, "debian", "linux/x86_64", [("apt", ("jq",)), *ASKED])
    with pytest.raises(InputError, match=r"packages\.npm is empty"):
        select(LOCK, "debian", "linux/x86_64", ASKED[1:])


@pytest.mark.parametrize(("base", "platform"), [("host", "linux/x86_64"), ("debian", "linux/riscv64")])
def test_a_lock_of_another_base_or_machine_is_refused(base: str, platform: str) -> None:
    with pytest.raises(InputError, match="the lock is of the base debian on linux/x86_64"):
        select(LOCK, base, platform, ASKED)


def test_layers_from_different_locks_have_different_names() -> None:
    npm, pip = LOCK.layers
    assert name_of(pip) != name_of(npm)
    assert name_of(pip) == name_of(pip._replace(resolved="later"))
    assert name_of(pip) != name_of(pip._replace(packages=(SIX,)))
