"""Asks the kernel whether an address is this machine's own."""

from __future__ import annotations

import socket
import struct

_HEADER = struct.Struct("=IHHII")
_ROUTE = struct.Struct("=BBBBBBBBI")
_REQUEST, _RTM_GETROUTE, _RTM_NEWROUTE, _RTA_DST = 1, 26, 24, 1
_NLMSG_ERROR = 2
_TYPE_AT = _HEADER.size + 7
_UNICAST = 1


def local_veto(address: str) -> str | None:
    """Why an address is not dialled for being the machine's own, whatever range it is of; None if it is not.

    What listens on the machine itself was not meant for sessions. rtnetlink(7): the type of the route that a
    packet to the address would take is "unicast" only when it leaves the machine.
    """
    try:
        kind = _route_type(address)
    except OSError as error:
        return f"{address} may be an address of this machine, which can't be told ({error.strerror})"
    if kind is None or kind == _UNICAST:
        return None
    return f"{address} is an address of this machine"


def has_route(address: str) -> bool:
    """Whether the machine has a way out to an address; yes, when that can't be told."""
    try:
        return _route_type(address) is not None
    except OSError:
        return True


def _route_type(address: str) -> int | None:
    """rtm_type of the route to an address; None when there is no route at all."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    packed = socket.inet_pton(family, address)
    body = _ROUTE.pack(family, len(packed) * 8, 0, 0, 0, 0, 0, 0, 0)
    body += struct.pack("=HH", 4 + len(packed), _RTA_DST) + packed
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0) as netlink:
        netlink.settimeout(1.0)
        netlink.send(_HEADER.pack(_HEADER.size + len(body), _RTM_GETROUTE, _REQUEST, 1, 0) + body)
        reply = netlink.recv(4096)
    kind = _HEADER.unpack_from(reply)[1]
    if kind == _NLMSG_ERROR:
        return None
    if kind != _RTM_NEWROUTE:
        raise OSError(0, f"unexpected message {kind} from the kernel")
    return reply[_TYPE_AT]
