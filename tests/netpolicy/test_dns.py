"""The session's name server, with dnspython as the other side."""

from __future__ import annotations

import dns.edns
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.reversename
import pytest
from hypothesis import given
from hypothesis import strategies as st

from netpolicy import dns as server
from netpolicy.errors import PeerError
from netpolicy.synthetic import SyntheticNames


def ask(
    name: str | dns.name.Name, kind: str = "A", names: SyntheticNames | None = None, **options: object
) -> dns.message.Message:
    """Ask, and check what every answer must be before returning it."""
    query = dns.message.make_query(name, kind, **options)  # type: ignore[arg-type]
    wire = server.answer(query.to_wire(), SyntheticNames() if names is None else names)
    assert wire is not None
    response = dns.message.from_wire(wire)
    assert query.is_response(response)
    assert response.flags & dns.flags.RA
    assert bool(response.flags & dns.flags.RD) == bool(query.flags & dns.flags.RD)
    return response


def only(response: dns.message.Message) -> str:
    assert response.rcode() == dns.rcode.NOERROR
    assert len(response.answer) == 1
    assert len(response.answer[0]) == 1
    assert response.answer[0].ttl <= 60
    return response.answer[0][0].to_text()


@pytest.mark.parametrize(
    "name", ["a.test", "A.TEST.", "denied.test", "x", "a_b.test", "xn--bcher-kva.example"]
)
def test_every_host_name_gets_addresses_that_stand_for_it(name: str) -> None:
    names = SyntheticNames()
    import ipaddress

    for kind in ("A", "AAAA"):
        packed = ipaddress.ip_address(only(ask(name, kind, names))).packed
        assert names.name_at(packed) == name.lower().rstrip(".")


@pytest.mark.parametrize(
    "kind", ["HTTPS", "SVCB", "TXT", "MX", "SRV", "NS", "SOA", "ANY", "CNAME", "NAPTR", "PTR", "TYPE999"]
)
def test_other_types_exist_but_hold_nothing(kind: str) -> None:
    for name in ("a.test", "_http._tcp.a.test"):
        response = ask(name, kind)
        assert response.rcode() == dns.rcode.NOERROR
        assert response.answer == []


def test_the_case_of_the_question_is_returned_as_it_was_asked() -> None:
    query = dns.message.make_query("MiXeD.TeSt", "A")
    wire = server.answer(query.to_wire(), SyntheticNames())
    assert wire is not None
    assert b"\x05MiXeD\x04TeSt\x00" in wire


@pytest.mark.parametrize("name", ["localhost", "LOCALHOST.", "db.localhost"])
def test_localhost_is_the_loopback_address(name: str) -> None:
    names = SyntheticNames()
    assert only(ask(name, "A", names)) == "127.0.0.1"
    assert only(ask(name, "AAAA", names)) == "::1"
    assert ask(name, "TXT", names).answer == []
    assert len(names) == 0


@pytest.mark.parametrize(
    "name",
    [
        "x.invalid",
        "x.onion",
        "use-application-dns.net",
        "1.2.3.4",
        "127.1",
        "0x7f000001",
        r"a\.b.test",
        r"a\000b.test",
        r"a\032b.test",
        r"\228.test",
        "-a.test",
        "a.-b.test",
        "*.a.test",
        "ipv4only.arpa",
        "home.arpa",
    ],
)
def test_what_can_be_no_host_does_not_exist(name: str) -> None:
    names = SyntheticNames()
    for kind in ("A", "AAAA"):
        response = ask(name, kind, names)
        assert response.rcode() == dns.rcode.NXDOMAIN
        assert response.answer == []
    assert len(names) == 0


def test_an_address_leads_back_to_its_name() -> None:
    names = SyntheticNames()
    v4, v6 = only(ask("a.test", "A", names)), only(ask("a.test", "AAAA", names))
    for address in (v4, v6):
        assert only(ask(dns.reversename.from_address(address), "PTR", names)) == "a.test."
    for address in ("127.0.0.1", "::1"):
        assert only(ask(dns.reversename.from_address(address), "PTR", names)) == "localhost."


@pytest.mark.parametrize(
    "name",
    [
        "8.8.8.8.in-addr.arpa",
        "8.8.8.in-addr.arpa",
        "256.1.1.1.in-addr.arpa",
        "x.1.1.1.in-addr.arpa",
        "0001.1.1.1.in-addr.arpa",
        "1.ip6.arpa",
        "in-addr.arpa",
        "g" + ".0" * 31 + ".ip6.arpa",
        r"\178.1.1.1.in-addr.arpa",
        r"x\.in-addr\.arpa",
        r"x\.in-addr.arpa",
        r"1.1.1.1\.in-addr.arpa",
    ],
)
def test_other_addresses_lead_to_no_name(name: str) -> None:
    assert ask(name, "PTR").rcode() == dns.rcode.NXDOMAIN


def test_the_root_exists_and_holds_nothing() -> None:
    assert ask(".", "A").answer == []
    assert ask(".", "NS").rcode() == dns.rcode.NOERROR


@pytest.mark.parametrize("size", [512, 1232, 4096, 65_535])
def test_edns_is_answered_with_edns(size: int) -> None:
    response = ask("a.test", "A", use_edns=0, payload=size, want_dnssec=True)
    assert response.edns == 0
    assert response.payload == server.UDP_SIZE
    assert ask("a.test", "A").edns == -1


def test_edns_options_are_passed_over() -> None:
    options = [dns.edns.GenericOption(10, b"12345678"), dns.edns.GenericOption(12, bytes(50))]
    assert only(ask("a.test", "A", use_edns=0, options=options))


def test_an_unknown_edns_version_is_told_so() -> None:
    assert ask("a.test", "A", use_edns=1).rcode() == dns.rcode.BADVERS


def test_other_classes_are_refused() -> None:
    response = ask("version.bind", "TXT", rdclass=dns.rdataclass.CH)
    assert response.rcode() == dns.rcode.REFUSED


LONGEST = ".".join(["a" * 61, "b" * 61, "c" * 61, "d" * 61])


def test_every_answer_fits_the_least_size_that_clients_take() -> None:
    names = SyntheticNames()
    kept = [only(ask(LONGEST, kind, names)) for kind in ("A", "AAAA")]
    questions = [(LONGEST, kind) for kind in ("A", "AAAA", "TXT")]
    questions += [(dns.reversename.from_address(each), "PTR") for each in kept]
    for name, kind in questions:
        wire = server.answer(dns.message.make_query(name, kind, use_edns=0, payload=512).to_wire(), names)
        assert wire is not None
        assert len(wire) <= 512


BASE = dns.message.make_query("a.test", "A").to_wire()
EDNS = dns.message.make_query("a.test", "A", use_edns=0).to_wire()


def changed(wire: bytes, at: int, value: bytes) -> bytes:
    return wire[:at] + value + wire[at + len(value) :]


MALFORMED = {
    "nothing after the header": BASE[:12],
    "cut in the name": BASE[:15],
    "cut before the class": BASE[:-1],
    "a byte after the question": BASE + b"\x00",
    "no question": changed(BASE, 4, b"\x00\x00"),
    "two questions": changed(BASE, 4, b"\x00\x02") + BASE[12:],
    "an answer in the query": changed(BASE, 6, b"\x00\x01"),
    "an authority in the query": changed(BASE, 8, b"\x00\x01"),
    "two further records": changed(EDNS, 10, b"\x00\x02") + EDNS[-11:],
    "a further record that is not EDNS": changed(EDNS, len(EDNS) - 10, b"\x00\x01"),
    "EDNS under a name": changed(EDNS, len(EDNS) - 11, b"\x01"),
    "EDNS cut short": EDNS[:-1],
    "EDNS options past the end": changed(EDNS, len(EDNS) - 2, b"\x00\x09"),
    "EDNS option past its record": changed(EDNS, len(EDNS) - 2, b"\x00\x05") + b"\x00\x0a\x00\x09\x00",
    "a pointer as the name": BASE[:12] + b"\xc0\x0c" + BASE[-4:],
    "a pointer within the name": BASE[:12] + b"\x01a\xc0\x0c" + BASE[-4:],
    "a reserved label type": BASE[:12] + b"\x40a" + BASE[-5:],
    "a name over 255 octets": BASE[:12] + (b"\x3f" + b"a" * 63) * 4 + b"\x00" + BASE[-4:],
}


@pytest.mark.parametrize("case", MALFORMED)
def test_a_malformed_query_gets_a_format_error_and_nothing_else(case: str) -> None:
    names = SyntheticNames()
    with pytest.raises(PeerError):
        server.parse(MALFORMED[case])
    wire = server.answer(MALFORMED[case], names)
    assert wire is not None
    assert wire[:2] == BASE[:2] or wire[:2] == EDNS[:2]
    assert wire[3] & 15 == dns.rcode.FORMERR
    assert len(wire) == 12
    assert len(names) == 0


@pytest.mark.parametrize(
    "data", [b"", b"\x00", BASE[:11], changed(BASE, 2, b"\x81"), changed(BASE, 2, b"\x80")]
)
def test_what_is_no_query_at_all_gets_no_answer(data: bytes) -> None:
    assert server.answer(data, SyntheticNames()) is None


@pytest.mark.parametrize("opcode", [1, 2, 4, 5, 15])
def test_other_operations_are_not_implemented(opcode: int) -> None:
    wire = server.answer(changed(BASE, 2, bytes((opcode << 3,))), SyntheticNames())
    assert wire is not None
    response = dns.message.from_wire(wire, ignore_trailing=False, question_only=True)
    assert response.rcode() == dns.rcode.NOTIMP
    assert response.opcode() == opcode


@given(st.binary(max_size=80))
def test_any_datagram_gets_a_readable_answer_or_none(data: bytes) -> None:
    wire = server.answer(data, SyntheticNames())
    if wire is not None:
        assert wire[:2] == data[:2]
        assert wire[2] & 0x80
        dns.message.from_wire(wire, question_only=True)


@given(st.binary(min_size=1, max_size=70))
def test_any_question_is_read_as_dnspython_reads_it(tail: bytes) -> None:
    wire = BASE[:12] + tail
    try:
        query = server.parse(wire)
    except PeerError:
        query = None
    try:
        message = dns.message.from_wire(wire, ignore_trailing=False)
        ours = tuple(message.question[0].name.labels[:-1])
        kind = int(message.question[0].rdtype)
        klass = int(message.question[0].rdclass)
    except (dns.exception.DNSException, IndexError, ValueError):
        # dnspython refuses some types as questions; what it refuses may be read here, never the reverse.
        return
    if b"\xc0" in tail:
        return
    assert query is not None
    assert (query.labels, query.type, query.klass) == (ours, kind, klass)


@given(
    st.lists(st.binary(min_size=1, max_size=20), min_size=0, max_size=5),
    st.sampled_from([1, 12, 16, 28, 65]),
    st.booleans(),
)
def test_every_well_formed_question_is_answered_and_echoed(
    labels: list[bytes], kind: int, edns: bool
) -> None:
    name = dns.name.Name([*labels, b""])
    query = dns.message.make_query(name, kind, use_edns=0 if edns else -1)
    wire = server.answer(query.to_wire(), SyntheticNames())
    assert wire is not None
    response = dns.message.from_wire(wire)
    assert query.is_response(response)
    assert response.rcode() in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN)
