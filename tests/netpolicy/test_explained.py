"""Denied names told why inside TLS, from end to end; each beside an allowed one in the same set-up."""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import pytest

from netpolicy import proxy
from netpolicy.certificates import make_authority
from netpolicy.wall import Timeouts
from tests.netpolicy.looping import Clock
from tests.netpolicy.serving import Authority, Canary, Session, allow, read_all, session, to

REFUSALS = make_authority(datetime.now(UTC))


class World:
    """A wall that explains itself, and a real server behind it whose hits are counted."""

    def __init__(self, wall: Session, canary: Canary, real: Authority) -> None:
        self.wall = wall
        self.canary = canary
        self.real = real
        self.client = ssl.create_default_context()
        self.client.load_verify_locations(cadata=REFUSALS.certificate.decode())

    def ask(self, request: bytes, host: str = "d.test") -> bytes:
        with self.tls(host) as tls:
            tls.sendall(request)
            return read_all(tls)

    def tls(self, host: str) -> ssl.SSLSocket:
        return self.client.wrap_socket(
            self.wall.connect("tls"), server_hostname=host, suppress_ragged_eofs=False
        )


@contextlib.contextmanager
def world(timeouts: Timeouts = Timeouts()) -> Iterator[World]:  # noqa: B008
    real = Authority("a.test", "d.test")
    with (
        Canary(real.echo) as canary,
        session(
            allow("a.test", targets=to(canary, "a.test", "d.test")), timeouts=timeouts, refusals=REFUSALS
        ) as wall,
    ):
        yield World(wall, canary, real)


GET = b"GET /secret?token=x HTTP/1.1\r\nHost: d.test\r\n\r\n"


def test_a_denied_name_is_told_why_for_people_and_for_programs() -> None:
    with world() as here:
        answer = here.ask(GET)
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 403 Forbidden\r\n")
        assert b"\r\nX-Sandbox-Denied: not-allowed\r\n" in head
        assert b"d.test is not among the allowed hosts" in body
        assert b"--allow d.test" in body
        summary = here.wall.finish()
        assert here.canary.hits == 0
        assert [(each["host"], each["port"], each["count"]) for each in summary["denied"]] == [
            ("d.test", 443, 1)
        ]


def test_an_allowed_name_meets_the_real_server_and_never_the_walls_certificate() -> None:
    with world() as here:
        with here.real.client.wrap_socket(here.wall.connect("tls"), server_hostname="a.test") as client:
            client.sendall(b"hello")
            assert client.recv(100) == b"hello"
        with pytest.raises(ssl.SSLCertVerificationError), here.tls("a.test"):
            pass
        assert here.canary.hits == 2


def test_a_client_that_does_not_trust_the_wall_gets_nothing_at_all() -> None:
    with world() as here:
        with pytest.raises(ssl.SSLCertVerificationError):
            here.real.client.wrap_socket(here.wall.connect("tls"), server_hostname="d.test")
        summary = here.wall.finish()
        assert (here.canary.hits, len(summary["denied"])) == (0, 1)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_an_http_library_reads_it_with_either_version_of_tls(version: ssl.TLSVersion) -> None:
    with world() as here:
        here.client.minimum_version = here.client.maximum_version = version
        here.client.set_alpn_protocols(["h2", "http/1.1"])
        connection = http.client.HTTPConnection("d.test")
        connection.sock = here.tls("d.test")
        assert connection.sock.selected_alpn_protocol() == "http/1.1"
        connection.request("POST", "/", body=b"x" * 200_000)
        response = connection.getresponse()
        assert (response.status, response.getheader("X-Sandbox-Denied")) == (403, "not-allowed")
        assert b"d.test" in response.read()
        connection.close()


def test_a_head_request_gets_a_head() -> None:
    with world() as here:
        head, _, body = here.ask(GET.replace(b"GET", b"HEAD")).partition(b"\r\n\r\n")
        assert b"403" in head
        assert body == b""


def test_what_the_client_sends_byte_by_byte_is_understood_too() -> None:
    with world() as here, here.tls("d.test") as tls:
        for byte in GET:
            tls.send(bytes((byte,)))
        assert read_all(tls).startswith(b"HTTP/1.1 403")


NO_REQUEST = {
    "another protocol": b"EHLO d.test\r\n",
    "bytes": b"\x00\x01\x02\x03",
    "an endless head": b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 20_000,
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
}


@pytest.mark.parametrize("words", NO_REQUEST.values(), ids=NO_REQUEST)
def test_what_is_no_request_ends_the_connection_and_no_more(words: bytes) -> None:
    with world(Timeouts(hello=3)) as here:
        try:
            assert b"200" not in here.ask(words)
        except (ssl.SSLError, ConnectionError):
            pass
        assert here.ask(GET).startswith(b"HTTP/1.1 403")
        assert here.canary.hits == 0


def test_a_client_that_says_nothing_more_is_cut_after_its_time(clock: Clock) -> None:
    with world() as here:
        with here.tls("d.test") as tls:
            here.wall.skip(clock, Timeouts().hello)
            tls.settimeout(10)
            with contextlib.suppress(ssl.SSLError):
                assert tls.recv(1) == b""
        assert here.ask(GET).startswith(b"HTTP/1.1 403")


def test_a_client_that_goes_away_at_any_moment_disturbs_nobody() -> None:
    with world() as here:
        for sent in (b"", b"GET /"):
            tls = here.tls("d.test")
            tls.sendall(sent)
            tls.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            tls.close()
        assert here.ask(GET).startswith(b"HTTP/1.1 403")
        assert here.canary.hits == 0


def test_a_name_that_leads_to_a_private_address_is_told_so_inside_tls() -> None:
    real = Authority("a.test")
    with (
        Canary(real.echo) as canary,
        session(allow("a.test"), resolve=lambda _host: ["10.1.2.3"], refusals=REFUSALS) as wall,
    ):
        here = World(wall, canary, real)
        answer = here.ask(GET, "a.test")
        assert answer.startswith(b"HTTP/1.1 403")
        assert b"private" in answer


def test_no_more_are_explained_at_a_time_than_there_is_memory_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proxy, "MAX_EXPLAINED", 2)
    with world() as here:
        for _ in range(3):
            with here.tls("d.test") as first, here.tls("d.test") as second:
                with pytest.raises(ssl.SSLError, match=r"(?i)access.denied"):
                    here.tls("d.test")
                for tls in (first, second):
                    tls.sendall(GET)
                    assert read_all(tls).startswith(b"HTTP/1.1 403")
            # Until the clients' goodbyes have arrived, those two count.
            eventually(lambda: here.ask(GET).startswith(b"HTTP/1.1 403"))


def eventually(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while True:
        try:
            assert true()
            return
        except ssl.SSLError:
            assert time.monotonic() < end
            time.sleep(0.01)


def test_without_an_authority_a_denied_name_gets_an_alert() -> None:
    real = Authority("d.test")
    with (
        session(allow("a.test")) as wall,
        wall.connect("tls") as plain,
        pytest.raises(ssl.SSLError, match=r"(?i)access.denied"),
    ):
        real.client.wrap_socket(plain, server_hostname="d.test")
