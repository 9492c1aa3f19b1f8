"""The text of a manifest: read back as it was written, damage noticed, differences named."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pkgcache.manifest import (
    DamagedManifestError,
    Difference,
    Entry,
    Manifest,
    compare,
    compose,
    line,
    parse,
    quote,
    size_of,
)

PATHS = st.binary(min_size=1, max_size=30).map(os.fsdecode)
FILE = Entry("upper/a", "f", 0o644, "0:0", "3:abc")


def manifest(*entries: Entry) -> Manifest:
    return parse(compose(0, map(line, entries)))


@given(st.lists(PATHS, unique=True, max_size=20))
def test_any_name_comes_back_as_one_entry(paths: list[str]) -> None:
    known = {quote(path) for path in paths}
    text = compose(7, (line(FILE._replace(path=path)) for path in paths))
    assert text.isascii()
    assert parse(text).entries.keys() == known and len(known) == len(paths)
    assert parse(text).size == 7


@pytest.mark.parametrize(
    "path", ["plain", "two words", "line\nbreak", "back\\slash", "umläut", "\udcff", "\x7f"]
)
def test_a_name_is_one_word_and_differs_from_others(path: str) -> None:
    assert len(quote(path).split()) == 1
    assert quote(path) == path or "\\x" in quote(path)


def test_the_order_of_files_makes_no_difference() -> None:
    one, other = line(FILE), line(FILE._replace(path="upper/b"))
    assert compose(1, [one, other]) == compose(1, [other, one])


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: "",
        lambda text: text[:-10],
        lambda text: text.replace("644", "755"),
        lambda text: text.replace("upper/a", "upper/b"),
        lambda text: text + "more",
        lambda text: "\n".join(text.splitlines()[1:]),
    ],
)
def test_a_damaged_manifest_is_noticed(damage) -> None:  # type: ignore[no-untyped-def]
    text = compose(3, [line(FILE)])
    assert parse(text).size == 3
    with pytest.raises(DamagedManifestError):
        parse(damage(text))


@pytest.mark.parametrize(
    ("now", "what"),
    [
        (FILE._replace(kind="d"), "changed: kind"),
        (FILE._replace(mode=0o4755), "changed: mode"),
        (FILE._replace(owner="0:1"), "changed: owner"),
        (FILE._replace(detail="3:abd"), "changed: content"),
        (FILE._replace(attributes="0f"), "changed: extended attributes"),
        (FILE._replace(mode=0o600, detail="4:abcd"), "changed: mode, content"),
    ],
)
def test_what_changed_is_named(now: Entry, what: str) -> None:
    assert compare(manifest(FILE), manifest(FILE)) == ()
    assert compare(manifest(FILE), manifest(now)) == (Difference("upper/a", what),)


def test_missing_and_extra_files_are_named() -> None:
    other = FILE._replace(path="upper/b")
    assert compare(manifest(FILE), manifest(other)) == (
        Difference("upper/a", "missing"),
        Difference("upper/b", "extra"),
    )


@pytest.mark.parametrize("first", ["", "manifest 2 10 1", "manifest 1 ten 1", "manifest 1 10"])
def test_a_first_line_of_another_format_tells_no_size(first: str) -> None:
    assert size_of(first) is None
    assert size_of("manifest 1 10 1\n") == 10
