"""Which addresses a name may not lead to."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

# The IANA special-purpose registries, less the documentation prefixes (192.0.2.0/24, 198.51.100.0/24,
# 203.0.113.0/24, 2001:db8::/32): no private network owns those.
_V4 = tuple(
    (IPv4Network(network), reason)
    for network, reason in (
        ("0.0.0.0/8", "is an unspecified address"),
        ("10.0.0.0/8", "is a private address"),
        ("100.100.100.200/32", "is a cloud host's metadata address"),
        ("100.64.0.0/10", "is a shared (carrier-grade NAT) address"),
        ("127.0.0.0/8", "is a loopback address"),
        ("168.63.129.16/32", "is a cloud host's metadata address"),
        ("169.254.0.0/16", "is a link-local address (cloud metadata lives there)"),
        ("172.16.0.0/12", "is a private address"),
        ("192.0.0.0/24", "is reserved for protocols"),
        ("192.168.0.0/16", "is a private address"),
        ("198.18.0.0/15", "is a benchmarking address, which sessions use for names"),
        ("224.0.0.0/4", "is a multicast address"),
        ("255.255.255.255/32", "is the broadcast address"),
        ("240.0.0.0/4", "is a reserved address"),
    )
)
_V6 = tuple(
    (IPv6Network(network), reason)
    for network, reason in (
        ("::/128", "is the unspecified address"),
        ("::1/128", "is the loopback address"),
        ("64:ff9b:1::/48", "is a local translation address"),
        ("100::/64", "is a discard address"),
        # Unique local prefixes in which clouds put the services of their hosts.
        ("fd00:42::/32", "is a cloud host's metadata address"),
        ("fd00:c1::/32", "is a cloud host's metadata address"),
        ("fd00:ec2::/32", "is a cloud host's metadata address"),
        ("fd20:ce::/32", "is a cloud host's metadata address"),
        ("fd5b:9a7c:31e0::/48", "is an address that sessions use for names"),
        ("fc00::/7", "is a private (unique local) address"),
        ("fe80::/10", "is a link-local address"),
        ("fec0::/10", "is a site-local address"),
        ("ff00::/8", "is a multicast address"),
    )
)
# What a user's own configuration may name as a target: networks of companies and homes.
_PRIVATE = frozenset(
    (
        *map(IPv4Network, ("10.0.0.0/8", "100.64.0.0/10", "172.16.0.0/12", "192.168.0.0/16")),
        IPv6Network("fc00::/7"),
    )
)
# Prefix, how far right the embedded IPv4 address starts from bit 0, what it is XORed with, what it is called.
_EMBEDDED = tuple(
    (IPv6Network(network), shift, mask, kind)
    for network, shift, mask, kind in (
        ("::ffff:0:0/96", 0, 0, "an IPv4-mapped"),
        ("::ffff:0:0:0/96", 0, 0, "an IPv4-translated"),
        ("::/96", 0, 0, "an IPv4-compatible"),
        ("64:ff9b::/96", 0, 0, "a NAT64"),
        ("2002::/16", 80, 0, "a 6to4"),
        ("2001::/32", 0, 0xFFFFFFFF, "a Teredo"),
        ("2001::/32", 64, 0, "a Teredo server's"),
    )
)
_ISATAP = (0x00005EFE, 0x02005EFE)  # RFC 5214: the upper half of the interface identifier


def veto(address: str, own: frozenset[str] = frozenset(), private_allowed: bool = False) -> str | None:
    """Why an address that a name resolved to must not be dialled, or None.

    `own` holds the host's own addresses as text. Text that is no address is vetoed. `private_allowed` lifts the
    veto on addresses of private networks (RFC 1918, RFC 6598, RFC 4193) and no other, nor on any that embed one.
    """
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return f"{address!r} is not an address"
    reason = _reason(parsed, private_allowed)
    if reason is None and any(_same(parsed, each) for each in own):
        reason = "is an address of this machine"
    return None if reason is None else f"{parsed} {reason}"


def within(address: str, network: str) -> bool:
    """Whether an address is of a network in CIDR notation; not if it is none."""
    try:
        return ip_address(address.partition("%")[0]) in ip_network(network)
    except ValueError:
        return False


def leads_into(address: str, network: str) -> bool:
    """Whether an address is of a network, or has an IPv4 address in it that is."""
    if within(address, network):
        return True
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return False
    return isinstance(parsed, IPv6Address) and any(
        inner in ip_network(network) for _, inner in _embedded(parsed)
    )


def is_private(network: str) -> bool:
    """Whether a network is wholly of those that companies and homes use."""
    parsed = ip_network(network)
    for each in _PRIVATE:
        if isinstance(parsed, IPv4Network) and isinstance(each, IPv4Network) and parsed.subnet_of(each):
            return True
        if isinstance(parsed, IPv6Network) and isinstance(each, IPv6Network) and parsed.subnet_of(each):
            return True
    return False


def _reason(address: IPv4Address | IPv6Address, private_allowed: bool = False) -> str | None:
    if isinstance(address, IPv4Address):
        for v4, reason in _V4:
            if address in v4:
                return None if private_allowed and v4 in _PRIVATE else reason
        return None
    for network, reason in _V6:
        if address in network:
            return None if private_allowed and network in _PRIVATE else reason
    for kind, inner in _embedded(address):
        why = _reason(inner)
        if why is not None:
            return f"is {kind} address whose IPv4 address {why}"
    return None


def _embedded(address: IPv6Address) -> Iterator[tuple[str, IPv4Address]]:
    """The IPv4 addresses that packets to an IPv6 address may end at, each with what such an address is called."""
    bits = int(address)
    for network, shift, mask, kind in _EMBEDDED:
        if address in network:
            yield kind, IPv4Address((bits >> shift & 0xFFFFFFFF) ^ mask)
    if bits >> 32 & 0xFFFFFFFF in _ISATAP:
        yield "an ISATAP", IPv4Address(bits & 0xFFFFFFFF)


def _same(address: IPv4Address | IPv6Address, text: str) -> bool:
    """Whether `text` names this very address, also when one of the two is written IPv4-mapped."""
    try:
        other = ip_address(text.partition("%")[0])
    except ValueError:
        return False
    return _unmapped(address) == _unmapped(other)


def _unmapped(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address
