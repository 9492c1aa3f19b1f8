"""Which addresses the kernel calls this machine's own."""

from __future__ import annotations

import socket

import pytest

from netpolicy.ownership import local_veto
from tests.capabilities import need


@pytest.mark.parametrize("address", ["127.0.0.1", "127.9.9.9"])
def test_loopback_is_the_machines_own_throughout(address: str) -> None:
    assert local_veto(address) == f"{address} is an address of this machine"


def test_the_ipv6_loopback_address_is_the_machines_own() -> None:
    need("ipv6")
    assert local_veto("::1")


def test_the_address_that_the_machine_would_speak_from_is_its_own() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("203.0.113.1", 9))
        except OSError:
            pytest.skip("this machine has no route to other networks")
        own = probe.getsockname()[0]
    assert local_veto(own)


@pytest.mark.parametrize("address", ["203.0.113.1", "2001:db8::1"])
def test_an_address_elsewhere_is_not(address: str) -> None:
    assert local_veto(address) is None
