"""A session's network namespace: lo alone, every address local, listeners that can be passed out."""

import os
import socket
import traceback
from collections.abc import Callable

import pytest

from sandbox import netns
from sandbox import syscalls as sys_
from tests.capabilities import need


def in_namespace(work: Callable[[], None]) -> None:
    """Run ``work`` in a child with a user and network namespace of its own; its failure is this test's."""
    need("user-namespaces")
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.close(read)
            sys_.unshare(sys_.CLONE_NEWUSER | sys_.CLONE_NEWNET)
            work()
            code = 0
        except BaseException:
            os.write(write, traceback.format_exc().encode())
        finally:
            os._exit(code)
    os.close(write)
    with open(read, "rb") as pipe:
        told = pipe.read().decode()
    assert os.waitpid(pid, 0)[1] == 0, told


ANYWHERE = {socket.AF_INET: "203.0.113.7", socket.AF_INET6: "2001:db8::7"}


def connect(family: int, port: int) -> int:
    with socket.socket(family, socket.SOCK_STREAM) as client:
        client.settimeout(5)
        return client.connect_ex((ANYWHERE[family], port))


def test_without_routes_there_is_nowhere_to_go() -> None:
    def work() -> None:
        netns.bring_up()
        for family in netns.families():
            assert connect(family, 443) in (101, 99), "network unreachable, or no address to go from"
        with socket.create_server(("127.0.0.1", 0)) as server:
            socket.create_connection(server.getsockname(), timeout=5).close()

    in_namespace(work)


def test_every_address_leads_to_the_listeners_and_other_ports_are_refused_at_once() -> None:
    def work() -> None:
        netns.bring_up()
        netns.make_all_local()
        listening, sockets = netns.listen((("tls", 443), ("http", 80), ("dns-udp", 53), ("dns-tcp", 53)))
        assert len(listening) == len(sockets) == 4 * len(netns.families())
        for family in netns.families():
            assert connect(family, 443) == 0
            assert connect(family, 80) == 0
            assert connect(family, 22) == 111
        by_role = {(entry.role, entry.family): each for entry, each in zip(listening, sockets, strict=True)}
        for family in netns.families():
            accepted, _ = by_role["tls", family].accept()
            assert accepted.getsockname()[0] == ANYWHERE[family]

    in_namespace(work)


def test_a_second_route_is_an_error_and_not_overlooked() -> None:
    def work() -> None:
        netns.bring_up()
        netns.make_all_local()
        with pytest.raises(OSError, match="route"):
            netns.make_all_local()

    in_namespace(work)
