"""Which requests of plain HTTP may go out, and what of them does."""

from __future__ import annotations

import socket

import h11

from netpolicy.outlet import Passage, Plain, Refused
from netpolicy.reach import Unreachable
from netpolicy.reactor import Reactor
from netpolicy.upstream import End
from netpolicy.wall import Wall
from tests.netpolicy.hostile import unlinked
from tests.netpolicy.looping import until


def request(host: str, target: str = "/") -> h11.Request:
    return h11.Request(method="GET", target=target, headers=[("Host", host), ("Connection", "X"), ("X", "1")])


def test_a_request_for_the_allowed_host_goes_out_in_its_own_words_and_no_other_does() -> None:
    with Reactor() as reactor:
        outlet = Plain(unlinked(reactor), 80)
        passage = outlet.judge(request("A.test", "http://a.test/x?y"))
        assert isinstance(passage, Passage)
        assert passage.forward.target == b"/x?y"
        assert passage.forward.headers == [(b"host", b"A.test")]
        assert passage.rule is not None
        denied = outlet.judge(request("d.test"))
        assert isinstance(denied, Refused)
        assert (denied.host, denied.verdict.code) == ("d.test", "not-allowed")
        unclear = outlet.judge(request("a.test", "http://d.test/"))
        assert isinstance(unclear, Refused)
        assert (unclear.host, unclear.verdict.code) == (None, "host-mismatch")


def test_its_host_is_connected_to_or_the_reason_is_handed_on() -> None:
    results: list[End | Unreachable] = []
    with Reactor() as reactor:
        wall = unlinked(reactor)
        outlet = Plain(wall, 80)
        passage = outlet.judge(request("a.test"))
        assert isinstance(passage, Passage)
        outlet.reach(passage, results.append)
        until(reactor, lambda: results)
        (end,) = results
        assert isinstance(end, End)
        assert isinstance(end.socket, socket.socket)
        end.socket.close()
        wall.resolver.close()

    with Reactor() as reactor:
        wall = Wall(*unlinked(reactor))
        results.clear()
        Plain(wall, 80).reach(passage, results.append)
        until(reactor, lambda: results)
        assert isinstance(results[0], Unreachable)
        assert results[0].code == "resolve"
        wall.resolver.close()
