"""Addresses that stand for names."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netpolicy.addresses import veto
from netpolicy.synthetic import RESERVED, RESOLVER_V4, RESOLVER_V6, SPAN, V4_FIRST, SyntheticNames


def test_a_name_keeps_its_two_addresses_and_both_lead_back_to_it() -> None:
    names = SyntheticNames()
    v4, v6 = names.addresses("a.test")
    other = names.addresses("b.test")
    assert names.addresses("a.test") == (v4, v6)
    assert v4 not in other
    assert names.name_at(v4) == names.name_at(v6) == "a.test"
    assert ip_address(v4) in ip_network("198.18.0.0/15")
    assert ip_address(v6) in ip_network("fd5b:9a7c:31e0::/48")


def test_addresses_that_stand_for_nothing_lead_to_no_name() -> None:
    names = SyntheticNames()
    names.addresses("a.test")
    for text in (RESOLVER_V4, RESOLVER_V6, "198.18.255.255", "127.0.0.1", "::1", "255.255.255.255"):
        assert names.name_at(ip_address(text).packed) is None


def test_synthetic_addresses_are_never_dialled() -> None:
    for packed in SyntheticNames().addresses("a.test"):
        assert veto(str(ip_address(packed)))


def test_the_name_asked_for_longest_ago_makes_room() -> None:
    names = SyntheticNames(2)
    a = names.addresses("a.test")
    b = names.addresses("b.test")
    names.addresses("a.test")
    c = names.addresses("c.test")
    assert len(names) == 2
    assert names.name_at(b[0]) is None
    assert names.name_at(a[0]) == "a.test"
    assert names.name_at(c[1]) == "c.test"
    assert names.addresses("b.test") != b, "a place is not used again soon"


def test_places_come_round_without_ever_taking_one_in_use() -> None:
    names = SyntheticNames(3)
    kept = names.addresses("kept.test")
    for number in range(SPAN + 10):
        names.addresses(f"n{number}.test")
        assert names.addresses("kept.test") == kept
    assert names.name_at(kept[0]) == "kept.test"


@given(st.lists(st.sampled_from([f"n{each}" for each in range(12)]), max_size=60), st.integers(1, 6))
def test_the_two_directions_always_agree(asked: list[str], capacity: int) -> None:
    names = SyntheticNames(capacity)
    recent: list[str] = []
    for name in asked:
        v4, v6 = names.addresses(name)
        recent = [*(each for each in recent if each != name), name][-capacity:]
        assert int.from_bytes(v4, "big") >= V4_FIRST + RESERVED
        assert names.name_at(v4) == names.name_at(v6) == name
    assert len(names) == len(recent)
    for name in recent:
        assert names.name_at(names.addresses(name)[0]) == name


@pytest.mark.parametrize("capacity", [0, SPAN])
def test_a_capacity_that_the_range_can_t_hold_is_refused(capacity: int) -> None:
    with pytest.raises(ValueError, match="capacity"):
        SyntheticNames(capacity)
