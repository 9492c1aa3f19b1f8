"""From a name to a connected socket."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator, Sequence

import pytest

from netpolicy import reach
from netpolicy.policy import ConnectTo, Policy, compile_policy
from netpolicy.reach import Reach, Unreachable
from netpolicy.reactor import Reactor
from netpolicy.resolver import Resolver
from sandbox.networks import parse_connect_to
from tests.netpolicy.looping import settle, until
from tests.netpolicy.serving import closed_port

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
    with closed_port() as port:
        target = ConnectTo("a.test", None, "127.0.0.1", port)
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


def by_address(
    first: str, port: int, siblings: Sequence[str], trusted: bool = True
) -> tuple[socket.socket | Unreachable, int]:
    """What comes of an address with others of its name, and how often those were asked for."""
    results: list[socket.socket | Unreachable] = []
    asked = 0

    def others() -> Sequence[str]:
        nonlocal asked
        asked += 1
        return siblings

    with Reactor() as reactor:
        resolver = Resolver(reactor, lambda _host: [])
        Reach(
            reactor,
            compile_policy("unrestricted"),
            resolver,
            frozenset(),
            10,
            10,
            first,
            port,
            results.append,
            trusted,
            others,
        )
        until(reactor, lambda: results)
        settle(reactor)
        resolver.close()
    return results[0], asked


def test_another_address_of_the_same_name_is_tried_where_the_first_one_fails() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        result, asked = by_address("127.0.0.2", port, ["127.0.0.1"])
        assert isinstance(result, socket.socket)
        with result:
            assert result.getpeername() == ("127.0.0.1", port)
        assert asked == 1
        result, asked = by_address("127.0.0.1", port, ["127.0.0.3"])
        assert isinstance(result, socket.socket)
        result.close()
        assert asked == 0, "the first one did"
        result, asked = by_address("127.0.0.2", port, [])
        assert refused(result).code == "connect"


def test_another_address_of_the_same_name_is_tried_where_the_first_one_takes_long() -> None:
    with both() as (good, slow):
        # A full queue: whoever connects gets no answer.
        slow.listen(0)
        with contextlib.ExitStack() as stack:
            for _ in range(8):
                each = stack.enter_context(socket.socket())
                each.setblocking(False)
                each.connect_ex(slow.getsockname())
            result, asked = by_address("127.0.0.2", good.getsockname()[1], ["127.0.0.1"])
            assert isinstance(result, socket.socket)
            with result:
                assert result.getpeername() == good.getsockname()
            assert asked == 1


@contextlib.contextmanager
def both() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Listening sockets on two addresses and the same port."""
    for _ in range(100):
        with socket.create_server(("127.0.0.1", 0)) as one, socket.socket() as other:
            try:
                other.bind(("127.0.0.2", one.getsockname()[1]))
            except OSError:
                continue
            yield one, other
            return
    raise AssertionError("no port is free on both")


def test_a_vetoed_address_stays_vetoed_first_or_among_the_others() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        result, asked = by_address("127.0.0.2", port, ["127.0.0.1"], trusted=False)
        assert (refused(result).kind, asked) == ("denied", 0)
