"""Which host a request asks for, and what is passed on of it."""

from __future__ import annotations

import pytest

from netpolicy.errors import PeerError
from netpolicy.httprules import read_request, refusal, response_headers

Pairs = list[tuple[bytes, bytes]]
HOST: Pairs = [(b"host", b"a.test")]


@pytest.mark.parametrize(
    ("method", "target", "headers", "port", "host", "path"),
    [
        (b"GET", b"/", HOST, 80, "a.test", b"/"),
        (b"GET", b"/x?y", [(b"host", b"A.Test")], 80, "a.test", b"/x?y"),
        (b"GET", b"/", [(b"host", b"a.test:80")], 80, "a.test", b"/"),
        (b"GET", b"/", [(b"host", b"a.test:")], 80, "a.test", b"/"),
        (b"GET", b"/", [(b"host", b"a.test.")], 80, "a.test", b"/"),
        (b"GET", b"/", [(b"host", b"a.test:3142")], 3142, "a.test", b"/"),
        (b"GET", b"/", [(b"host", b"203.0.113.9:3142")], 3142, "203.0.113.9", b"/"),
        (b"GET", b"/", [(b"host", b"[2001:DB8::1]")], 80, "2001:db8::1", b"/"),
        (b"GET", b"/", [(b"host", b"[2001:db8::1]:80")], 80, "2001:db8::1", b"/"),
        (b"GET", b"http://a.test/x", HOST, 80, "a.test", b"/x"),
        (b"GET", b"HTTP://A.TEST:80/x", HOST, 80, "a.test", b"/x"),
        (b"GET", b"http://a.test", HOST, 80, "a.test", b"/"),
        (b"GET", b"http://a.test?q", HOST, 80, "a.test", b"/?q"),
        (b"GET", b"//d.test/x", HOST, 80, "a.test", b"//d.test/x"),
        (b"OPTIONS", b"*", HOST, 80, "a.test", b"*"),
        (b"OPTIONS", b"http://a.test", HOST, 80, "a.test", b"*"),
    ],
)
def test_a_request_that_names_one_host_is_read(
    method: bytes, target: bytes, headers: Pairs, port: int, host: str, path: bytes
) -> None:
    forward = read_request(method, target, b"1.1", headers, port)
    assert (forward.host, forward.target) == (host, path)
    assert forward.headers == headers


@pytest.mark.parametrize(
    ("method", "target", "version", "headers", "code"),
    [
        (b"CONNECT", b"a.test:443", b"1.1", HOST, "connect"),
        (b"GET", b"/", b"1.0", [], "host-header"),
        (b"GET", b"/", b"2.0", HOST, "malformed"),
        (b"GET", b"/", b"1.1", [*HOST, *HOST], "host-header"),
        (b"GET", b"/", b"1.1", [*HOST, (b"host", b"d.test")], "host-header"),
        (b"GET", b"/", b"1.1", [(b"host", b"")], "bad-name"),
        (b"GET", b"/", b"1.1", [(b"host", b"user@a.test")], "bad-name"),
        (b"GET", b"/", b"1.1", [(b"host", b"a.test@d.test")], "bad-name"),
        (b"GET", b"/", b"1.1", [(b"host", b"a.test/d.test")], "bad-name"),
        (b"GET", b"/", b"1.1", [(b"host", b"a.test, d.test")], "bad-name"),
        (b"GET", b"/", b"1.1", [(b"host", b"a.test d.test")], "bad-name"),
        (b"GET", b"/", b"1.1", [(b"host", b"a.test#d.test")], "bad-name"),
        (b"GET", b"/", b"1.1", [(b"host", b"127.1")], "bad-name"),
        (b"GET", b"/", b"1.1", [(b"host", b"2130706433")], "bad-name"),
        (b"GET", b"/", b"1.1", [(b"host", b"[::1")], "bad-name"),
        (b"GET", b"/", b"1.1", [(b"host", b"[::1]x")], "bad-name"),
        (b"GET", b"/", b"1.1", [(b"host", b"[a.test]")], "bad-name"),
        (b"GET", b"/", b"1.1", [(b"host", b"[127.0.0.1]:80")], "bad-name"),
        (b"GET", b"/", b"1.1", [(b"host", b"[fe80::1%25eth0]")], "bad-name"),
        (b"GET", b"/", b"1.1", [(b"host", b"[fe80::1%a b\xff]")], "bad-name"),
        (b"GET", b"/", b"1.1", [(b"host", b"a.test:80:80")], "bad-name"),
        (b"GET", b"/", b"1.1", [(b"host", b"a.test:+80")], "bad-name"),
        (b"GET", b"/", b"1.1", [(b"host", b"\xc3\xa4.test")], "bad-name"),
        (b"GET", b"/", b"1.1", [(b"host", b"a.test:8080")], "host-mismatch"),
        (b"GET", b"http://d.test/", b"1.1", HOST, "host-mismatch"),
        (b"GET", b"http://a.test:8080/", b"1.1", HOST, "host-mismatch"),
        (b"GET", b"http://a.test@d.test/", b"1.1", HOST, "bad-name"),
        (b"GET", b"http://d.test\\@a.test/", b"1.1", HOST, "bad-name"),
        (b"GET", b"https://a.test/", b"1.1", HOST, "bad-target"),
        (b"GET", b"a.test/", b"1.1", HOST, "bad-target"),
        (b"GET", b"*", b"1.1", HOST, "bad-target"),
        (b"GET", b"", b"1.1", HOST, "bad-target"),
        (
            b"POST",
            b"/",
            b"1.1",
            [*HOST, (b"content-length", b"3"), (b"transfer-encoding", b"chunked")],
            "smuggling",
        ),
        (b"POST", b"/", b"1.1", [*HOST, (b"content-length", b"3"), (b"content-length", b"3")], "smuggling"),
        (b"POST", b"/", b"1.0", [*HOST, (b"transfer-encoding", b"chunked")], "smuggling"),
        (b"GET", b"/", b"1.1", [*HOST, (b"upgrade", b"websocket")], "upgrade"),
        (b"GET", b"/", b"1.1", [*HOST, (b"upgrade", b"h2c, websocket")], "upgrade"),
        (b"GET", b"/", b"1.1", [*HOST, (b"upgrade", b"h2c"), (b"upgrade", b"TLS/1.0")], "upgrade"),
    ],
)
def test_a_request_that_leaves_its_host_or_length_open_is_refused(
    method: bytes, target: bytes, version: bytes, headers: Pairs, code: str
) -> None:
    with pytest.raises(PeerError) as caught:
        read_request(method, target, version, headers, 80)
    assert caught.value.code == code
    assert str(caught.value).isascii()


def test_headers_of_one_connection_alone_stay_behind() -> None:
    headers = [
        (b"x-mine", b"1"),
        (b"connection", b"close, X-Other, Host, Content-Length"),
        (b"x-other", b"1"),
        (b"keep-alive", b"1"),
        (b"proxy-connection", b"close"),
        (b"te", b"trailers"),
        (b"upgrade", b"h2c"),
        (b"http2-settings", b"AAA"),
        (b"content-length", b"0"),
        (b"accept", b"*/*"),
        *HOST,
    ]
    assert read_request(b"GET", b"/", b"1.1", headers, 80).headers == [
        *HOST,
        (b"x-mine", b"1"),
        (b"content-length", b"0"),
        (b"accept", b"*/*"),
    ]


def test_a_length_beside_an_encoding_is_void_in_a_response() -> None:
    assert response_headers([(b"content-length", b"5"), (b"etag", b"x")]) == [
        (b"content-length", b"5"),
        (b"etag", b"x"),
    ]
    both = [
        (b"content-length", b"5"),
        (b"transfer-encoding", b"chunked"),
        (b"connection", b"x"),
        (b"x", b"y"),
    ]
    assert response_headers(both) == []


def test_a_refusal_is_a_whole_response_for_people_and_programs() -> None:
    head, _, body = refusal(
        403, "not-allowed", "d.test is not among\nthe allowed hosts \N{SNOWMAN}"
    ).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 403 Forbidden\r\n")
    assert b"\r\nX-Sandbox-Denied: not-allowed\r\n" in head
    assert b"\r\nConnection: close" in head
    assert f"Content-Length: {len(body)}\r\n".encode() in head
    assert body == b"d.test is not among\nthe allowed hosts \\u2603\n"
    assert refusal(403, "x", "y", with_body=False).endswith(b"\r\n\r\n")
    assert b"X-Sandbox-Failed: connect" in refusal(502, "connect", "")
