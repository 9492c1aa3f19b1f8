"""What no session reaches, whatever else is allowed: names and networks, each with who says so."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from netpolicy.errors import InputError
from netpolicy.hosts import HostPattern, looks_like_address, matches, parse_pattern

# By these names clouds serve an instance its credentials. Their addresses are refused as well.
_METADATA = (
    "metadata",
    "metadata.google.internal",
    "metadata.goog",
    "instance-data",
    "instance-data.ec2.internal",
    "metadata.tencentyun.com",
)
METADATA_ORIGIN = "blocklist: cloud metadata"


class Block(NamedTuple):
    """A name, or names below one, or a network in CIDR notation: the other of the two is None."""

    pattern: HostPattern | None
    network: str | None
    origin: str


METADATA = tuple(Block(HostPattern(name, False, None), None, METADATA_ORIGIN) for name in _METADATA)


def parse_blocklist(text: str, source: str) -> tuple[Block, ...]:
    """Read a file of names, `*.name`, addresses and CIDRs, one a line; what follows # is a comment.

    InputError names the file and the line.
    """
    blocks = []
    for number, line in enumerate(text.splitlines(), 1):
        entry = line.partition("#")[0].strip()
        if entry:
            blocks.append(_block(entry, f"{source}:{number}"))
    return tuple(blocks)


def parse_private(text: str) -> str:
    """A private network that sessions may reach, in canonical CIDR notation."""
    from netpolicy.addresses import is_private

    try:
        network = _network(text)
    except ValueError as error:
        raise InputError(f"--allow-private {text}: {error}", "write it as in 10.1.0.0/16") from None
    if not is_private(network):
        raise InputError(
            f"--allow-private {text}: this is no private network",
            "name a part of 10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16, 100.64.0.0/10 or fc00::/7",
        )
    return network


def blocked_name(blocks: Iterable[Block], host: str) -> Block | None:
    """The first entry that covers a canonical name."""
    return next((each for each in blocks if each.pattern is not None and matches(each.pattern, host)), None)


def blocked_address(blocks: Iterable[Block], address: str) -> Block | None:
    """The first entry whose network holds an address, or an IPv4 address that is in it (NAT64, 6to4 and such)."""
    networks = [each for each in blocks if each.network is not None]
    if not networks:
        return None
    from netpolicy.addresses import leads_into

    return next((each for each in networks if each.network and leads_into(address, each.network)), None)


def _block(entry: str, origin: str) -> Block:
    if "/" in entry or looks_like_address(entry):
        try:
            return Block(None, _network(entry), f"blocklist: {origin}")
        except ValueError as error:
            raise InputError(f"{origin}: {entry}: {error}", "write it as in 203.0.113.0/24") from None
    try:
        pattern = parse_pattern(entry)
    except InputError as error:
        raise InputError(f"{origin}: {error}", error.hint) from None
    if pattern.port is not None:
        raise InputError(f"{origin}: {entry}: a name is blocked on every port", "leave out the port")
    return Block(pattern, None, f"blocklist: {origin}")


def _network(text: str) -> str:
    from ipaddress import ip_network

    return str(ip_network(text))
