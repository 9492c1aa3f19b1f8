"""Responses of name servers, against dnspython and against arbitrary bytes."""

from __future__ import annotations

import dns.message
import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st

from netpolicy.dnsreply import Reply, read_reply
from netpolicy.errors import PeerError

QUERY = dns.message.make_query("a.test", "A")


def response(*rrsets: dns.rrset.RRset) -> bytes:
    made = dns.message.make_response(QUERY)
    made.answer.extend(rrsets)
    return made.to_wire()


def test_aliases_and_addresses_are_read_compressed_or_not() -> None:
    data = response(
        dns.rrset.from_text("a.test.", 60, "IN", "CNAME", "B.cdn.test."),
        dns.rrset.from_text("b.cdn.test.", 60, "IN", "A", "192.0.2.1", "192.0.2.2"),
        dns.rrset.from_text("b.cdn.test.", 60, "IN", "AAAA", "2001:db8::1"),
        dns.rrset.from_text("b.cdn.test.", 60, "IN", "TXT", '"192.0.2.9"'),
    )
    found = read_reply(data)
    assert found.names == ("b.cdn.test",)
    assert set(found.addresses) == {"192.0.2.1", "192.0.2.2", "2001:db8::1"}
    assert read_reply(response()) == Reply((), ())


@pytest.mark.parametrize(
    "data",
    [
        b"",
        QUERY.to_wire(),
        response(dns.rrset.from_text("a.test.", 60, "IN", "A", "192.0.2.1"))[:-1],
        # A name that points to itself.
        b"\0\1\x80\0\0\0\0\1\0\0\0\0" + b"\xc0\x0c" + b"\0\1\0\1\0\0\0\0\0\4\1\2\3\4",
        # More records than any answer has.
        b"\0\1\x80\0\0\0\xff\xff\0\0\0\0" + bytes(100),
        b"\0\1\x80\0\0\0\0\1\0\0\0\0\x80",
    ],
)
def test_what_is_no_whole_response_is_refused(data: bytes) -> None:
    with pytest.raises(PeerError):
        read_reply(data)


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        read_reply(b"\0\1\x80\0\0\1\0\3\0\0\0\0" + data)
    except PeerError as error:
        assert str(error).isascii()
