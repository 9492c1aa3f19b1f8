"""The name in a TLS greeting: every case whole, byte by byte, and with bytes after it."""

from __future__ import annotations

import ssl
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netpolicy import clienthello
from netpolicy.clienthello import ClientHello, HelloReader, parse
from netpolicy.errors import PeerError
from tests.netpolicy.greetings import extension, hello, openssl_hello, records, server_name, vector

A = server_name(b"a.test")
GOOD: dict[str, tuple[bytes, str | None]] = {
    "openssl": (openssl_hello("a.test"), "a.test"),
    "openssl with ALPN": (openssl_hello("a.test", ("h2", "http/1.1")), "a.test"),
    "openssl without a name": (openssl_hello(None), None),
    "plain": (records(hello(A)), "a.test"),
    "upper case": (records(hello(server_name(b"A.Test"))), "a.test"),
    "one octet a record": (records(hello(A), 1), "a.test"),
    "split in the middle of the name": (records(hello(A), 50), "a.test"),
    "name last": (records(hello(extension(10, b"\x00\x02\x00\x1d"), extension(23, b""), A)), "a.test"),
    "post-quantum key share": (records(hello(extension(51, bytes(1500)), A)), "a.test"),
    "four kilobytes of tickets": (records(hello(A, extension(35, bytes(4000))), 1400), "a.test"),
    "forty kilobytes in records": (
        records(hello(extension(35, bytes(20_000)), A, extension(21, bytes(20_000)))),
        "a.test",
    ),
    "encrypted greeting beside the outer name": (records(hello(A, extension(0xFE0D, bytes(200)))), "a.test"),
    "greased extension": (records(hello(extension(0x0A0A, b""), A, extension(0x1A1A, b"\x00"))), "a.test"),
    "no extensions field": (records(hello(bare=True)), None),
    "no extensions": (records(hello()), None),
    "no session id": (records(hello(A, session=b"")), "a.test"),
    "record version 3.3": (records(hello(A), version=b"\x03\x03"), "a.test"),
    "TLS 1.0": (records(hello(A, version=b"\x03\x01")), "a.test"),
    "longest name": (records(hello(server_name(b".".join([b"a" * 61] * 4)))), ".".join(["a" * 61] * 4)),
}
BAD: dict[str, tuple[bytes, str]] = {
    "HTTP": (b"GET / HTTP/1.1\r\n\r\n", "not-tls"),
    "SSH": (b"SSH-2.0-x\r\n", "not-tls"),
    "SSL 2": (b"\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10", "not-tls"),
    "an alert first": (b"\x15\x03\x01\x00\x02\x02\x28", "not-tls"),
    "application data first": (b"\x17\x03\x03\x00\x01\x00", "not-tls"),
    "record version 2": (b"\x16\x02\x00\x00\x01\x01", "not-tls"),
    "empty record": (b"\x16\x03\x01\x00\x00", "malformed"),
    "empty record within": (records(hello(A)[:9]) + b"\x16\x03\x01\x00\x00", "malformed"),
    "record too long": (b"\x16\x03\x01\x40\x01", "malformed"),
    "other record type within": (records(hello(A)[:9]) + b"\x14\x03\x01\x00\x01\x01", "not-tls"),
    "a ServerHello": (records(b"\x02" + hello(A)[1:]), "not-tls"),
    "greeting too long": (records(b"\x01\x01\x00\x01"), "too-large"),
    "second message in the same record": (records(hello(A) + b"\x01"), "malformed"),
    "bytes after the extensions": (records(hello(A, after=b"\x00")), "malformed"),
    "SSL 2 version inside": (records(hello(A, version=b"\x02\x00")), "not-tls"),
    "session id too long": (records(hello(A, session=bytes(33))), "malformed"),
    "no cipher suites": (records(hello(A, suites=b"")), "malformed"),
    "odd cipher suites": (records(hello(A, suites=b"\x13\x01\x13")), "malformed"),
    "no compression": (records(hello(A, compression=b"")), "malformed"),
    "unknown compression alone": (records(hello(A, compression=b"\x01")), "malformed"),
    "two names": (records(hello(server_name(b"a.test", b"d.test"))), "repeated"),
    "two name extensions": (records(hello(A, server_name(b"d.test"))), "repeated"),
    "the same name twice": (records(hello(A, A)), "repeated"),
    "another extension twice": (records(hello(A, extension(23, b""), extension(23, b""))), "repeated"),
    "name of unknown type": (records(hello(server_name(b"a.test", kind=1))), "bad-name"),
    "empty name list": (records(hello(extension(0, b"\x00\x00"))), "malformed"),
    "empty name extension": (records(hello(extension(0, b""))), "malformed"),
    "empty name": (records(hello(server_name(b""))), "bad-name"),
    "trailing dot": (records(hello(server_name(b"a.test."))), "bad-name"),
    "IPv4 address": (records(hello(server_name(b"127.0.0.1"))), "bad-name"),
    "short IPv4 address": (records(hello(server_name(b"127.1"))), "bad-name"),
    "IPv6 address": (records(hello(server_name(b"::1"))), "bad-name"),
    "zero octet in the name": (records(hello(server_name(b"a.test\x00.d.test"))), "bad-name"),
    "space in the name": (records(hello(server_name(b"a.test "))), "bad-name"),
    "UTF-8 in the name": (records(hello(server_name("ä.test".encode()))), "bad-name"),
    "wildcard as the name": (records(hello(server_name(b"*.a.test"))), "bad-name"),
    "name too long": (records(hello(server_name(b".".join([b"a" * 60] * 5)))), "bad-name"),
    "name list longer than its extension": (
        records(hello(extension(0, b"\x00\x0a\x00\x00\x01a"))),
        "malformed",
    ),
    "bytes after the name list": (
        records(hello(extension(0, vector(2, b"\x00\x00\x01a") + b"x"))),
        "malformed",
    ),
    "extension past the end": (records(hello(b"\x00\x17\x00\x09")), "malformed"),
    "extensions cut in a header": (records(hello(b"\x00\x17\x00")), "malformed"),
}


def whole(data: bytes) -> ClientHello | None:
    return parse(data)


def byte_by_byte(data: bytes) -> ClientHello | None:
    reader = HelloReader()
    for at in range(len(data)):
        found = reader.feed(data[at : at + 1])
        if found is not None:
            assert at == len(data) - 1, "it was sure before it had read everything"
            return found
    return None


WAYS = {"whole": whole, "byte by byte": byte_by_byte}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("case", GOOD)
def test_a_greeting_is_read(case: str, way: str) -> None:
    data, host = GOOD[case]
    assert WAYS[way](data) == ClientHello(host)


@pytest.mark.parametrize("case", GOOD)
def test_what_follows_the_greeting_changes_nothing(case: str) -> None:
    data, host = GOOD[case]
    for after in (b"\x00", b"\x17\x03\x03\x00\x02ab", data):
        assert parse(data + after) == ClientHello(host)


@pytest.mark.parametrize("case", GOOD)
def test_no_part_of_a_greeting_is_taken_for_the_whole(case: str) -> None:
    data, _host = GOOD[case]
    for end in {*range(0, len(data), max(1, len(data) // 300)), len(data) - 1}:
        assert parse(data[:end]) is None


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("case", BAD)
def test_an_unusable_greeting_is_refused(case: str, way: str) -> None:
    data, code = BAD[case]
    with pytest.raises(PeerError) as caught:
        WAYS[way](data)
    assert caught.value.code == code
    assert str(caught.value).isascii()


def test_an_endless_greeting_is_refused_before_it_fills_the_memory() -> None:
    reader = HelloReader()
    reader.feed(records(b"\x01\x00\xff\xff"))
    with pytest.raises(PeerError, match="exceeds"):
        for _ in range(clienthello.MAX_WIRE):
            reader.feed(b"\x16\x03\x01\x00\x01\x00")


@pytest.mark.timeout(20)
def test_reading_byte_by_byte_takes_time_in_proportion() -> None:
    data = records(hello(extension(35, bytes(15_000)), A), 1)
    assert byte_by_byte(data) == ClientHello("a.test")


@given(st.binary(max_size=300))
def test_any_bytes_give_a_greeting_none_or_a_refusal(data: bytes) -> None:
    for way in WAYS.values():
        try:
            way(records(b"\x01" + vector(3, data)))
        except PeerError:
            pass


@given(st.integers(min_value=0, max_value=10_000), st.integers(0, 255))
def test_a_changed_octet_never_gives_another_answer_by_splitting(at: int, value: int) -> None:
    """However a damaged greeting arrives, it is judged alike."""
    data = bytearray(records(hello(extension(51, bytes(40)), A, extension(16, vector(2, b"\x02h2")))))
    data[at % len(data)] = value
    results = [outcome(way, bytes(data)) for way in (whole, lambda each: HelloReader().feed(each))]
    stepwise: object
    reader, stepwise = HelloReader(), None
    try:
        for position in range(len(data)):
            stepwise = reader.feed(data[position : position + 1])
            if stepwise is not None:
                break
    except PeerError as error:
        stepwise = error.code
    assert results == [stepwise, stepwise]


def outcome(way: Callable[[bytes], ClientHello | None], data: bytes) -> object:
    try:
        return way(data)
    except PeerError as error:
        return error.code


@given(
    st.from_regex(r"[a-z]([a-z0-9-]{0,20}[a-z0-9])?(\.[a-z]([a-z0-9-]{0,20}[a-z0-9])?){0,3}", fullmatch=True)
)
@settings(max_examples=30)
def test_the_name_that_openssl_sends_is_the_name_that_is_read(name: str) -> None:
    try:
        data = openssl_hello(name)
    except (ValueError, UnicodeError):
        return  # Python's own check of names, which its IDNA refuses
    assert parse(data) == ClientHello(name)


def test_the_refusal_is_an_alert_that_openssl_understands() -> None:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = ssl.create_default_context().wrap_bio(incoming, outgoing, server_hostname="a.test")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    incoming.write(clienthello.alert(clienthello.ACCESS_DENIED))
    with pytest.raises(ssl.SSLError, match=r"(?i)access.denied"):
        client.do_handshake()
