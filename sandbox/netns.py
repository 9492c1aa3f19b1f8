"""A session's network: one namespace with ``lo`` alone, in which every address is local.

Sockets that process 1 opens here are passed out to the proxy, which accepts on them from the host's namespace; what
nobody listens on, the kernel refuses at once.
"""

import errno
import fcntl
import os
import socket
import struct
from typing import NamedTuple

_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 0x1
_RTM_NEWROUTE, _NLM_F_REQUEST, _NLM_F_ACK, _NLM_F_CREATE, _NLM_F_EXCL = 24, 0x1, 0x4, 0x400, 0x200
_NLMSG_ERROR = 2
_RT_TABLE_LOCAL, _RTPROT_BOOT, _RT_SCOPE_HOST, _RTN_LOCAL, _RTA_OIF = 255, 3, 254, 2, 4
_IPV6_RECVPKTINFO, _IP_PKTINFO = 49, 8
_IP_RECVORIGDSTADDR, _IPV6_RECVORIGDSTADDR, _IPV6_TRANSPARENT = 20, 74, 75


class Listening(NamedTuple):
    """A socket of the session's namespace. ``role``: see netpolicy.policy.Role."""

    role: str
    port: int
    family: int


def bring_up() -> None:
    """Bring ``lo`` up and nothing else."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as control:
        request = struct.pack("16sh14x", b"lo", 0)
        flags = struct.unpack("16sh14x", fcntl.ioctl(control, _SIOCGIFFLAGS, request))[1]
        fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", flags | _IFF_UP))


def make_all_local() -> None:
    """Add ``local 0.0.0.0/0`` and ``local ::/0`` on ``lo`` (AnyIP), so that every connection ends here."""
    for family in families():
        _add_local_route(family)


def families() -> tuple[int, ...]:
    """The address families that this kernel has."""
    try:
        socket.socket(socket.AF_INET6, socket.SOCK_STREAM | socket.SOCK_CLOEXEC).close()
    except OSError as error:
        if error.errno != errno.EAFNOSUPPORT:
            raise
        return (socket.AF_INET,)
    return (socket.AF_INET, socket.AF_INET6)


def _add_local_route(family: int) -> None:
    loopback = 1
    route = struct.pack(
        "=BBBBBBBBI", family, 0, 0, 0, _RT_TABLE_LOCAL, _RTPROT_BOOT, _RT_SCOPE_HOST, _RTN_LOCAL, 0
    )
    route += struct.pack("=HHI", 8, _RTA_OIF, loopback)
    flags = _NLM_F_REQUEST | _NLM_F_ACK | _NLM_F_CREATE | _NLM_F_EXCL
    message = struct.pack("=IHHII", 16 + len(route), _RTM_NEWROUTE, flags, 1, 0) + route
    with socket.socket(
        socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE
    ) as route_socket:
        route_socket.sendto(message, (0, 0))
        answer = route_socket.recv(4096)
    kind = struct.unpack_from("=H", answer, 4)[0]
    code = struct.unpack_from("=i", answer, 16)[0] if kind == _NLMSG_ERROR else -errno.EPROTO
    if code:
        raise OSError(-code, f"adding the local route: {os.strerror(-code)}")


def listen(wanted: tuple[tuple[str, int], ...]) -> tuple[list[Listening], list[socket.socket]]:
    """Open a listener for each (role, port) in every address family."""
    listening: list[Listening] = []
    sockets: list[socket.socket] = []
    for family in families():
        for role, port in wanted:
            listening.append(Listening(role, port, family))
            sockets.append(_listener(role, port, family))
    return listening, sockets


def capture(listening: list[Listening], sockets: list[socket.socket]) -> None:
    """Lead what is meant for any port to the listeners that take it, if there are any."""
    protocols = {"any-tcp": socket.IPPROTO_TCP, "any-udp": socket.IPPROTO_UDP}
    if not any(entry.role in protocols for entry in listening):
        return
    from sandbox import tproxy

    tproxy.install(
        tuple(
            tproxy.Capture(entry.family, protocols[entry.role], each.getsockname()[1])
            for entry, each in zip(listening, sockets, strict=True)
            if entry.role in protocols
        )
    )


def _listener(role: str, port: int, family: int) -> socket.socket:
    datagram = role in ("dns-udp", "any-udp")
    kind = (
        (socket.SOCK_DGRAM if datagram else socket.SOCK_STREAM) | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
    )
    if role == "raw":
        return _raw(family)
    listener = socket.socket(family, kind)
    if family == socket.AF_INET6:
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    if role in ("any-tcp", "any-udp"):
        _take_any_port(listener, datagram)
    else:
        if datagram and family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVPKTINFO, 1)
        elif datagram:
            listener.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
        else:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("::" if family == socket.AF_INET6 else "0.0.0.0", port))  # noqa: S104
    if not datagram:
        listener.listen(1024)
    return listener


def _raw(family: int) -> socket.socket:
    """Sends packets with headers of their own, and receives none: raw(7) on IPPROTO_RAW."""
    from sandbox.tproxy import MARK

    made = socket.socket(
        family, socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, socket.IPPROTO_RAW
    )
    made.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, MARK)
    return made


def _take_any_port(listener: socket.socket, datagram: bool) -> None:
    """Bind at the resolver's address, where no program of the session expects anything else."""
    from netpolicy.synthetic import RESOLVER_V4, RESOLVER_V6
    from sandbox.tproxy import MARK

    listener.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, MARK)
    if listener.family == socket.AF_INET6:
        listener.setsockopt(socket.IPPROTO_IPV6, _IPV6_TRANSPARENT, 1)
        if datagram:
            listener.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVORIGDSTADDR, 1)
        listener.bind((RESOLVER_V6, 0))
        return
    listener.setsockopt(socket.IPPROTO_IP, socket.IP_TRANSPARENT, 1)
    if datagram:
        listener.setsockopt(socket.IPPROTO_IP, _IP_RECVORIGDSTADDR, 1)
    listener.bind((RESOLVER_V4, 0))
