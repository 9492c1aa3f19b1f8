"""From a name to a connected socket."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence

import pytest

from netpolicy import reach
from netpolicy.policy import ConnectTo, Policy, compile_policy
from netpolicy.reach import Reach, Unreachable
from netpolicy.reactor import Reactor
from netpolicy.resolver import Resolver
from sandbox.networks import parse_connect_to
from tests.netpolicy.looping import settle, until

NOWHERE = compile_policy("limited")


def connect(
    resolve: Callable[[str], Sequence[str]],
    policy: Policy = NOWHERE,
    port: int = 443,
    own: frozenset[str] = frozenset(),
    resolve_timeout: float = 10,
    connect_timeout: float = 10,
) -> socket.socket | Unreachable:
    results: list[socket.socket | Unreachable] = []
    with Reactor() as reactor:
        resolver = Resolver(reactor, resolve)
        Reach(
            reactor, policy, resolver, own, resolve_timeout, connect_timeout, "a.test", port, results.append
        )
        until(reactor, lambda: results)
        settle(reactor)
        resolver.close()
    assert len(results) == 1
    return results[0]


def refused(result: socket.socket | Unreachable) -> Unreachable:
    assert isinstance(result, Unreachable)
    return result


def test_the_users_target_is_dialled_as_it_is_and_nothing_is_resolved() -> None:
    asked: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        target = ConnectTo("a.test", 443, "127.0.0.1", server.getsockname()[1])
        policy = compile_policy("limited", connect_to=[target])
        result = connect(lambda host: asked.append(host) or [], policy)  # type: ignore[func-returns-value]
        assert isinstance(result, socket.socket)
        with result:
            assert result.getpeername() == server.getsockname()
            assert not result.getblocking()
            assert result.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    assert asked == []


def test_a_vetoed_address_beside_others_is_left_out_and_alone_is_a_denial() -> None:
    result = refused(connect(lambda _host: ["127.0.0.1", "10.0.0.1"]))
    assert (result.kind, result.code) == ("denied", "private-address")
    assert result.hint == "--connect-to a.test:443=127.0.0.1"
    assert refused(connect(lambda _host: ["::1"])).hint == "--connect-to a.test:443=[::1]"


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_the_option_that_a_veto_names_is_one_that_the_command_takes(address: str) -> None:
    option, _, value = refused(connect(lambda _host: [address])).hint.partition(" ")
    assert option == "--connect-to"
    assert parse_connect_to(value) == ConnectTo("a.test", 443, address, None)


def test_addresses_that_the_caller_calls_the_hosts_own_are_vetoed() -> None:
    result = refused(connect(lambda _host: ["203.0.113.5"], own=frozenset(("203.0.113.5",))))
    assert "is an address of this machine" in result.reason
    assert result.kind == "denied"


def test_a_name_without_addresses_and_one_that_fails_are_no_denials() -> None:
    def fail(_host: str) -> list[str]:
        raise socket.gaierror(-2, "Name or service not known")

    for resolve, why in ((lambda _host: [], "has no address"), (fail, "Name or service not known")):
        result = refused(connect(resolve))
        assert (result.kind, result.code) == ("failed", "resolve")
        assert why in result.reason


def test_a_name_that_takes_too_long_is_given_up() -> None:
    import threading

    gate = threading.Event()
    result = refused(connect(lambda _host: [str(gate.wait(10))], resolve_timeout=0.05))
    gate.set()
    assert (result.kind, result.code) == ("failed", "resolve")


def test_a_port_that_nobody_listens_on_fails_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        target = ConnectTo("a.test", None, "127.0.0.1", closed.getsockname()[1])
    result = refused(connect(lambda _host: [], compile_policy("limited", connect_to=[target])))
    assert (result.kind, result.code) == ("failed", "connect")
    assert "Connection refused" in result.reason


def test_a_cancelled_attempt_never_reports() -> None:
    results: list[object] = []
    with Reactor() as reactor, socket.create_server(("127.0.0.1", 0)) as server:
        target = ConnectTo("a.test", None, "127.0.0.1", server.getsockname()[1])
        policy = compile_policy("limited", connect_to=[target])
        resolver = Resolver(reactor, lambda _host: [])
        Reach(reactor, policy, resolver, frozenset(), 10, 10, "a.test", 443, results.append).cancel()
        late = Reach(reactor, NOWHERE, resolver, frozenset(), 10, 10, "a.test", 443, results.append)
        late.cancel()
        answered: list[object] = []
        resolver.resolve("a.test", answered.append)
        until(reactor, lambda: answered)
        settle(reactor)
        resolver.close()
    assert results == []


@pytest.mark.parametrize(
    ("addresses", "order"),
    [
        (["1.1.1.1"], ["1.1.1.1"]),
        (["1.1.1.1", "1.1.1.2", "2::1"], ["1.1.1.1", "2::1", "1.1.1.2"]),
        (["2::1", "2::2", "1.1.1.1"], ["2::1", "1.1.1.1", "2::2"]),
    ],
)
def test_the_families_take_turns_from_the_resolvers_first_choice_on(
    addresses: list[str], order: list[str]
) -> None:
    assert reach._alternate(addresses) == order
