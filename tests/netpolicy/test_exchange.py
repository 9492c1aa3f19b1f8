"""Plain HTTP from end to end: each request on its own, whatever its connection carried before."""

from __future__ import annotations

import hashlib
import os
import socket
import threading
from collections.abc import Callable

import h11
import pytest

from netpolicy.policy import ConnectTo, Endpoint, compile_policy
from netpolicy.wall import Timeouts
from tests.netpolicy.looping import Clock
from tests.netpolicy.serving import PATIENCE, Canary, Session, allow, read_all, session, to

GET = b"GET %s HTTP/1.1\r\nHost: %s\r\n\r\n"
CLOSING = b"GET %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Web(Canary):
    """An HTTP server that records each request as it was received and answers by its path."""

    def __init__(self, answer: Callable[[bytes, bytes], bytes] = lambda _path, _body: OK) -> None:
        super().__init__(self._serve_http)
        self.requests: list[tuple[bytes, bytes, dict[bytes, bytes], bytes]] = []
        self._answer = answer

    def _serve_http(self, client: socket.socket) -> None:
        http = h11.Connection(h11.SERVER)
        while True:
            request, body = None, b""
            while True:
                try:
                    event = http.next_event()
                except h11.RemoteProtocolError:
                    return
                if event is h11.NEED_DATA:
                    http.receive_data(client.recv(65_536))
                elif isinstance(event, h11.Request):
                    request = event
                elif isinstance(event, h11.Data):
                    body += bytes(event.data)
                elif isinstance(event, h11.EndOfMessage):
                    break
                else:
                    return
            assert request is not None
            headers = list(request.headers)
            self.requests.append((request.method, request.target, dict(headers), body))
            assert len(dict(headers)) == len(headers)
            response = self._answer(request.target, body)
            client.sendall(response)
            if b"close" in response.partition(b"\r\n\r\n")[0].lower() or not response:
                client.shutdown(socket.SHUT_WR)
                return
            http = h11.Connection(h11.SERVER)

    @property
    def paths(self) -> list[bytes]:
        return [target for _, target, _, _ in self.requests]


class Client:
    """A client that reads one response after the other from one connection."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self._rest = b""

    def read(self, method: bytes = b"GET") -> tuple[int, dict[bytes, bytes], bytes]:
        http = h11.Connection(h11.CLIENT)
        http.send(h11.Request(method=method, target=b"/", headers=[(b"host", b"x")]))
        http.send(h11.EndOfMessage())
        if self._rest:
            http.receive_data(self._rest)
        response, body = None, b""
        while True:
            event = http.next_event()
            if event is h11.NEED_DATA:
                http.receive_data(self.connection.recv(65_536))
            elif isinstance(event, h11.Response):
                response = event
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                break
            elif isinstance(event, h11.ConnectionClosed):
                raise ConnectionError("no response")
        self._rest = http.trailing_data[0]
        assert response is not None
        return response.status_code, dict(response.headers), body


def ask(wall: Session, data: bytes, method: bytes = b"GET") -> tuple[int, dict[bytes, bytes], bytes]:
    with wall.connect("http") as connection:
        connection.sendall(data)
        return Client(connection).read(method)


def test_an_allowed_request_is_served_and_counted() -> None:
    with Web() as web, session(allow("a.test:80", targets=to(web, "a.test"))) as wall:
        status, headers, body = ask(wall, GET % (b"/x?secret", b"A.test"))
        assert (status, body) == (200, b"ok")
        assert b"x-sandbox-denied" not in headers
        assert web.requests == [(b"GET", b"/x?secret", {b"host": b"A.test"}, b"")]
        summary = wall.finish()
        assert summary["denied"] == []
        assert summary["allowed"][0]["host"] == "a.test"
        assert "secret" not in str(wall.log())


def test_a_denied_request_gets_a_403_that_explains_itself() -> None:
    with Web() as web, session(allow("a.test:80", targets=to(web, "a.test", "d.test"))) as wall:
        status, headers, body = ask(wall, GET % (b"/", b"d.test"))
        assert status == 403
        assert headers[b"x-sandbox-denied"] == b"not-allowed"
        assert b"d.test is not among the allowed hosts" in body
        assert b"--allow d.test:80" in body
        assert ask(wall, GET % (b"/", b"a.test"))[0] == 200
        assert [each["hint"] for each in wall.finish()["denied"]] == ["--allow d.test:80"]
        assert web.hits == 1


def test_plain_http_to_a_host_that_is_allowed_for_tls_alone_says_so() -> None:
    with Web() as web, session(allow("a.test", targets=to(web, "a.test"))) as wall:
        status, headers, body = ask(wall, GET % (b"/", b"a.test"))
        assert (status, headers[b"x-sandbox-denied"]) == (403, b"plain-http")
        assert b"allowed for TLS on port 443 only" in body
        assert b"--allow a.test:80" in body
        assert web.hits == 0


REFUSED: dict[str, tuple[bytes, int, str]] = {
    "no host": (b"GET / HTTP/1.0\r\n\r\n", 400, "host-header"),
    "two hosts": (b"GET / HTTP/1.1\r\nHost: a.test\r\nHost: d.test\r\n\r\n", 400, "malformed"),
    "the same host twice": (b"GET / HTTP/1.1\r\nHost: a.test\r\nHost: a.test\r\n\r\n", 400, "malformed"),
    "user information": (b"GET / HTTP/1.1\r\nHost: a.test@d.test\r\n\r\n", 403, "bad-name"),
    "target of another host": (b"GET http://d.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n", 403, "host-mismatch"),
    "header of another host": (b"GET http://a.test/ HTTP/1.1\r\nHost: d.test\r\n\r\n", 403, "host-mismatch"),
    "another port": (b"GET / HTTP/1.1\r\nHost: a.test:8080\r\n\r\n", 403, "host-mismatch"),
    "tunnel": (b"CONNECT a.test:443 HTTP/1.1\r\nHost: a.test\r\n\r\n", 403, "connect"),
    "websocket": (
        b"GET / HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        403,
        "upgrade",
    ),
    "two lengths": (
        b"POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
        "smuggling",
    ),
    "two different lengths": (
        b"POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nabcde",
        400,
        "malformed",
    ),
    "an encoding that is not chunked": (
        b"POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        400,
        "malformed",
    ),
    "two encodings": (
        b"POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n0\r\n\r\n",
        400,
        "malformed",
    ),
    "space before the colon": (b"GET / HTTP/1.1\r\nHost : a.test\r\n\r\n", 400, "malformed"),
    "a zero octet in a header": (b"GET / HTTP/1.1\r\nHost: a.test\r\nX: \x00\r\n\r\n", 400, "malformed"),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, "malformed"),
    "HTTP/0.9": (b"GET /\r\n\r\n", 400, "malformed"),
    "TLS": (b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00\r\n\r\n", 400, "malformed"),
    "SSH": (b"SSH-2.0-x\r\n\r\n", 400, "malformed"),
    "a head without end": (b"GET / HTTP/1.1\r\nHost: a.test\r\nX: " + b"x" * 70_000, 431, "malformed"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_request_that_could_be_read_in_two_ways_reaches_no_server(case: str) -> None:
    data, status, code = REFUSED[case]
    with Web() as web, session(allow("a.test:80", targets=to(web, "a.test", "d.test"))) as wall:
        found, headers, _body = ask(wall, data)
        assert (found, headers[b"x-sandbox-denied"]) == (
            status,
            code.encode(),
        )
        assert ask(wall, GET % (b"/", b"a.test"))[0] == 200
        assert web.hits == 1
        assert [each["code"] for each in wall.finish()["denied"]] == [code]


def test_a_second_request_for_another_host_is_judged_on_its_own() -> None:
    with (
        Web() as a,
        Web() as b,
        Web() as d,
        session(
            allow("a.test:80", "b.test:80", targets=[*to(a, "a.test"), *to(b, "b.test"), *to(d, "d.test")])
        ) as wall,
        wall.connect("http") as connection,
    ):
        client = Client(connection)
        for host, web in ((b"a.test", a), (b"b.test", b), (b"a.test", a), (b"a.test", a)):
            before = len(web.requests)
            connection.sendall(GET % (b"/", host))
            assert client.read()[0] == 200
            assert len(web.requests) == before + 1
        connection.sendall(GET % (b"/", b"d.test"))
        assert client.read()[0] == 403
        assert read_all(connection) == b""
        assert (a.hits, b.hits, d.hits) == (2, 1, 0)


def test_pipelined_requests_are_answered_in_order_and_stop_at_the_first_denied_one() -> None:
    with (
        Web(lambda path, _: OK.replace(b"ok", path[1:3])) as a,
        Web() as d,
        session(allow("a.test:80", targets=[*to(a, "a.test"), *to(d, "d.test")])) as wall,
        wall.connect("http") as connection,
    ):
        paths = [b"/%02d" % number for number in range(40)]
        connection.sendall(
            b"".join(GET % (path, b"a.test") for path in paths)
            + GET % (b"/", b"d.test")
            + GET % (b"/never", b"a.test")
        )
        client = Client(connection)
        assert [client.read()[2] for _ in paths] == [path[1:] for path in paths]
        assert client.read()[0] == 403
        assert read_all(connection) == b""
        assert a.paths == paths
        assert (a.hits, d.hits) == (1, 0)


def test_a_body_that_holds_a_request_stays_a_body() -> None:
    inner = GET % (b"/smuggled", b"d.test")
    with Web() as web, session(allow("a.test:80", targets=to(web, "a.test"))) as wall:
        with wall.connect("http") as connection:
            client = Client(connection)
            connection.sendall(
                b"POST /1 HTTP/1.1\r\nHost: a.test\r\nContent-Length: %d\r\n\r\n%s" % (len(inner), inner)
            )
            assert client.read()[0] == 200
            connection.sendall(
                b"POST /2 HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n"
                % (len(inner), inner)
            )
            assert client.read()[0] == 200
        assert [(target, body) for _, target, _, body in web.requests] == [(b"/1", inner), (b"/2", inner)]


def test_an_offer_of_h2c_is_passed_over() -> None:
    with Web() as web, session(allow("a.test:80", targets=to(web, "a.test"))) as wall:
        status, _, _ = ask(
            wall,
            b"GET / HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade, HTTP2-Settings\r\n"
            b"Upgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n",
        )
        assert status == 200
        assert web.requests[0][2] == {b"host": b"a.test"}


def test_an_absolute_target_is_written_anew_as_a_path() -> None:
    with Web() as web, session(allow("a.test:80", targets=to(web, "a.test"))) as wall:
        assert ask(wall, GET % (b"http://A.TEST:80/p?q", b"a.test"))[0] == 200
        assert web.paths == [b"/p?q"]


RESPONSES: dict[str, tuple[bytes, bytes]] = {
    "chunked": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
        b"abcde",
    ),
    "until the end": (b"HTTP/1.0 200 OK\r\nConnection: close\r\n\r\nabcde", b"abcde"),
    "empty": (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
    "not modified": (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", b""),
    "early hints first": (b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + OK, b"ok"),
    "both lengths": (
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n0\r\n\r\n",
        b"abcde",
    ),
}


@pytest.mark.parametrize("case", RESPONSES)
def test_every_framing_of_a_response_arrives_and_the_connection_serves_on(case: str) -> None:
    data, body = RESPONSES[case]
    with (
        Web(lambda path, _: OK if path == b"/next" else data) as web,
        session(allow("a.test:80", targets=to(web, "a.test"))) as wall,
        wall.connect("http") as connection,
    ):
        client = Client(connection)
        connection.sendall(GET % (b"/", b"a.test"))
        assert client.read()[2] == body
        connection.sendall(GET % (b"/next", b"a.test"))
        assert client.read()[2] == b"ok"


def test_the_answer_to_head_has_its_length_and_no_body() -> None:
    with (
        Web(
            lambda path, _: OK if path == b"/next" else b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"
        ) as web,
        session(allow("a.test:80", targets=to(web, "a.test"))) as wall,
        wall.connect("http") as connection,
    ):
        client = Client(connection)
        connection.sendall(b"HEAD / HTTP/1.1\r\nHost: a.test\r\n\r\n")
        status, headers, body = client.read(b"HEAD")
        assert (status, headers[b"content-length"], body) == (200, b"5", b"")
        connection.sendall(GET % (b"/next", b"a.test"))
        assert client.read()[2] == b"ok"
        connection.sendall(b"HEAD / HTTP/1.1\r\nHost: d.test\r\n\r\n")
        assert client.read(b"HEAD")[0] == 403
        assert read_all(connection) == b""


def test_expect_continue_is_answered_by_the_server() -> None:
    def serve(client: socket.socket) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            head += client.recv(1000)
        assert b"100-continue" in head
        client.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        assert client.recv(10) == b"abc"
        client.sendall(OK)

    with (
        Canary(serve) as canary,
        session(allow("a.test:80", targets=to(canary, "a.test"))) as wall,
        wall.connect("http") as connection,
    ):
        connection.sendall(
            b"PUT / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n"
        )
        assert connection.recv(1000).startswith(b"HTTP/1.1 100 ")
        connection.sendall(b"abc")
        assert Client(connection).read()[2] == b"ok"


def test_a_server_that_changes_protocol_unasked_is_cut_off() -> None:
    switch = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nraw"
    with Web(lambda *_: switch) as web, session(allow("a.test:80", targets=to(web, "a.test"))) as wall:
        status, headers, _ = ask(wall, GET % (b"/", b"a.test"))
        assert (status, headers[b"x-sandbox-failed"]) == (502, b"upstream")


@pytest.mark.parametrize("answer", [b"", b"garbage\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"])
def test_a_server_that_answers_with_nothing_or_nonsense_is_a_bad_gateway(answer: bytes) -> None:
    with Web(lambda *_: answer) as web, session(allow("a.test:80", targets=to(web, "a.test"))) as wall:
        status, headers, body = ask(wall, GET % (b"/", b"a.test"))
        assert (status, headers[b"x-sandbox-failed"]) == (502, b"upstream")
        assert b"a.test" in body
        assert wall.finish()["failed"][0]["host"] == "a.test"


def test_a_response_that_breaks_off_does_not_look_whole() -> None:
    cut = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 9\r\n\r\nabc"
    with (
        Web(lambda *_: cut) as web,
        session(allow("a.test:80", targets=to(web, "a.test"))) as wall,
        wall.connect("http") as connection,
    ):
        connection.sendall(GET % (b"/", b"a.test"))
        with pytest.raises((h11.RemoteProtocolError, ConnectionResetError)):
            Client(connection).read()


def test_a_kept_connection_that_the_server_closed_is_made_anew() -> None:
    def serve(client: socket.socket) -> None:
        client.recv(1000)
        client.sendall(OK)

    with Canary(serve) as canary, session(allow("a.test:80", targets=to(canary, "a.test"))) as wall:
        with wall.connect("http") as connection:
            client = Client(connection)
            for _ in range(5):
                connection.sendall(GET % (b"/", b"a.test"))
                assert client.read()[2] == b"ok"
        assert canary.hits == 5


def test_private_addresses_are_vetoed_with_a_403() -> None:
    with Web() as web, session(allow("a.test:80"), resolve=lambda _: ["127.0.0.1"]) as wall:
        status, headers, body = ask(wall, GET % (b"/", b"a.test"))
        assert (status, headers[b"x-sandbox-denied"]) == (403, b"private-address")
        assert b"a.test resolves to 127.0.0.1 is a loopback address" in body
        assert web.hits == 0


def test_a_name_that_can_t_be_resolved_is_a_bad_gateway_and_no_denial() -> None:
    def resolve(_host: str) -> list[str]:
        raise OSError("no such name")

    with session(allow("a.test:80"), resolve=resolve) as wall:
        status, headers, _ = ask(wall, GET % (b"/", b"a.test"))
        assert (status, headers[b"x-sandbox-failed"]) == (502, b"resolve")
        assert wall.finish()["denied"] == []


def test_a_mirror_by_address_and_port_is_served_when_a_manager_names_it() -> None:
    endpoint = Endpoint("http", "203.0.113.9", 3142, "apt", "sources.list")
    with Web() as web:
        policy = compile_policy(
            "limited",
            [],
            [endpoint],
            True,
            connect_to=[ConnectTo("mirror.test", None, "127.0.0.1", web.port)],
        )
        with session(policy, http_port=3142, resolve=lambda host: [host]) as wall:
            assert ask(wall, GET % (b"/", b"203.0.113.8:3142"))[0] == 403
            assert ask(wall, GET % (b"/", b"127.0.0.1:3142"))[0] == 403
        assert web.hits == 0


def test_a_client_that_half_closes_still_gets_its_answer() -> None:
    with (
        Web() as web,
        session(allow("a.test:80", targets=to(web, "a.test"))) as wall,
        wall.connect("http") as connection,
    ):
        connection.sendall(GET % (b"/", b"a.test"))
        connection.shutdown(socket.SHUT_WR)
        assert read_all(connection).endswith(b"ok")


def test_a_body_cut_short_by_the_client_does_not_reach_the_server_as_whole() -> None:
    with Web() as web, session(allow("a.test:80", targets=to(web, "a.test"))) as wall:
        with wall.connect("http") as connection:
            connection.sendall(b"POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 10\r\n\r\nabc")
            connection.shutdown(socket.SHUT_WR)
            with pytest.raises(ConnectionResetError):
                connection.recv(1)
        assert web.requests == []


def test_a_silent_client_is_closed_in_time() -> None:
    with session(allow("a.test:80"), timeouts=Timeouts(hello=0.05)) as wall:
        with wall.connect("http") as connection:
            assert read_all(connection) == b""
        with wall.connect("http") as connection:
            connection.sendall(b"GET / HTTP/1.1\r\n")
            assert read_all(connection) == b""


def test_a_large_body_passes_both_ways_unchanged() -> None:
    data = os.urandom(8_000_000)
    with (
        Web(
            lambda _path, body: b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
        ) as web,
        session(allow("a.test:80", targets=to(web, "a.test"))) as wall,
        wall.connect("http") as connection,
    ):
        head = b"POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: %d\r\n\r\n" % len(data)
        writer = threading.Thread(target=connection.sendall, args=(head + data,))
        writer.start()
        body = Client(connection).read()[2]
        writer.join()
        assert hashlib.sha256(body).digest() == hashlib.sha256(data).digest()


def test_a_slow_reader_holds_up_its_own_server_and_not_the_memory() -> None:
    written = 0
    done = threading.Event()

    def serve(client: socket.socket) -> None:
        nonlocal written
        client.recv(1000)
        client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
        client.settimeout(0.3)
        try:
            while True:
                written += client.send(bytes(65_536))
        except TimeoutError:
            done.set()

    with (
        Canary(serve) as canary,
        session(allow("a.test:80", targets=to(canary, "a.test"))) as wall,
        wall.connect("http") as connection,
    ):
        connection.sendall(GET % (b"/", b"a.test"))
        assert done.wait(10)
        assert written < 60_000_000, "it stopped reading: what is under way is what the kernel's buffers hold"


def test_a_server_that_answers_before_it_has_read_all_is_heard() -> None:
    def serve(client: socket.socket) -> None:
        client.recv(1000)
        client.sendall(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno")
        client.shutdown(socket.SHUT_WR)
        while client.recv(65_536):
            pass

    with (
        Canary(serve) as canary,
        session(allow("a.test:80", targets=to(canary, "a.test"))) as wall,
        wall.connect("http") as connection,
    ):
        connection.sendall(b"POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 100000\r\n\r\n" + bytes(1000))
        status, _, body = Client(connection).read()
        assert (status, body) == (413, b"no")


def test_a_server_that_never_answers_is_a_gateway_timeout_and_is_asked_once(clock: Clock) -> None:
    asked_again = threading.Event()

    def serve(client: socket.socket) -> None:
        client.recv(1000)
        client.sendall(OK)
        while client.recv(1000):
            asked_again.set()

    with (
        Canary(serve) as canary,
        session(allow("a.test:80", targets=to(canary, "a.test"))) as wall,
        wall.connect("http") as connection,
    ):
        client = Client(connection)
        connection.sendall(GET % (b"/", b"a.test"))
        assert client.read()[0] == 200
        connection.sendall(GET % (b"/", b"a.test"))
        assert asked_again.wait(PATIENCE)
        wall.skip(clock, Timeouts().response)
        assert client.read()[0] == 504
        assert canary.hits == 1


def test_a_connection_that_only_idles_is_closed_quietly(clock: Clock) -> None:
    with (
        Web() as web,
        session(allow("a.test:80", targets=to(web, "a.test"))) as wall,
        wall.connect("http") as connection,
    ):
        connection.sendall(GET % (b"/", b"a.test"))
        assert Client(connection).read()[0] == 200
        wall.skip(clock, Timeouts().keep_alive)
        assert read_all(connection) == b""
        assert wall.finish()["failed"] == []
