"""Where mutation starts: what the tests' own tables and real clients say."""

from __future__ import annotations

import dns.message
import dns.rrset

from tests.netpolicy import test_attached, test_clienthello, test_dns, test_dnsreply, test_exchange
from tests.netpolicy.recorded import recorded_hellos

GET = b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n"
POST = b"POST /x?y HTTP/1.1\r\nHost: A.test.:80\r\nConnection: X, close\r\nX: 1\r\n"
REQUESTS = [
    GET,
    GET + GET,
    b"HEAD http://a.test/x HTTP/1.1\r\nHost: a.test\r\nTE: trailers\r\n\r\n",
    b"OPTIONS * HTTP/1.0\r\nHost: a.test\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: [2001:db8::1]:80\r\nUpgrade: h2c\r\n\r\n",
    POST + b"Content-Length: 3\r\nExpect: 100-continue\r\n\r\nabc",
    POST + b"Transfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\nT: 1\r\n\r\n" + GET,
]
ALIASES = test_dnsreply.response(
    dns.rrset.from_text("a.test.", 60, "IN", "CNAME", "b.cdn.test."),
    dns.rrset.from_text("b.cdn.test.", 60, "IN", "A", "192.0.2.1", "192.0.2.2"),
    dns.rrset.from_text("b.cdn.test.", 60, "IN", "AAAA", "2001:db8::1"),
    dns.rrset.from_text("b.cdn.test.", 60, "IN", "TXT", '"192.0.2.9"'),
)
_ODD_NAMES = ("x.blocked.test", "7.2.0.192.in-addr.arpa", "a" * 60 + ".test", "db.localhost")


def seeds() -> dict[str, list[bytes]]:
    """For each check of tests.netpolicy.hostile the inputs to start from, all of them below 4 KiB."""
    greetings = [data for data, _ in (*test_clienthello.GOOD.values(), *test_clienthello.BAD.values())]
    requests = REQUESTS + [data for data, _, _ in test_exchange.REFUSED.values() if len(data) < 4096]
    responses = [data for data, _ in test_exchange.RESPONSES.values()]
    queries = [dns.message.make_query(name, "PTR", use_edns=0).to_wire() for name in _ODD_NAMES]
    found = {
        "clienthello": [*greetings, *recorded_hellos().values()],
        "dns": [test_dns.BASE, test_dns.EDNS, *queries, *test_dns.MALFORMED.values()],
        "dnsreply": [ALIASES, test_dnsreply.response()],
        "exchange": [
            *(exchange(request, test_exchange.OK) for request in requests),
            *(exchange(GET + GET, response) for response in responses),
        ],
        "attached": [exchange(request, test_exchange.OK) for request in _attached()],
        "http": requests,
        "tunnel": [b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.0 407 No\r\nProxy-Authenticate: Basic\r\n\r\nx"],
    }
    return {check: [each for each in inputs if len(each) < 4096] for check, inputs in found.items()}


def _attached() -> list[bytes]:
    """Requests to a host with something attached, in all the ways that tests try."""
    attempts = [*test_attached.NO_TOKEN.values(), *(data for data, _ in test_attached.REFUSED.values())]
    attempts.append(test_attached.get("/me/ours/info/refs?service=x"))
    made = [each.replace(b"git.test", b"a.test") for each in attempts]
    return [*made, *(each + made[-1] for each in made), made[-1] + made[0] + made[-1]]


def exchange(client_says: bytes, host_says: bytes) -> bytes:
    """The input of the check "exchange"."""
    return len(client_says).to_bytes(2, "big") + client_says + host_says
