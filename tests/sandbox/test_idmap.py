"""Which ids a session gets: decided from what the host has, written so that the kernel takes it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.errors import HostError
from sandbox.idmap import IDS, RANGE, ROOT_FIRST_ID, SINGLE, Extent, HostIds, choose, parse_subids
from sandbox.idmap import _map_text as map_text
from sandbox.idmap import _namespace_ids as namespace_ids

ALL = 4294967295
USER = HostIds(1000, 1000, (100000, 65536), (200000, 65536), True, ALL)
ROOT = HostIds(0, 0, None, None, True, ALL)


def test_a_user_with_a_range_gets_it_with_themselves_as_root() -> None:
    ids = choose(USER)
    assert (ids.mode, ids.helper) == (RANGE, True)
    assert ids.uids == (Extent(0, 1000, 1), Extent(1, 100000, IDS - 1))
    assert ids.gids == (Extent(0, 1000, 1), Extent(1, 200000, IDS - 1))


@pytest.mark.parametrize(
    "lacking",
    [
        USER._replace(newuidmap=False),
        USER._replace(subuid=None),
        USER._replace(subgid=None),
        USER._replace(subuid=(100000, 65534)),
    ],
)
def test_a_user_without_a_range_has_a_single_id_and_is_told_when_a_range_is_forced(lacking: HostIds) -> None:
    ids = choose(lacking)
    assert (ids.mode, ids.uids, ids.helper) == (SINGLE, (Extent(0, 1000, 1),), False)
    assert choose(lacking, SINGLE) == ids
    with pytest.raises(HostError) as failed:
        choose(lacking, RANGE)
    assert failed.value.hint


def test_roots_sessions_never_have_roots_id() -> None:
    for host in (
        ROOT,
        ROOT._replace(subuid=(100000, 65536), subgid=(100000, 65536)),
        ROOT._replace(namespace_ids=65537),
    ):
        for forced in (None, SINGLE):
            ids = choose(host, forced)
            assert all(extent.outside > 0 for extent in (*ids.uids, *ids.gids))
            assert not ids.helper
    assert choose(ROOT).uids == (Extent(0, ROOT_FIRST_ID, IDS),)


def test_root_of_a_namespace_with_too_few_ids_has_a_single_one() -> None:
    host = ROOT._replace(namespace_ids=1000)
    assert choose(host).mode == SINGLE
    with pytest.raises(HostError):
        choose(host, RANGE)


@given(
    st.builds(
        HostIds,
        st.integers(0, 100000),
        st.integers(0, 100000),
        st.none() | st.tuples(st.integers(1, 2**31), st.integers(0, 2**20)),
        st.none() | st.tuples(st.integers(1, 2**31), st.integers(0, 2**20)),
        st.booleans(),
        st.integers(0, ALL),
    )
)
def test_whatever_the_host_has_the_map_starts_at_0_and_has_no_gap(host: HostIds) -> None:
    ids = choose(host)
    for extents in (ids.uids, ids.gids):
        end = 0
        for extent in extents:
            assert extent.inside == end
            assert extent.size > 0
            end += extent.size
        assert end == (IDS if ids.mode == RANGE else 1)
    if host.uid == 0 and host.namespace_ids > 1:
        assert ids.root_uid != 0
        assert ids.root_gid != 0


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", None),
        ("me:100000:65536\n", (100000, 65536)),
        ("1000:5:6\n", (5, 6)),
        ("you:1:2\n", None),
        ("me:1:10\nme:100:1000\nme:5:20\n", (100, 1000)),
        ("me:x:1\nme:1\nme:1:2:3\n# me\n", None),
        ("meme:1:2", None),
    ],
)
def test_subordinate_ranges_are_read(text: str, found: tuple[int, int] | None) -> None:
    assert parse_subids(text, "me", 1000) == found


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("0 0 4294967295\n", ALL),
        ("0 1000 1\n1 100000 65535\n", IDS),
        ("1 5 5\n", 0),
        ("0 1 1\n5 1 1\n", 1),
        ("", 0),
    ],
)
def test_the_ids_of_this_namespace_are_counted(text: str, count: int) -> None:
    assert namespace_ids(text) == count


def test_names_of_maps_differ_where_their_files_can_not_be_shared() -> None:
    names = [
        choose(USER).name,
        choose(USER, SINGLE).name,
        choose(ROOT).name,
        choose(USER._replace(uid=7)).name,
    ]
    assert len(set(names)) == len(names)
    assert not any("/" in name for name in names)


def test_maps_are_written_as_the_kernel_reads_them() -> None:
    assert map_text(choose(USER).uids) == "0 1000 1\n1 100000 65535\n"
    assert choose(USER).describe() == "range: uid 0+1→1000, 1+65535→100000; gid 0+1→1000, 1+65535→200000"
