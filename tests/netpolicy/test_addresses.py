"""Which addresses a name may not lead to."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netpolicy.addresses import is_private, leads_into, veto, within

PRIVATE_V4 = (
    "0.0.0.0",
    "0.1.2.3",
    "10.0.0.1",
    "10.255.255.255",
    "100.64.0.1",
    "100.100.100.200",
    "100.127.255.255",
    "127.0.0.1",
    "127.255.255.255",
    "168.63.129.16",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.1",
    "192.168.0.1",
    "198.18.0.1",
    "198.19.255.255",
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.1",
    "255.255.255.255",
)
PUBLIC_V4 = (
    "1.1.1.1",
    "9.255.255.255",
    "11.0.0.0",
    "100.63.255.255",
    "100.128.0.0",
    "126.255.255.255",
    "128.0.0.0",
    "168.63.129.17",
    "169.253.255.255",
    "172.15.255.255",
    "172.32.0.0",
    "192.0.1.0",
    "192.0.2.1",
    "192.167.255.255",
    "198.17.255.255",
    "198.20.0.0",
    "198.51.100.1",
    "203.0.113.1",
    "223.255.255.255",
)


@pytest.mark.parametrize("address", PRIVATE_V4)
def test_an_ipv4_address_that_is_no_public_one_is_vetoed(address: str) -> None:
    reason = veto(address)
    assert reason is not None
    assert reason.startswith(f"{address} is")


@pytest.mark.parametrize("address", PUBLIC_V4)
def test_a_public_or_documentation_ipv4_address_is_not(address: str) -> None:
    assert veto(address) is None


@pytest.mark.parametrize(
    "address",
    [
        "::",
        "::1",
        "fe80::1",
        "fe80::1%eth0",
        "febf::1",
        "fec0::1",
        "fc00::1",
        "fd00:ec2::254",
        "fdff::1",
        "ff02::1",
        "100::1",
        "64:ff9b:1::1",
    ],
)
def test_an_ipv6_address_that_is_no_public_one_is_vetoed(address: str) -> None:
    assert veto(address)


@pytest.mark.parametrize("address", ["2606:4700::1", "2001:db8::1", "2a00::1", "fe00::1", "101::1"])
def test_a_public_or_documentation_ipv6_address_is_not(address: str) -> None:
    assert veto(address) is None


def embeddings(address: str) -> list[str]:
    """Every IPv6 address that carries this IPv4 address."""
    v4 = int(IPv4Address(address))
    first = {
        "::ffff:0:0": 0,
        "::ffff:0:0:0": 0,
        "::": 0,
        "64:ff9b::": 0,
    }
    found = [int(IPv6Address(prefix)) | v4 for prefix in first]
    found.append(int(IPv6Address("2002::1")) | v4 << 80)
    found.append(int(IPv6Address("2001:0:102:304::")) | v4 ^ 0xFFFFFFFF)
    found.append(int(IPv6Address("2001::")) | v4 << 64 | 0x01020304 ^ 0xFFFFFFFF)
    found.append(int(IPv6Address("2a00::5efe:0:0")) | v4)
    found.append(int(IPv6Address("2a00::200:5efe:0:0")) | v4)
    return [str(IPv6Address(each)) for each in found]


@pytest.mark.parametrize("address", PRIVATE_V4)
def test_an_ipv6_address_that_embeds_a_vetoed_ipv4_address_is_vetoed(address: str) -> None:
    assert [each for each in embeddings(address) if veto(each) is None] == []


@pytest.mark.parametrize("address", ["1.1.1.1", "203.0.113.1"])
def test_an_ipv6_address_that_embeds_a_public_ipv4_address_is_not(address: str) -> None:
    assert [veto(each) for each in embeddings(address)] == [None] * 9


@pytest.mark.parametrize(
    ("address", "own", "vetoed"),
    [
        ("203.0.113.7", "203.0.113.7", True),
        ("203.0.113.8", "203.0.113.7", False),
        ("::ffff:203.0.113.7", "203.0.113.7", True),
        ("203.0.113.7", "::ffff:203.0.113.7", True),
        ("2001:db8::7", "2001:0db8:0::0007", True),
        ("2001:db8::8", "2001:db8::7", False),
        ("2001:db8::7", "nonsense", False),
    ],
)
def test_the_hosts_own_addresses_are_vetoed_in_every_notation(address: str, own: str, vetoed: bool) -> None:
    assert (veto(address, frozenset((own,))) is not None) is vetoed


LIFTED = ("10.0.0.1", "100.64.0.1", "100.127.255.255", "172.31.255.255", "192.168.0.1", "fc00::1", "fdff::1")
CLOUDS = ("100.100.100.200", "fd00:42::42", "fd00:c1::a9fe:a9fe", "fd00:ec2::254", "fd20:ce::254")


@pytest.mark.parametrize("address", LIFTED)
def test_a_target_of_the_users_own_configuration_may_be_private(address: str) -> None:
    assert veto(address)
    assert veto(address, private_allowed=True) is None
    assert "of this machine" in (veto(address, frozenset((address,)), private_allowed=True) or "")


@pytest.mark.parametrize(
    "address", sorted({*PRIVATE_V4, *CLOUDS} - {*LIFTED, "10.255.255.255", "172.16.0.1"})
)
def test_what_is_no_private_network_stays_vetoed_for_every_target(address: str) -> None:
    assert veto(address, private_allowed=True)


@pytest.mark.parametrize(
    "address", ["::", "::1", "fe80::1", "fec0::1", "ff02::1", "100::1", "64:ff9b:1::1", "fd5b:9a7c:31e0::100"]
)
def test_no_other_ipv6_range_is_opened_by_configuration(address: str) -> None:
    assert veto(address, private_allowed=True)


@pytest.mark.parametrize("address", ["10.0.0.1", "127.0.0.1", "169.254.169.254"])
def test_an_address_that_embeds_another_is_opened_by_no_configuration(address: str) -> None:
    assert [each for each in embeddings(address) if veto(each, private_allowed=True) is None] == []


@pytest.mark.parametrize("text", ["", "a.test", "127.1", "0x7f000001", "1.2.3.4.5", "1.2.3.4/8", "12345"])
def test_what_is_no_address_is_vetoed(text: str) -> None:
    assert veto(text)


@given(st.ip_addresses(network="0.0.0.0/0"))
def test_the_veto_on_ipv4_agrees_with_the_registry_but_for_known_differences(address: object) -> None:
    """Python's own table is the oracle; documentation prefixes and two others are judged otherwise here."""
    v4 = IPv4Address(str(address))
    different = ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "168.63.129.16/32", "192.0.0.0/24")
    if any(v4 in ip_network(each) for each in different):
        return
    assert (veto(str(v4)) is None) == (v4.is_global and not v4.is_multicast)


@pytest.mark.parametrize(
    ("address", "network", "inside", "led"),
    [
        ("203.0.113.7", "203.0.113.0/24", True, True),
        ("203.0.114.7", "203.0.113.0/24", False, False),
        ("::ffff:203.0.113.7", "203.0.113.0/24", False, True),
        ("64:ff9b::203.0.113.7", "203.0.113.0/24", False, True),
        ("2001:db8::1%eth0", "2001:db8::/32", True, True),
        ("2001:db8::1", "203.0.113.0/24", False, False),
        ("203.0.113.7", "::/0", False, False),
        ("no address", "0.0.0.0/0", False, False),
    ],
)
def test_whether_an_address_is_of_a_network_or_leads_into_it(
    address: str, network: str, inside: bool, led: bool
) -> None:
    assert within(address, network) is inside
    assert leads_into(address, network) is led


@pytest.mark.parametrize(
    ("network", "private"),
    [
        ("10.0.0.0/8", True),
        ("10.1.2.3/32", True),
        ("10.0.0.0/7", False),
        ("192.168.0.0/15", False),
        ("fd00::/8", True),
        ("fe80::/10", False),
        ("127.0.0.0/8", False),
        ("203.0.113.0/24", False),
    ],
)
def test_only_networks_of_companies_and_homes_are_private(network: str, private: bool) -> None:
    assert is_private(network) is private
