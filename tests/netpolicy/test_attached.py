"""What is attached to a host, from end to end: a real client, the wall, and a server that logs what it hears."""

from __future__ import annotations

import contextlib
import gc
import http.client
import os
import socket
import ssl
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import h11
import pytest
import trustme

from netpolicy import attached, proxy
from netpolicy.certificates import make_authority
from netpolicy.credentials import Credential, Secret, repository
from netpolicy.policy import Policy, compile_policy
from netpolicy.secured import SecuredEnd
from netpolicy.wall import Timeouts
from tests.netpolicy.serving import Canary, Session, allow, is_reset, read_all, session, to
from tests.netpolicy.test_exchange import Client
from tests.netpolicy.test_tunnel import Proxy, proxied

WALL = make_authority(datetime.now(UTC))
TOKEN = "canary-s3cret-0451"
OURS = repository("https://git.test/me/ours.git", TOKEN)
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Web(Canary):
    """An HTTPS server that keeps each request as (method, target, headers, body); by its path it answers."""

    def __init__(self, *names: str, secure: bool = True) -> None:
        super().__init__(self._serve_http)
        self.requests: list[tuple[str, str, dict[str, str], bytes]] = []
        authority = trustme.CA()
        self.ca: bytes = authority.cert_pem.bytes()
        self._context: ssl.SSLContext | None = None
        self.alpn: list[str | None] = []
        if secure:
            self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._context.set_alpn_protocols(["h2", "http/1.1"])
            authority.issue_cert(*names).configure_cert(self._context)

    def _serve_http(self, client: socket.socket) -> None:
        # A wall whose client went away breaks off in the middle.
        with contextlib.suppress(h11.RemoteProtocolError):
            if self._context is None:
                self._talk_http(client)
                return
            with self._context.wrap_socket(client, server_side=True) as secured:
                self.alpn.append(secured.selected_alpn_protocol())
                self._talk_http(secured)

    def _talk_http(self, client: socket.socket) -> None:
        while True:
            http = h11.Connection(h11.SERVER)
            request, body = None, b""
            while True:
                event = http.next_event()
                if event is h11.NEED_DATA:
                    http.receive_data(client.recv(65_536))
                elif isinstance(event, h11.Request):
                    request = event
                    if http.they_are_waiting_for_100_continue:
                        client.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
                elif isinstance(event, h11.Data):
                    body += bytes(event.data)
                elif isinstance(event, h11.EndOfMessage):
                    break
                else:
                    return
            assert request is not None
            headers = {name.decode(): value.decode() for name, value in request.headers}
            self.requests.append((request.method.decode(), request.target.decode(), headers, body))
            if request.target.endswith(b"/moved"):
                client.sendall(
                    b"HTTP/1.1 302 Found\r\nLocation: https://git.test/me/ours/x\r\nContent-Length: 0\r\n\r\n"
                )
            else:
                client.sendall(OK)

    @property
    def tokens(self) -> list[bool]:
        """For each request whether it had the token."""
        return [headers.get("authorization") == BASIC for _, _, headers, _ in self.requests]


BASIC = OURS.value.reveal() if OURS.value is not None else ""


class World:
    """A wall with something attached, a server behind it, and a client that trusts what sessions trust."""

    def __init__(self, wall: Session, web: Web) -> None:
        self.wall = wall
        self.web = web
        self.client = ssl.create_default_context()
        self.client.load_verify_locations(cadata=WALL.certificate.decode())

    def tls(self, host: str = "git.test") -> ssl.SSLSocket:
        return self.client.wrap_socket(self.wall.connect("tls"), server_hostname=host)

    def ask(self, *requests: bytes, host: str = "git.test") -> list[int]:
        """The status of the answer to each request of one connection, until one is refused."""
        found = []
        with self.tls(host) as tls:
            client = Client(tls)
            for request in requests:
                tls.sendall(request)
                method = request.split(b" ", 1)[0]
                found.append(client.read(b"HEAD" if method == b"HEAD" else b"GET")[0])
                if found[-1] not in (200, 302):
                    break
        return found


@contextlib.contextmanager
def world(
    *credentials: Credential,
    policy: Policy | None = None,
    timeouts: Timeouts = Timeouts(),  # noqa: B008
    names: tuple[str, ...] = ("git.test",),
    roots: bytes | None = None,
    **options: Any,
) -> Iterator[World]:
    """By default nothing but the credentials opens any host."""
    with Web(*names) as web:
        targets = to(web, "git.test", "other.test")
        chosen = allow(targets=targets) if policy is None else policy._replace(connect_to=tuple(targets))
        with session(
            chosen,
            timeouts=timeouts,
            refusals=WALL,
            credentials=credentials or (OURS,),
            roots=web.ca if roots is None else roots,
            **options,
        ) as wall:
            yield World(wall, web)


def get(path: str, host: str = "git.test", more: str = "", method: str = "GET") -> bytes:
    return f"{method} {path} HTTP/1.1\r\nHost: {host}\r\n{more}\r\n".encode()


def test_a_repository_gets_its_token_and_opens_itself_alone() -> None:
    with world() as here:
        assert here.ask(get("/me/ours.git/info/refs?service=git-upload-pack")) == [200]
        assert here.ask(get("/me/ours/info/refs")) == [200]
        assert here.ask(get("/me/theirs.git/info/refs")) == [403]
        assert here.ask(get("/")) == [403]
        assert here.web.tokens == [True, True]
        assert [target for _, target, _, _ in here.web.requests] == [
            "/me/ours.git/info/refs?service=git-upload-pack",
            "/me/ours/info/refs",
        ]
        (denied,) = here.wall.finish()["denied"]
        assert (denied["code"], denied["hint"]) == ("not-attached", "--allow git.test")
        lines = here.wall.log()
        assert [line["protocol"] for line in lines] == ["https"] * 4
        assert lines[0]["rule"] == "tls git.test 443 (repository https://git.test/me/ours)"
        assert TOKEN not in str(lines)
        assert BASIC[6:] not in str(lines)


def test_where_the_policy_opens_the_host_others_are_served_without_the_token() -> None:
    with world(policy=allow("git.test")) as here:
        paths = ("/me/ours.git/x", "/me/theirs.git/x", "/me/oursx", "/me", "/", "/me/ours")
        assert here.ask(*(get(path) for path in paths)) == [200] * len(paths)
        assert here.web.tokens == [True, False, False, False, False, True]
        rules = [line["rule"] for line in here.wall.log()]
        assert {rule.partition("(")[2] for rule in rules} == {
            "repository https://git.test/me/ours)",
            "allowed_hosts)",
        }
        # A host may take all requests of a connection for one user's.
        assert here.web.hits == 3


NO_TOKEN = {
    "dots": get("/me/ours.git/../theirs.git/x"),
    "dots at the end": get("/me/ours.git/.."),
    "escaped dots": get("/me/ours.git/%2e%2e/theirs.git/x"),
    "half escaped dots": get("/me/ours.git/.%2E/theirs.git/x"),
    "escaped slash": get("/me/ours.git%2f..%2ftheirs.git/x"),
    "escaped twice": get("/me/ours.git/%252e%252e/theirs.git/x"),
    "backslash": get("/me/ours.git/..\\theirs.git/x"),
    "escaped backslash": get("/me/ours.git/%5c../theirs.git"),
    "parameters": get("/me/ours.git/..;/theirs.git/x"),
    "empty segment": get("/me/ours.git//x"),
    "empty segment before": get("//me/ours.git/x"),
    "NUL": get("/me/ours.git/%00"),
    "fragment": get("/me/ours.git#/x"),
    "in the query": get("/?/me/ours.git/x"),
    "longer name": get("/me/ours.gitx/x"),
    "another case": get("/me/OURS.git/x"),
    "overlong UTF-8": get("/me/ours.git/%c0%ae%c0%ae/theirs.git"),
    "another path in a header": get("/me/ours.git/x", more="X-Original-URL: /me/theirs.git\r\n"),
    "another path in another header": get("/me/ours.git/x", more="X-Rewrite-Url: /me/theirs.git\r\n"),
    "another path in a header with another mark": get(
        "/me/ours.git/x", more="X_Original_URL: /me/theirs.git\r\n"
    ),
    "another method in a header": get("/me/ours.git/x", more="X-HTTP-Method-Override: DELETE\r\n"),
    "another host in a header": get("/me/ours.git/x", more="X-Forwarded-Host: other.test\r\n"),
    "TRACE, which is said back": get("/me/ours.git/x", method="TRACE"),
    "DELETE": get("/me/ours.git", method="DELETE"),
    "an invented method": get("/me/ours.git/x", method="get"),
}


@pytest.mark.parametrize("case", NO_TOKEN)
def test_what_could_be_for_something_else_gets_no_token(case: str) -> None:
    with world(policy=allow("git.test")) as here:
        answered = here.ask(NO_TOKEN[case], get("/me/ours.git/x"))
        if answered != [400]:  # where nobody would take it for a request
            assert answered == [200, 200]
            assert here.web.tokens == [False, True]
        with world() as strict:
            assert strict.ask(NO_TOKEN[case])[0] in (400, 403)
            assert strict.web.hits == 0


REFUSED = {
    "another host": (get("/me/ours.git/x", "other.test"), 403),
    "another port": (get("/me/ours.git/x", "git.test:80"), 403),
    "absolute": (get("https://git.test/me/ours.git/x"), 400),
    "absolute elsewhere": (get("https://other.test/me/ours.git/x"), 400),
    "CONNECT": (get("git.test:443", method="CONNECT"), 403),
    "no host": (b"GET /me/ours.git/x HTTP/1.0\r\n\r\n", 400),
    "two hosts": (get("/me/ours.git/x", more="Host: other.test\r\n"), 400),
    "an upgrade": (get("/me/ours.git/x", more="Connection: upgrade\r\nUpgrade: websocket\r\n"), 403),
    "two lengths": (get("/me/ours.git/x", more="Content-Length: 3\r\nTransfer-Encoding: chunked\r\n"), 400),
    "a folded header": (get("/me/ours.git/x", more="X: a\r\n\tb\r\n"), None),
    "a bare CR": (get("/me/ours.git/x", more="X: a\rAuthorization: b\r\n"), 400),
    "no HTTP": (b"\x00\x01\x02\r\n\r\n", 400),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_request_that_is_not_clearly_for_this_host_ends_the_connection(case: str) -> None:
    request, status = REFUSED[case]
    with world(policy=allow("git.test", "other.test")) as here:
        if status is None:
            assert here.ask(request) == [200]
            assert "\n" not in here.web.requests[0][2]["x"]
            return
        with here.tls() as tls:
            tls.sendall(request + get("/me/ours.git/after"))
            answer = read_all(tls)
        assert answer.startswith(b"HTTP/1.1 %d " % status), answer
        assert answer.count(b"HTTP/1.1 ") == 1
        assert here.web.hits == 0
        assert here.ask(get("/me/ours.git/x")) == [200]


def test_pipelined_requests_are_judged_each() -> None:
    with world() as here:
        with here.tls() as tls:
            tls.sendall(get("/me/ours.git/1") + get("/me/theirs.git/2") + get("/me/ours.git/3"))
            answer = read_all(tls)
        assert answer.count(b"HTTP/1.1 200") == 1
        assert answer.count(b"HTTP/1.1 403") == 1
        assert [target for _, target, _, _ in here.web.requests] == ["/me/ours.git/1"]
    with world(policy=allow("git.test")) as here:
        with here.tls() as tls:
            tls.sendall(b"".join(get(f"/me/{name}.git/x") for name in ("ours", "theirs", "ours")))
            client = Client(tls)
            assert [client.read()[0] for _ in range(3)] == [200] * 3
        assert here.web.tokens == [True, False, True]


def test_a_body_that_looks_like_a_request_is_a_body() -> None:
    inner = get("/me/ours.git/inner")
    with world(policy=allow("git.test")) as here:
        post = b"POST /me/theirs.git/x HTTP/1.1\r\nHost: git.test\r\nContent-Length: %d\r\n\r\n%s"
        chunked = b"POST /me/theirs.git/y HTTP/1.1\r\nHost: git.test\r\nTransfer-Encoding: chunked\r\n\r\n"
        chunked += b"%x\r\n%s\r\n0\r\n\r\n" % (len(inner), inner)
        assert here.ask(post % (len(inner), inner), chunked) == [200, 200]
        assert here.web.tokens == [False, False]
        assert [body for _, _, _, body in here.web.requests] == [inner, inner]


def test_the_clients_own_authorization_goes_no_further_where_ours_stands() -> None:
    own = "Authorization: Bearer mine\r\nProxy-Authorization: Basic eDp5\r\nConnection: authorization\r\n"
    with world(policy=allow("git.test")) as here:
        kept = "Authorization: Bearer mine\r\n"
        assert here.ask(get("/me/ours.git/x", more=own), get("/me/theirs.git/x", more=kept)) == [200, 200]
        assert [headers.get("authorization") for _, _, headers, _ in here.web.requests] == [
            BASIC,
            "Bearer mine",
        ]
        assert "proxy-authorization" not in here.web.requests[0][2]


def test_other_hosts_of_the_same_server_meet_its_own_certificate_and_no_token() -> None:
    with world(policy=allow("other.test"), names=("git.test", "other.test")) as here:
        direct = ssl.create_default_context(cadata=here.web.ca.decode())
        with direct.wrap_socket(here.wall.connect("tls"), server_hostname="other.test") as tls:
            tls.sendall(get("/me/ours.git/x", "other.test"))
            assert Client(tls).read()[0] == 200
        assert here.web.tokens == [False]
        with pytest.raises(ssl.SSLCertVerificationError):
            direct.wrap_socket(here.wall.connect("tls"), server_hostname="git.test")


def test_plain_http_and_other_ports_get_nothing() -> None:
    with world(policy=allow("git.test:80", "git.test:5432")) as here:
        with here.wall.connect("http") as plain:
            plain.sendall(get("/me/ours.git/x"))
            with contextlib.suppress(ConnectionError):
                plain.recv(100)
        assert is_reset(lambda: here.wall.connect("tcp"))
        assert here.web.requests == []
        assert here.ask(get("/me/ours.git/x")) == [200]


def test_a_host_that_cannot_prove_its_name_hears_nothing() -> None:
    """With the wrong name, with no authority that vouches for it, and with none at all."""
    with world(names=("another.test",)) as here, here.tls() as tls:
        tls.sendall(get("/me/ours.git/x"))
        status, headers, body = Client(tls).read()
        assert (status, headers[b"x-sandbox-failed"]) == (502, b"certificate")
        assert b"its certificate is not accepted" in body
        assert here.web.requests == []
    for roots in (b"", trustme.CA().cert_pem.bytes(), b"-----BEGIN CERTIFICATE-----\nx\n"):
        with world(roots=roots) as here:
            assert here.ask(get("/me/ours.git/x")) == [502]
            assert here.web.requests == []
            assert here.wall.finish()["failed"][0]["code"] == "certificate"


def test_a_host_that_does_not_speak_tls_is_a_bad_gateway() -> None:
    with (
        Canary(lambda client: client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")) as canary,
        session(allow(targets=to(canary, "git.test")), refusals=WALL, credentials=[OURS]) as wall,
    ):
        here = World(wall, None)  # type: ignore[arg-type]
        assert here.ask(get("/me/ours.git/x")) == [502]
        assert wall.finish()["failed"][0]["code"] == "tls"


def test_private_addresses_are_vetoed_for_attached_hosts_too() -> None:
    with session(allow(), resolve=lambda _: ["10.1.2.3"], refusals=WALL, credentials=[OURS]) as wall:
        assert World(wall, None).ask(get("/me/ours.git/x")) == [403]  # type: ignore[arg-type]
        assert wall.finish()["denied"][0]["code"] == "private-address"


def test_a_proxy_of_the_hosts_carries_it_and_sees_nothing_of_it() -> None:
    with Web("git.test") as web, Web("mirror.test") as mirror:
        upstream = Proxy({"git.test": web.port, "mirror.test": mirror.port})
        with (
            proxied(upstream) as proxies,
            session(allow(), refusals=WALL, credentials=[OURS], roots=web.ca, host_proxies=proxies) as wall,
        ):
            here = World(wall, web)
            assert here.ask(get("/me/ours/x"), get("/me/ours/y")) == [200, 200]
            assert web.tokens == [True, True]
            elsewhere = repository(
                "https://git.test/me/ours", TOKEN, rewrite="https://mirror.test/x", ca=mirror.ca
            )
            wall.attach(elsewhere)
            assert here.ask(get("/me/ours/x")) == [200]
            assert mirror.tokens == [True]
            # What the user names by its address is not the proxy's to reach.
            direct = repository(
                "https://git.test/me/ours", TOKEN, rewrite=f"https://127.0.0.1:{web.port}", ca=web.ca
            )
            wall.attach(direct)
            assert here.ask(get("/me/ours/x")) == [502], "its certificate is for git.test"
        assert [head.split(b"\r\n", 1)[0] for head in upstream.heads] == [
            b"CONNECT git.test:443 HTTP/1.1",
            b"CONNECT mirror.test:443 HTTP/1.1",
        ]
        assert BASIC.encode() not in b"".join(upstream.heads)


def test_redirects_are_the_clients_to_follow_and_judged_anew() -> None:
    with world(policy=allow("git.test")) as here:
        assert here.ask(get("/me/theirs/moved")) == [302]
        assert here.web.tokens == [False]


def test_credentials_come_and_go_on_a_live_session() -> None:
    with world(policy=allow("git.test")) as here, here.tls() as tls:
        client = Client(tls)

        def ask() -> bool:
            tls.sendall(get("/me/ours.git/x"))
            assert client.read()[0] == 200
            return here.web.tokens[-1]

        assert ask()
        rotated = repository("https://git.test/me/ours", "another")
        here.wall.attach(rotated, roots=here.web.ca)
        assert not ask()
        assert rotated.value is not None
        assert here.web.requests[-1][2]["authorization"] == rotated.value.reveal()
        here.wall.attach(roots=here.web.ca)
        assert not ask()
        assert "authorization" not in here.web.requests[-1][2]
        here.wall.attach(OURS, roots=here.web.ca)
        assert ask()
    with world() as here, here.tls() as tls:
        client = Client(tls)
        tls.sendall(get("/me/ours.git/x"))
        assert client.read()[0] == 200
        here.wall.attach()
        tls.sendall(get("/me/ours.git/x"))
        assert client.read()[0] == 403
        # Without anything attached, nobody speaks for the host but itself.
        answer = here.tls()
        answer.sendall(get("/me/ours.git/x"))
        assert b"not among the allowed hosts" in read_all(answer)
        answer.close()
        assert here.web.tokens == [True]


def test_a_body_that_the_server_does_not_read_is_not_read_of_the_program_either() -> None:
    done = threading.Event()

    def serve(client: socket.socket) -> None:
        with context.wrap_socket(client, server_side=True) as secured:
            secured.recv(1000)
            done.wait(30)

    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("git.test").configure_cert(context)
    with (
        Canary(serve) as canary,
        session(
            allow(targets=to(canary, "git.test")),
            refusals=WALL,
            credentials=[OURS],
            roots=authority.cert_pem.bytes(),
        ) as wall,
        World(wall, None).tls() as tls,  # type: ignore[arg-type]
    ):
        tls.sendall(get("/me/ours.git/x", method="POST", more="Content-Length: 100000000\r\n"))
        tls.settimeout(1)
        written = 0
        with pytest.raises(TimeoutError):
            while written < 60_000_000:
                written += tls.send(bytes(100_000))
        done.set()


def test_a_large_body_arrives_whole_and_is_answered() -> None:
    data = os.urandom(5_000_000)
    with world() as here:
        connection = http.client.HTTPConnection("git.test")
        connection.sock = here.tls()
        connection.sock.settimeout(30)
        connection.request(
            "POST", "/me/ours.git/git-receive-pack", body=data, headers={"Expect": "100-continue"}
        )
        assert connection.getresponse().read() == b"ok"
        chunks = (data[at : at + 70_001] for at in range(0, len(data), 70_001))
        connection.request("POST", "/me/ours.git/git-receive-pack", body=chunks, encode_chunked=True)
        assert connection.getresponse().read() == b"ok"
        connection.close()
        assert [body == data for _, _, _, body in here.web.requests] == [True, True]
        assert here.web.tokens == [True, True]
        allowed = here.wall.finish()["allowed"]
        assert allowed[0]["sent"] > 2 * len(data)


def test_http_1_1_is_all_that_either_side_is_offered() -> None:
    with world() as here:
        here.client.set_alpn_protocols(["h2", "http/1.1"])
        with here.tls() as tls:
            assert tls.selected_alpn_protocol() == "http/1.1"
            tls.sendall(get("/me/ours.git/x"))
            assert Client(tls).read()[0] == 200
        assert here.web.alpn == ["http/1.1"]


def test_a_rewritten_repository_is_reached_where_the_user_says() -> None:
    with Web("127.0.0.1") as web, session(allow(), refusals=WALL) as wall:
        here = World(wall, web)
        there = f"https://127.0.0.1:{web.port}/mirror/ours.git"
        wall.attach(repository("https://git.test/me/ours", TOKEN, rewrite=there, ca=web.ca))
        for path in ("/me/ours.git/info/refs?service=x", "/me/ours/info/refs", "/me/ours.git"):
            assert here.ask(get(path)) == [200]
        assert here.ask(get("/me/theirs/info/refs")) == [403]
        assert [target for _, target, _, _ in web.requests] == [
            "/mirror/ours.git/info/refs?service=x",
            "/mirror/ours.git/info/refs",
            "/mirror/ours.git",
        ]
        assert web.tokens == [True] * 3
        assert web.requests[0][2]["host"] == f"127.0.0.1:{web.port}"
        # The same without its authority: the host's own don't vouch for it.
        wall.attach(repository("https://git.test/me/ours", TOKEN, rewrite=there))
        assert here.ask(get("/me/ours/x")) == [502]
        assert len(web.requests) == 3


def test_a_remote_without_tls_serves_too() -> None:
    with Web(secure=False) as web, session(allow(), refusals=WALL) as wall:
        there = f"http://127.0.0.1:{web.port}"
        wall.attach(repository("https://git.test/me/ours", TOKEN, rewrite=there))
        assert World(wall, web).ask(get("/me/ours/info/refs"), get("/me/ours.git")) == [200, 200]
        assert [target for _, target, _, _ in web.requests] == ["/info/refs", "/"]


def test_a_repository_without_a_token_is_opened_and_nothing_is_added() -> None:
    with world(repository("https://git.test/me/public")) as here:
        own = "Authorization: Bearer mine\r\n"
        assert here.ask(get("/me/public.git/info/refs", more=own), get("/me/ours/x")) == [200, 403]
        assert here.web.requests[0][2]["authorization"] == "Bearer mine"


def test_the_most_specific_of_several_credentials_counts() -> None:
    whole = Credential("git.test", 443, "the whole host", (), "x-key", Secret("all"))
    with world(whole, OURS, repository("https://git.test/me/ours/deep", "deep")) as here:
        assert here.ask(get("/me/ours/x"), get("/me/ours/deep/x"), get("/else")) == [200] * 3
        first, second, third = (headers for _, _, headers, _ in here.web.requests)
        assert first["authorization"] == BASIC
        assert second["authorization"] not in (BASIC, "")
        assert (third["x-key"], "authorization" in third) == ("all", False)


def test_a_blocked_host_stays_blocked() -> None:
    from netpolicy.blocklist import parse_blocklist

    policy = compile_policy("limited", ["git.test"], blocks=parse_blocklist("git.test\n", "list"))
    with world(policy=policy) as here, here.tls() as tls:
        tls.sendall(get("/me/ours/x"))
        assert b"git.test is blocked" in read_all(tls)
        assert here.web.hits == 0


def test_without_an_authority_nothing_is_added_and_nothing_gets_out() -> None:
    with (
        Web("git.test") as web,
        session(allow("git.test", targets=to(web, "git.test")), credentials=[OURS], roots=web.ca) as wall,
    ):
        with pytest.raises(ssl.SSLError):
            World(wall, web).tls()
        assert web.hits == 0
        assert wall.finish()["failed"][0]["code"] == "attached"


def test_there_is_a_most_of_connections_inside_tls_and_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proxy, "MAX_EXPLAINED", 1)
    with world() as here:
        with here.tls() as held:
            with pytest.raises(ssl.SSLError):
                here.tls()
            held.sendall(get("/me/ours/x"))
            assert Client(held).read()[0] == 200
        assert here.wall.finish()["failed"][0]["code"] == "attached"


def test_a_program_that_does_not_trust_the_wall_is_told_of_in_the_record() -> None:
    with world() as here:
        distrusting = ssl.create_default_context(cadata=here.web.ca.decode())
        with pytest.raises(ssl.SSLCertVerificationError):
            distrusting.wrap_socket(here.wall.connect("tls"), server_hostname="git.test")
        assert here.ask(get("/me/ours/x")) == [200]
        (failed,) = here.wall.finish()["failed"]
        assert failed["code"] == "handshake"


@pytest.mark.parametrize("moment", ["greeting", "handshake", "half a request", "half a body"])
def test_a_client_that_goes_away_at_any_moment_disturbs_nobody(moment: str) -> None:
    with world() as here:
        if moment == "greeting":
            plain = here.wall.connect("tls")
            incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            tls = here.client.wrap_bio(incoming, outgoing, server_hostname="git.test")
            with contextlib.suppress(ssl.SSLWantReadError):
                tls.do_handshake()
            plain.sendall(outgoing.read())
            assert plain.recv(1)
        else:
            plain = here.tls()
            if moment == "half a request":
                plain.sendall(get("/me/ours/x")[:20])
            elif moment == "half a body":
                plain.sendall(get("/me/ours/x", method="POST", more="Content-Length: 10\r\n") + b"abc")
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        plain.close()
        assert here.ask(get("/me/ours/x")) == [200]


def test_a_client_that_says_nothing_more_is_cut_after_its_time() -> None:
    with world(timeouts=Timeouts(hello=0.5)) as here:
        with here.wall.connect("tls") as plain:
            incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            tls = here.client.wrap_bio(incoming, outgoing, server_hostname="git.test")
            with pytest.raises(ssl.SSLWantReadError):
                tls.do_handshake()
            plain.sendall(outgoing.read())
            with contextlib.suppress(ConnectionError):
                while plain.recv(65_536):
                    pass
        with contextlib.suppress(ConnectionError, ssl.SSLError), here.tls() as silent:
            assert silent.recv(1) == b""
        assert here.web.hits == 0


def test_a_host_that_never_answers_the_handshake_is_a_gateway_timeout() -> None:
    def listen(client: socket.socket) -> None:
        while client.recv(65_536):
            pass

    with (
        Canary(listen) as canary,
        session(
            allow(targets=to(canary, "git.test")),
            refusals=WALL,
            credentials=[OURS],
            timeouts=Timeouts(connect=0.3),
        ) as wall,
    ):
        assert World(wall, None).ask(get("/me/ours.git/x")) == [504]  # type: ignore[arg-type]
        assert wall.finish()["failed"][0]["code"] == "connect-timeout"


def test_serving_leaves_no_descriptor_and_no_held_memory_behind(tmp_path: Path) -> None:
    def count() -> int:
        return len(os.listdir("/proc/self/fd"))

    def once() -> None:
        with world() as here:
            for path in ("/me/ours/x", "/me/theirs/x"):
                here.ask(get(path))
            with contextlib.suppress(ssl.SSLError):
                ssl.create_default_context().wrap_socket(here.wall.connect("tls"), server_hostname="git.test")

    once()
    gc.collect()
    before = count()
    once()
    assert count() == before


@pytest.mark.parametrize("moment", ["judging", "reaching", "answering"])
def test_a_fault_in_one_connection_cuts_it_and_no_other(moment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    place, name = {
        "judging": (attached.Attached, "judge"),
        "reaching": (attached._Reaching, "_agreed"),
        "answering": (SecuredEnd, "goodbye"),
    }[moment]

    def fail(*_: object) -> None:
        raise RuntimeError(TOKEN)

    with world() as here:
        with monkeypatch.context() as patch, here.tls() as tls:
            patch.setattr(place, name, fail)
            tls.sendall(get("/me/ours/x", more="Connection: close\r\n"))
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                read_all(tls)
        assert here.ask(get("/me/ours/x")) == [200]
        failed = here.wall.finish()["failed"]
        assert [each["code"] for each in failed] == ["internal"]
        assert TOKEN not in str(failed)
