"""What connections share, and how a client is shown out."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from netpolicy.audit import Audit
from netpolicy.keyring import Keyring
from netpolicy.policy import compile_policy
from netpolicy.reactor import Reactor
from netpolicy.recent import RecentNames
from netpolicy.relay import Buffer
from netpolicy.resolver import Resolver
from netpolicy.synthetic import SyntheticNames
from netpolicy.wall import Farewell, Timeouts, Wall
from tests.netpolicy.looping import connection, until


def wall(reactor: Reactor, linger: float = 10) -> Wall:
    return Wall(
        reactor,
        compile_policy("limited"),
        Resolver(reactor, lambda _host: []),
        SyntheticNames(),
        Audit("s1", None),
        Timeouts(linger=linger),
        frozenset(),
        Buffer(1000),
        RecentNames(),
        list,
        Keyring(),
    )


def test_last_bytes_arrive_though_the_client_keeps_talking() -> None:
    client, ours = connection()
    ours.setblocking(False)
    closed: list[bool] = []
    with client, Reactor() as reactor:
        client.sendall(bytes(100_000))
        Farewell(wall(reactor), ours, b"no", lambda: closed.append(True))
        reactor.turn(0)
        client.settimeout(10)
        assert client.recv(10) == b"no"
        assert client.recv(10) == b""
        assert not closed
        client.close()
        until(reactor, lambda: closed)
        assert ours.fileno() == -1


def test_a_client_that_stays_is_left_in_time() -> None:
    client, ours = connection()
    ours.setblocking(False)
    closed: list[bool] = []
    with client, Reactor() as reactor:
        Farewell(wall(reactor, 0.05), ours, b"no", lambda: closed.append(True))
        until(reactor, lambda: closed)
        assert ours.fileno() == -1
        assert closed == [True]


def test_a_client_that_is_gone_already_is_no_trouble() -> None:
    client, ours = connection()
    ours.setblocking(False)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
    client.close()
    closed: list[bool] = []
    with Reactor() as reactor:
        Farewell(wall(reactor), ours, b"no", lambda: closed.append(True))
        until(reactor, lambda: closed)


def test_a_destination_is_its_looked_up_name_or_else_its_address() -> None:
    client, ours = connection()
    with client, ours, Reactor() as reactor:
        made = wall(reactor)
        assert made.looked_up(ours) is None
        assert made.destination(ours) == "127.0.0.1"


@pytest.mark.parametrize("phase", Timeouts._fields)
def test_every_phase_has_a_limit_and_is_documented(phase: str) -> None:
    assert 0 < getattr(Timeouts(), phase) <= 3600
    page = (Path(__file__).resolve().parents[2] / "docs/network.md").read_text(encoding="utf-8")
    assert f"| `{phase}` | {getattr(Timeouts(), phase):g} s |" in page
