"""Connections through a proxy of the host's: a real one on loopback, with TLS and plain HTTP behind it."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

import pytest

from netpolicy.hostproxy import HostProxies, HostProxy
from netpolicy.policy import compile_policy
from netpolicy.wall import Timeouts
from tests.netpolicy.greetings import openssl_hello
from tests.netpolicy.serving import PATIENCE, Authority, Canary, allow, echo, is_reset, read_all, session, to

SECRET = b"Basic c2VjcmV0OnNlY3JldA=="


class Proxy:
    """Speaks CONNECT and requests in absolute form; knows names by itself; keeps every head that it was sent."""

    answer = b"HTTP/1.1 200 OK\r\n\r\n"

    def __init__(self, names: dict[str, int], greeting: bytes = b"") -> None:
        self.names = names
        self.greeting = greeting
        self.heads: list[bytes] = []

    def serve(self, client: socket.socket) -> None:
        data = b""
        while b"\r\n\r\n" not in data:
            piece = client.recv(65_536)
            if not piece:
                return
            data += piece
        self.heads.append(data)
        method, target, _ = data.split(b" ", 2)
        if method != b"CONNECT":
            client.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nplain")
            read_all(client)
            return
        # One piece at a time, so that nothing may rely on where a segment ends.
        for at in range(len(self.answer)):
            client.sendall(self.answer[at : at + 1])
        client.sendall(self.greeting)
        port = self.names[target.decode().rpartition(":")[0]]
        with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as there:
            carry(client, there)


def carry(client: socket.socket, there: socket.socket) -> None:
    import select

    ends = {client: there, there: client}
    while ends:
        for ready in select.select(list(ends), [], [], PATIENCE)[0]:
            data = ready.recv(65_536)
            if data:
                ends[ready].sendall(data)
                continue
            with contextlib.suppress(OSError):
                ends[ready].shutdown(socket.SHUT_WR)
            del ends[ready]


@contextlib.contextmanager
def proxied(proxy: Proxy, *direct: str, authorization: bytes = b"") -> Iterator[HostProxies]:
    with Canary(proxy.serve) as listening:
        found = HostProxy("127.0.0.1", listening.port, authorization)
        yield HostProxies(found, found, direct)


def no_name(host: str) -> list[str]:
    raise AssertionError(f"{host} was looked up, which is the proxy's to do")


def test_an_allowed_name_is_asked_of_the_proxy_and_never_looked_up() -> None:
    authority = Authority("a.test")
    with Canary(authority.echo) as canary:
        proxy = Proxy({"a.test": canary.port})
        with (
            proxied(proxy, authorization=SECRET) as proxies,
            session(allow("a.test"), resolve=no_name, host_proxies=proxies) as wall,
        ):
            with authority.client.wrap_socket(wall.connect("tls"), server_hostname="a.test") as client:
                client.sendall(b"through two walls")
                assert client.recv(100) == b"through two walls"
            with wall.connect("tls") as denied:
                denied.sendall(openssl_hello("d.test"))
                assert read_all(denied)[-1] == 49
            summary = wall.finish()
            log = wall.log()
    assert [head.split(b"\r\n")[0] for head in proxy.heads] == [b"CONNECT a.test:443 HTTP/1.1"]
    assert SECRET in proxy.heads[0]
    assert [each["host"] for each in summary["allowed"]] == ["a.test"]
    assert [each["host"] for each in summary["denied"]] == ["d.test"]
    assert "c2VjcmV0" not in str(log)
    assert "secret" not in str(log)


def test_what_the_other_end_says_first_is_not_lost() -> None:
    """It comes right after the proxy's own answer, in one segment with its last octet or not."""
    hello = openssl_hello("a.test")
    with Canary(echo) as canary:
        proxy = Proxy({"a.test": canary.port}, greeting=b"220 hello\r\n\r\n")
        with (
            proxied(proxy) as proxies,
            session(allow("a.test"), resolve=no_name, host_proxies=proxies) as wall,
            wall.connect("tls") as client,
        ):
            client.sendall(hello)
            client.shutdown(socket.SHUT_WR)
            assert read_all(client) == proxy.greeting + hello


def test_plain_http_goes_out_in_absolute_form_with_the_proxys_credentials_alone() -> None:
    proxy = Proxy({})
    request = (
        b"GET /path?q HTTP/1.1\r\nHost: a.test\r\nProxy-Authorization: Basic bWluZQ==\r\n"
        b"Connection: close\r\n\r\n"
    )
    with (
        proxied(proxy, authorization=SECRET) as proxies,
        session(allow("a.test:80"), resolve=no_name, host_proxies=proxies) as wall,
        wall.connect("http") as client,
    ):
        client.sendall(request)
        assert read_all(client).endswith(b"plain")
    head = proxy.heads[0]
    assert head.startswith(b"GET http://a.test/path?q HTTP/1.1\r\n")
    assert head.lower().count(b"proxy-authorization") == 1
    assert SECRET in head


def test_no_proxy_and_the_users_own_target_are_dialled_directly() -> None:
    authority = Authority("a.test", "b.test")
    with Canary(authority.echo) as canary, Canary(authority.echo) as behind:
        proxy = Proxy({"b.test": behind.port, "a.test": behind.port})
        policy = allow("a.test", "b.test", targets=to(canary, "a.test"))
        with proxied(proxy) as proxies, session(policy, resolve=no_name, host_proxies=proxies) as wall:
            for name in ("a.test", "b.test"):
                with authority.client.wrap_socket(wall.connect("tls"), server_hostname=name) as client:
                    client.sendall(b"x")
                    assert client.recv(1) == b"x"
        assert (canary.hits, behind.hits) == (1, 1)
        asked: list[str] = []

        def resolve(host: str) -> list[str]:
            asked.append(host)
            return ["127.0.0.1"]

        with (
            proxied(proxy, "b.test") as proxies,
            session(policy, resolve=resolve, host_proxies=proxies) as wall,
            wall.connect("tls") as client,
        ):
            client.sendall(openssl_hello("b.test"))
            assert read_all(client)[-1] == 49, "dialled directly, and judged by its address"
        assert asked == ["b.test"]
        assert behind.hits == 1


@pytest.mark.parametrize(
    ("answer", "word"),
    [
        (b"HTTP/1.1 403 Forbidden\r\n\r\n", "answered 403"),
        (b"HTTP/1.1 407 Authentication required\r\nProxy-Authenticate: Basic\r\n\r\n", "NAME:PASSWORD"),
        (b"HTTP/1.1 503 No\r\n\r\n", "answered 503"),
        (b"SSH-2.0-other\r\n\r\n", "as an HTTP proxy does"),
        (b"HTTP/1.1 200", "hung up"),
        (b"", "hung up"),
        (b"HTTP/1.1 200 OK\r\n" + b"x" * 20_000, "too long"),
    ],
)
def test_a_proxy_that_does_not_open_a_tunnel_is_told_of(answer: bytes, word: str) -> None:
    def serve(client: socket.socket) -> None:
        client.recv(4096)
        client.sendall(answer)
        client.shutdown(socket.SHUT_WR)
        read_all(client)

    with Canary(serve) as listening:
        proxies = HostProxies(HostProxy("127.0.0.1", listening.port), None, ())
        with session(allow("a.test"), host_proxies=proxies) as wall:
            with wall.connect("tls") as client:
                client.sendall(openssl_hello("a.test"))
                assert read_all(client)[-1] == 80
            (failed,) = wall.finish()["failed"]
    assert word in failed["reason"]
    assert failed["code"] == "upstream-proxy"


def test_a_silent_proxy_and_one_that_can_not_be_used_fail_in_time() -> None:
    hello = openssl_hello("a.test")
    with Canary(read_all) as listening:
        for found, code in (
            (HostProxy("127.0.0.1", listening.port), "upstream-proxy-timeout"),
            ("it can't be used", "upstream-proxy"),
        ):
            proxies = HostProxies(found, None, ())
            with session(allow("a.test"), host_proxies=proxies, timeouts=Timeouts(connect=0.2)) as wall:
                with wall.connect("tls") as client:
                    client.sendall(hello)
                    assert read_all(client)[-1] == 80
                assert [each["code"] for each in wall.finish()["failed"]] == [code]


def test_an_unrestricted_session_can_not_reach_private_addresses_by_the_hosts_proxy() -> None:
    """The listener's own address stands for the one that the session chose: loopback."""
    proxy = Proxy({})
    policy = compile_policy("unrestricted")
    with proxied(proxy) as proxies, session(policy, resolve=no_name, host_proxies=proxies) as wall:
        assert is_reset(lambda: wall.connect("tcp"))
        (denied,) = wall.finish()["denied"]
    assert denied["code"] == "private-address"
    assert proxy.heads == []
