"""The host's proxy variables, and the words with the proxy."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netpolicy.errors import PeerError
from netpolicy.hostproxy import (
    MAX_ANSWER,
    HostProxies,
    HostProxy,
    choose,
    connect_request,
    head_length,
    read_proxies,
    read_status,
)

PROXY = HostProxy("proxy.corp.test", 3128)


@pytest.mark.parametrize(
    ("environment", "secure", "plain"),
    [
        ({"HTTPS_PROXY": "http://proxy.corp.test:3128"}, PROXY, None),
        ({"https_proxy": "http://Proxy.Corp.test:3128/"}, PROXY, None),
        ({"https_proxy": "proxy.corp.test:3128", "HTTPS_PROXY": "http://other:1"}, PROXY, None),
        ({"HTTP_PROXY": "http://proxy.corp.test:3128"}, None, PROXY),
        ({"ALL_PROXY": "http://proxy.corp.test:3128"}, PROXY, PROXY),
        (
            {"ALL_PROXY": "http://other:1", "HTTPS_PROXY": "http://proxy.corp.test:3128"},
            PROXY,
            HostProxy("other", 1),
        ),
        ({"HTTPS_PROXY": "http://[2001:db8::1]:3128"}, HostProxy("2001:db8::1", 3128), None),
        ({"HTTPS_PROXY": "http://10.0.0.1"}, HostProxy("10.0.0.1", 80), None),
        ({"HTTPS_PROXY": "http://me:p%40ss%3A@p:1"}, HostProxy("p", 1, b"Basic bWU6cEBzczo="), None),
    ],
)
def test_the_usual_variables_are_read(
    environment: dict[str, str], secure: HostProxy | None, plain: HostProxy | None
) -> None:
    assert read_proxies(environment) == HostProxies(secure, plain, ())


def test_without_a_proxy_there_is_nothing() -> None:
    assert read_proxies({}) is None
    assert read_proxies({"NO_PROXY": "*", "HTTPS_PROXY": " "}) is None


@pytest.mark.parametrize(
    "value", ["socks5://p:1080", "https://p:443", "http://p:x", "http://:3128", "http://p:0"]
)
def test_a_proxy_that_can_not_be_used_is_a_reason_without_its_text(value: str) -> None:
    found = read_proxies({"HTTPS_PROXY": value.replace("://", "://name:secret@")})
    assert found is not None
    chosen = choose(found, "a.test", 443, False)
    assert isinstance(chosen, str)
    assert "HTTPS_PROXY" in chosen
    assert "secret" not in chosen


def test_a_proxy_never_shows_its_password() -> None:
    assert "Basic" not in repr(HostProxy("p", 1, b"Basic c2VjcmV0"))


@pytest.mark.parametrize(
    ("no_proxy", "host", "port", "direct"),
    [
        ("corp.test", "corp.test", 443, True),
        ("corp.test", "a.corp.test", 443, True),
        ("corp.test", "evilcorp.test", 443, False),
        (".corp.test", "a.corp.test", 443, True),
        ("*.corp.test", "a.corp.test", 443, True),
        ("corp.test:8443", "corp.test", 8443, True),
        ("corp.test:8443", "corp.test", 443, False),
        ("CORP.test, b.test", "b.test", 443, True),
        ("a.test b.test", "b.test", 443, True),
        ("*", "anything.test", 443, True),
        ("10.0.0.0/8", "10.1.2.3", 443, True),
        ("10.0.0.0/8", "11.1.2.3", 443, False),
        ("10.1.2.3", "10.1.2.3", 443, True),
        ("2001:db8::/32", "2001:db8::1", 443, True),
        ("[2001:db8::1]:443", "2001:db8::1", 443, True),
        ("10.0.0.0/8", "ten.test", 443, False),
        ("10.0.0.0/99, nonsense/", "10.1.2.3", 443, False),
        ("", "a.test", 443, False),
    ],
)
def test_no_proxy_names_what_is_dialled_directly(no_proxy: str, host: str, port: int, direct: bool) -> None:
    found = read_proxies({"HTTPS_PROXY": "http://p:1", "NO_PROXY": no_proxy})
    assert found is not None
    assert (choose(found, host, port, False) is None) is direct


def test_a_tunnel_is_asked_for_by_name_and_with_credentials_where_there_are_any() -> None:
    assert connect_request(PROXY, "a.test", 443) == (
        b"CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n\r\n"
    )
    assert b"CONNECT [2001:db8::1]:22 HTTP" in connect_request(PROXY, "2001:db8::1", 22)
    assert b"\r\nProxy-Authorization: Basic eA==\r\n" in connect_request(
        PROXY._replace(authorization=b"Basic eA=="), "a.test", 443
    )


def test_the_answer_is_read_to_the_end_of_its_head_and_no_further() -> None:
    head = b"HTTP/1.1 200 Connection established\r\nVia: x\r\n\r\n"
    for size in range(len(head)):
        assert head_length(head[:size]) == 0
    assert head_length(head + b"\r\n\r\nmore") == len(head)
    assert read_status(head) == 200
    with pytest.raises(PeerError):
        head_length(b"x" * MAX_ANSWER)


@given(st.binary(max_size=50))
def test_any_answer_is_a_status_or_refused(data: bytes) -> None:
    try:
        assert 0 <= read_status(data) <= 999
    except PeerError as error:
        assert str(error).isascii()
