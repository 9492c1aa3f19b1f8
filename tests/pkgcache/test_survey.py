"""A directory's manifest covers everything by which its files could differ."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from pkgcache.errors import StoreError
from pkgcache.manifest import compare, parse
from pkgcache.store import open_store
from pkgcache.survey import survey, surveyed


@pytest.fixture
def place(tmp_path: Path) -> Path:
    made = tmp_path / "made"
    (made / "upper/usr/bin").mkdir(parents=True)
    (made / "layer.json").write_text("{}")
    (made / "upper/usr/bin/tool").write_bytes(b"x" * 3_000_000)
    (made / "upper/usr/bin/empty").touch()
    (made / "upper/usr/bin/link").symlink_to("tool")
    os.link(made / "upper/usr/bin/tool", made / "upper/usr/bin/twin")
    os.mkfifo(made / "upper/usr/pipe")
    (made / "upper/usr/odd \udcff\nname").touch()
    return made


def differences(place: Path, change: Callable[[Path], object]) -> dict[str, str]:
    before = parse(survey(str(place)))
    change(place / "upper/usr")
    return dict(compare(before, parse(survey(str(place)))))


def test_nothing_differs_when_nothing_changed(place: Path) -> None:
    assert differences(place, lambda _: None) == {}


def test_a_file_with_two_names_counts_once(place: Path) -> None:
    size = parse(survey(str(place))).size
    os.unlink(place / "upper/usr/bin/twin")
    assert parse(survey(str(place))).size == size
    assert 3_000_000 <= size < 3_200_000


@pytest.mark.parametrize(
    ("change", "path", "what"),
    [
        (lambda usr: (usr / "bin/empty").write_text("more"), "upper/usr/bin/empty", "changed: content"),
        (lambda usr: (usr / "bin/empty").chmod(0o4755), "upper/usr/bin/empty", "changed: mode"),
        (lambda usr: (usr / "bin").chmod(0o700), "upper/usr/bin", "changed: mode"),
        (lambda usr: (usr / "bin/empty").unlink(), "upper/usr/bin/empty", "missing"),
        (lambda usr: (usr / "bin/new").touch(), "upper/usr/bin/new", "extra"),
        (lambda usr: (usr / "new").mkdir(), "upper/usr/new", "extra"),
        (
            lambda usr: ((usr / "bin/link").unlink(), (usr / "bin/link").symlink_to("empty")),
            "upper/usr/bin/link",
            "changed: content",
        ),
        (
            lambda usr: ((usr / "pipe").unlink(), (usr / "pipe").mkdir(mode=0o755)),
            "upper/usr/pipe",
            "changed: kind",
        ),
        (
            lambda usr: os.setxattr(usr / "bin/empty", "user.test", b"1"),
            "upper/usr/bin/empty",
            "changed: extended attributes",
        ),
    ],
)
def test_a_change_is_seen_where_it_is(
    place: Path, change: Callable[[Path], object], path: str, what: str
) -> None:
    found = differences(place, change)
    assert set(found) == {path} and found[path].startswith(what)


def test_a_byte_changed_in_the_middle_with_size_and_times_as_they_were_is_seen(place: Path) -> None:
    def flip(usr: Path) -> None:
        status = os.stat(usr / "bin/tool")
        with open(usr / "bin/tool", "r+b") as file:
            file.seek(1_500_000)
            file.write(b"y")
        os.utime(usr / "bin/tool", ns=(status.st_atime_ns, status.st_mtime_ns))

    assert set(differences(place, flip)) == {"upper/usr/bin/tool", "upper/usr/bin/twin"}


def test_the_log_and_the_manifest_are_not_covered_and_the_record_is(place: Path) -> None:
    before = survey(str(place))
    (place / "log").write_text("said")
    (place / "manifest").write_text(before)
    assert survey(str(place)) == before
    (place / "layer.json").write_text("other")
    assert survey(str(place)) != before


def test_what_can_not_be_read_is_told(place: Path) -> None:
    store = open_store(str(place.parent))
    assert surveyed(store, str(place)) == survey(str(place))
    with pytest.raises(StoreError, match="no-such-place/: No such file") as refused:
        surveyed(store, str(place.parent / "no-such-place"))
    assert refused.value.hint
