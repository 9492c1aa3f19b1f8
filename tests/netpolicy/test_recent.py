"""Names by address, and the name servers of a resolv.conf."""

from __future__ import annotations

from netpolicy.recent import RecentNames, parse_name_servers


def test_an_address_has_the_name_that_was_last_answered_with_it() -> None:
    names = RecentNames()
    names.learn("a.test", ["192.0.2.1", "2001:db8::1"])
    names.learn("b.test", ["192.0.2.1"])
    assert names.name_of("192.0.2.1") == "b.test"
    assert names.name_of("2001:db8::1") == "a.test"
    assert names.name_of("192.0.2.2") is None


def test_the_table_is_bounded_and_what_was_answered_longest_ago_goes() -> None:
    names = RecentNames(3)
    for number in (1, 2, 3, 1, 4):
        names.learn(f"{number}.test", [f"192.0.2.{number}"])
    assert len(names) == 3
    assert names.name_of("192.0.2.2") is None
    assert names.name_of("192.0.2.1") == "1.test"


def test_a_resolv_conf_is_read_as_the_c_library_reads_it() -> None:
    text = "# nameserver 192.0.2.9\nsearch a.test\nnameserver 192.0.2.1\n nameserver\t2001:db8::1 # x\n"
    assert parse_name_servers(text) == [("192.0.2.1", 53), ("2001:db8::1", 53)]
    assert len(parse_name_servers("nameserver 192.0.2.1\n" * 5)) == 3
    assert parse_name_servers("") == [("127.0.0.1", 53)]


def test_addresses_of_one_name_in_the_other_family_are_siblings() -> None:
    recent = RecentNames(4)
    recent.learn("a.test", ["2001:db8::1", "192.0.2.1"])
    recent.learn("a.test", ["192.0.2.2"])
    assert recent.siblings("2001:db8::1") == ["192.0.2.1", "192.0.2.2"]
    assert recent.siblings("192.0.2.2") == ["2001:db8::1"]
    assert recent.siblings("192.0.2.9") == []
    # Who leads to an address with others can't be told by it.
    recent.learn("b.test", ["2001:db8::1"])
    recent.learn("a.test", ["2001:db8::1"])
    assert recent.siblings("2001:db8::1") == []
    # What was forgotten starts anew.
    recent.learn("c.test", [f"192.0.2.{number}" for number in range(10, 14)])
    recent.learn("a.test", ["2001:db8::1", "192.0.2.1"])
    assert recent.siblings("2001:db8::1") == ["192.0.2.1"]
