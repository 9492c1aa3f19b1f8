"""What goes when a store becomes smaller, decided on values."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pkgcache.errors import InputError
from pkgcache.retention import Item, choose, read_age, read_size, size_text

NOW = 1_000_000.0
HOUR = 3600.0


def item(
    id_: str, below: str = "", *, size: int = 100, age: float = 0, in_use: bool = False, dead: bool = False
) -> Item:
    return Item(id_, below, size, NOW - age, in_use, dead)


def chain(**more: object) -> list[Item]:
    return [item("base"), item("apt", "base"), item("pip", "apt", **more)]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("items", "limits", "gone"),
    [
        ([], {}, ()),
        (chain(), {}, ()),
        (chain(dead=True), {}, ("pip",)),
        (chain(dead=True, in_use=True), {}, ()),
        (chain(age=2 * HOUR), {"older_than": HOUR}, ("pip",)),
        (chain(age=HOUR / 2), {"older_than": HOUR}, ()),
        (chain(age=2 * HOUR, in_use=True), {"older_than": HOUR}, ()),
        (chain(), {"max_size": 300}, ()),
        (chain(), {"max_size": 299}, ("pip",)),
        (chain(), {"max_size": 150}, ("pip", "apt")),
        (chain(), {"max_size": 0}, ("pip", "apt", "base")),
        (chain(in_use=True), {"max_size": 0}, ()),
        # What stands on something that stays keeps it, however old that is.
        ([item("base", age=9 * HOUR), item("apt", "base")], {"older_than": HOUR}, ()),
        ([item("old", dead=True), item("apt", "old", dead=True, in_use=True)], {}, ()),
        ([item("old", dead=True), item("apt", "old", dead=True)], {}, ("apt", "old")),
        # What was used longest ago goes first, and a layer whose parent is gone goes as dead.
        (
            [item("base"), item("a", "base", age=1), item("b", "base", age=3), item("c", "base", age=2)],
            {"max_size": 200},
            ("b", "c"),
        ),
    ],
)
def test_what_goes(items: list[Item], limits: dict[str, float], gone: tuple[str, ...]) -> None:
    assert choose(items, NOW, **limits) == gone  # type: ignore[arg-type]


@st.composite
def stores(draw: st.DrawFn) -> list[Item]:
    items: list[Item] = []
    for number in range(draw(st.integers(0, 12))):
        below = draw(st.sampled_from(["", *(known.id for known in items)]))
        size, age = draw(st.integers(0, 100)), draw(st.integers(0, 1000))
        in_use, dead = draw(st.booleans()), draw(st.booleans())
        items.append(Item(str(number), below, size, NOW - age, in_use, dead))
    return items


@given(stores(), st.none() | st.integers(0, 500), st.none() | st.floats(0, 1000))
def test_nothing_in_use_goes_and_nothing_beneath_what_stays(
    items: list[Item], max_size: int | None, older_than: float | None
) -> None:
    gone = choose(items, NOW, max_size=max_size, older_than=older_than)
    by_id = {known.id: known for known in items}
    left = dict(by_id)
    for id_ in gone:
        assert not by_id[id_].in_use
        del left[id_]
        assert all(known.below != id_ for known in left.values())
    for known in left.values():
        stood_on = any(other.below == known.id for other in left.values())
        if not known.in_use and not stood_on:
            assert not known.dead
            assert older_than is None or NOW - known.used <= older_than
            assert max_size is None or sum(other.size for other in left.values()) <= max_size


@pytest.mark.parametrize(
    ("text", "size"),
    [("0", 0), ("500M", 500_000_000), ("10G", 10**10), ("2GiB", 2 << 30), ("1.5 kB", 1500), ("1t", 10**12)],
)
def test_sizes(text: str, size: int) -> None:
    assert read_size(text) == size


@pytest.mark.parametrize("text", ["", "G", "-1G", "10X", "10 GG", "1e9", "2i", "lots"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="not a size") as refused:
        read_size(text)
    assert refused.value.exit_code == 2 and refused.value.hint


@pytest.mark.parametrize(
    ("text", "age"), [("90s", 90), ("12h", 43200), ("30d", 2592000), ("2w", 1209600), ("1.5 m", 90)]
)
def test_ages(text: str, age: float) -> None:
    assert read_age(text) == age


@pytest.mark.parametrize("text", ["", "30", "d", "-1d", "1y", "soon"])
def test_what_is_no_age_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="not an age"):
        read_age(text)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (4096, "4 kB"),
        (3_700_000, "3.7 MB"),
        (396_000_000, "396 MB"),
        (1_800_000_000, "1.8 GB"),
        (2 * 10**12, "2.0 TB"),
    ],
)
def test_sizes_for_people(size: int, text: str) -> None:
    assert size_text(size) == text
