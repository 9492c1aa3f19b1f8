"""The reason for a miss is the input that differs from the nearest layer."""

from __future__ import annotations

import pytest

from pkgcache.keys import layer_key
from pkgcache.records import LayerRecord
from pkgcache.why import Difference, Finding, Wanted, explain, sentence

PLATFORM = "linux/x86_64"


def record(
    specs: tuple[str, ...] = ("six",),
    parent: str = "p",
    base: str = "b",
    platform: str = PLATFORM,
    created: str = "2026",
) -> LayerRecord:
    key = layer_key(parent, base, "pip", specs, platform)
    return LayerRecord(key, "pip", specs, parent, base, platform, created)


def wanted(of: LayerRecord, *, present: bool = False) -> Wanted:
    return Wanted(of.manager, of.specs, of.key, of.parent, of.base, of.platform, present)


ASKED = record()


@pytest.mark.parametrize(
    ("there", "difference", "words"),
    [
        (record(base="a"), ("base", "b", "a"), "its base is a, not b"),
        (record(base="a", parent="q"), ("base", "b", "a"), "its base is a, not b"),
        (record(parent="q"), ("below", "p", "q"), "it stands on q, not on p"),
        (record(parent=""), ("below", "p", ""), "it stands on the base alone, not on p"),
        (
            record(platform="linux/arm"),
            ("platform", PLATFORM, "linux/arm"),
            f"its platform is linux/arm, not {PLATFORM}",
        ),
        (record(("six==1", "toml")), ("specs", "six", "six==1, toml"), "it lacks six; it has six==1, toml"),
        (record(("six", "toml")), ("specs", "", "toml"), "it has toml"),
        (
            record()._replace(key="of-another-format"),
            ("format", "this version's", "another version's"),
            "its format is another version's, not this version's",
        ),
    ],
)
def test_the_input_that_differs_is_named(
    there: LayerRecord, difference: tuple[str, str, str], words: str
) -> None:
    (found,) = explain([wanted(ASKED)], [there])
    assert found == Finding("pip", ("six",), ASKED.key, False, there.key, (Difference(*difference),))
    assert sentence(found.differs[0]) == words


def test_a_hit_needs_no_reason() -> None:
    (found,) = explain([wanted(ASKED, present=True)], [ASKED])
    assert found == Finding("pip", ("six",), ASKED.key, True)


def test_without_a_layer_of_that_manager_there_is_no_nearest() -> None:
    other = ASKED._replace(manager="npm")
    assert explain([wanted(ASKED)], [other]) == (Finding("pip", ("six",), ASKED.key, False),)


def test_the_nearest_has_the_fewest_differences_then_the_most_specs_in_common() -> None:
    asked = wanted(record(("a", "b", "c")))
    far, near, nearer = record(("a", "b", "c"), base="x", platform="y"), record(("a",)), record(("a", "b"))
    for there in ([far, near, nearer], [nearer, near, far]):
        assert explain([asked], there)[0].nearest == nearer.key


def test_of_equals_the_newest_is_the_nearest() -> None:
    old, new = record(base="old", created="2025"), record(base="new", created="2026")
    assert explain([wanted(ASKED)], [old, new])[0].nearest == new.key
    assert explain([wanted(ASKED)], [new, old])[0].nearest == new.key


def test_while_the_base_is_missing_that_is_the_reason() -> None:
    (found,) = explain([Wanted("pip", ("six",), "", "", "", PLATFORM, False)], [ASKED])
    assert sentence(found.differs[0]) == "its base, b, is not the current one"
