"""Which ids a session has, by what the host allows."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox import idmap, removal
from sandbox.errors import HostError
from sandbox.idmap import IDS, RANGE, ROOT_FIRST_ID, SINGLE, Extent, HostIds, choose, parse_subids
from tests.capabilities import need

WHOLE = 2**32 - 1
USER = HostIds(1000, 1000, (100000, 65536), (200000, 65536), newuidmap=True, namespace_ids=WHOLE)
ROOT = HostIds(0, 0, None, None, newuidmap=True, namespace_ids=WHOLE)


def test_a_user_with_a_range_is_the_sessions_root_and_the_range_is_the_rest() -> None:
    ids = choose(USER)
    assert ids.mode == RANGE
    assert ids.helper
    assert ids.uids == (Extent(0, 1000, 1), Extent(1, 100000, IDS - 1))
    assert ids.gids == (Extent(0, 1000, 1), Extent(1, 200000, IDS - 1))
    assert (ids.root_uid, ids.root_gid) == (1000, 1000)


@pytest.mark.parametrize(
    ("lacking", "told"),
    [
        (USER._replace(newuidmap=False), "newuidmap"),
        (USER._replace(subuid=None), "/etc/subuid"),
        (USER._replace(subgid=None), "/etc/subgid"),
        (USER._replace(subuid=(100000, 1000)), "1000 ids"),
    ],
)
def test_a_user_who_lacks_something_has_a_single_id_unless_a_range_is_demanded(
    lacking: HostIds, told: str
) -> None:
    assert choose(lacking).uids == (Extent(0, 1000, 1),)
    assert choose(lacking).mode == SINGLE
    with pytest.raises(HostError, match=told):
        choose(lacking, RANGE)
    assert choose(USER, RANGE).mode == RANGE


def test_a_single_id_can_be_demanded() -> None:
    assert choose(USER, SINGLE).uids == (Extent(0, 1000, 1),)


@pytest.mark.parametrize("forced", [None, RANGE, SINGLE])
def test_root_is_never_root_inside(forced: str | None) -> None:
    ids = choose(ROOT, forced)
    for extent in (*ids.uids, *ids.gids):
        assert extent.outside > 0
    assert ids.root_uid == ROOT_FIRST_ID
    assert not ids.helper


def test_root_uses_the_range_that_it_was_given() -> None:
    ids = choose(ROOT._replace(subuid=(300000, IDS), subgid=(400000, IDS)))
    assert (ids.root_uid, ids.root_gid) == (300000, 400000)


def test_root_of_a_namespace_takes_ids_that_exist_there() -> None:
    inner = choose(ROOT._replace(namespace_ids=IDS * 2))
    assert inner.uids == (Extent(0, IDS, IDS),)
    small = choose(ROOT._replace(namespace_ids=1000))
    assert small.mode == SINGLE
    assert 0 < small.root_uid < 1000
    with pytest.raises(HostError, match="1000"):
        choose(ROOT._replace(namespace_ids=1000), RANGE)


def test_each_map_has_a_name_of_its_own() -> None:
    maps = [choose(USER), choose(USER, SINGLE), choose(ROOT), choose(ROOT, SINGLE)]
    assert len({ids.name for ids in maps}) == len(maps)
    assert all("/" not in ids.name for ids in maps)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("ann:100000:65536\n", (100000, 65536)),
        ("1000:100000:65536\n", (100000, 65536)),
        ("bob:100000:65536\n", None),
        ("ann:1:10\nann:100000:65536\nann:5:20\n", (100000, 65536)),
        ("# ann:1:2\n\nann:x:10\nann:1\nann:-5:10\n", None),
        ("", None),
    ],
)
def test_the_largest_range_of_a_user_counts(text: str, found: tuple[int, int] | None) -> None:
    assert parse_subids(text, "ann", 1000) == found


@given(st.text())
def test_any_text_is_read_without_an_error(text: str) -> None:
    parse_subids(text, "ann", 1000)


def test_what_the_machine_gives_makes_files_that_belong_to_the_session(
    empty_data_dir: os.PathLike[str],
) -> None:
    need("user-namespaces")
    for forced in (None, SINGLE):
        ids = choose(idmap.read_host_ids(), forced)
        place = os.path.join(empty_data_dir, ids.name)
        os.mkdir(place, 0o700)
        if os.geteuid() == 0:
            os.chown(place, ids.root_uid, ids.root_gid)
        removal.as_session_root(ids, lambda place=place: os.mkdir(f"{place}/made"))  # type: ignore[misc]
        assert os.stat(f"{place}/made").st_uid == ids.root_uid


@pytest.mark.parametrize(
    ("ids_here", "expected"),
    [(1 << 32, 2_000_065_536), (200_000, 134_463), (65_537, 65_535), (1000, 998), (1, None)],
)
def test_roots_proxy_has_an_id_without_rights_where_there_is_one(ids_here: int, expected: int | None) -> None:
    host = ROOT._replace(namespace_ids=ids_here)
    assert idmap.roots_proxy_id(host) == expected
    if ids_here > 200_000:
        session = idmap.choose(host).uids[0]
        assert not session.outside <= expected < session.outside + session.size
