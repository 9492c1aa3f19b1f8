"""Every port of a network namespace leads to one listener. What the proxy makes of it is in lab_unrestricted.py."""

from __future__ import annotations

import socket

import pytest

from sandbox import netns, tproxy
from tests.capabilities import need
from tests.sandbox.test_netns import ANYWHERE, in_namespace

_NEVER = {socket.AF_INET: "127.0.0.1", socket.AF_INET6: "::1"}


def test_a_connection_to_any_port_arrives_with_the_address_that_was_chosen() -> None:
    need("nft-tproxy")

    def work() -> None:
        netns.bring_up()
        netns.make_all_local()
        listening, sockets = netns.listen((("any-tcp", 0),))
        netns.capture(listening, sockets)
        for entry, listener in zip(listening, sockets, strict=True):
            listener.setblocking(True)
            for port in (1, 53, 443, 65_535):
                with socket.create_connection((ANYWHERE[entry.family], port), timeout=10) as client:
                    accepted, _ = listener.accept()
                    with accepted:
                        assert accepted.getsockname()[:2] == (ANYWHERE[entry.family], port)
                        client.sendall(b"x")
                        assert accepted.recv(1) == b"x"
                        accepted.sendall(b"y")
                        assert client.recv(1) == b"y"

    in_namespace(work)


def test_loopback_stays_the_sessions_own_and_nothing_else_is_heard() -> None:
    need("nft-tproxy")

    def work() -> None:
        netns.bring_up()
        netns.make_all_local()
        listening, sockets = netns.listen((("any-tcp", 0),))
        netns.capture(listening, sockets)
        for entry, listener in zip(listening, sockets, strict=True):
            own = _NEVER[entry.family]
            with socket.create_server((own, 0), family=entry.family) as server:
                with socket.create_connection(server.getsockname()[:2], timeout=10):
                    assert server.accept()[0].getsockname()[0] == own
                with pytest.raises(ConnectionRefusedError):
                    socket.create_connection((own, listener.getsockname()[1]), timeout=10)
            with pytest.raises(BlockingIOError):
                listener.accept()

    in_namespace(work)


def test_without_the_right_it_says_so_and_changes_nothing() -> None:
    """In a namespace that belongs to somebody else."""
    need("ordinary-user")
    with pytest.raises(PermissionError):
        tproxy.install((tproxy.Capture(socket.AF_INET, socket.IPPROTO_TCP, 1),))
