"""The words that the supervisor and process 1 of a session say to each other, over one SOCK_SEQPACKET pair.

A message is a word, then fields apart by blanks; descriptors travel beside it. Process 1's words are read as text
and never as objects, for it shares a process-id namespace with code that nobody trusts.

To process 1: ``setup`` (with the encoded set-up, standard streams and mount trees), ``signal N``, ``continue``.
To a container's: ``end``, ``leave``. From it as well: ``window`` (with its directory), ``serving``, ``busy``, ``idle``.
From process 1: ``listening ROLE:PORT:FAMILY …`` (with sockets), ``terminal`` (with its master), ``started``,
``stopped N``, ``exited CODE SIGNAL UTIME STIME MAXRSS_KIB``, ``failed ERRNO TEXT``, ``unrunnable ERRNO TEXT``.
"""

import array
import os
import socket

_LARGEST = 65536
# The kernel's limit for one message, SCM_MAX_FD.
MOST_DESCRIPTORS = 253


def say(channel: socket.socket, message: str, fds: tuple[int, ...] = ()) -> None:
    """Send one message with its descriptors; OSError when nobody listens any more."""
    if len(fds) > MOST_DESCRIPTORS:
        raise OSError(7, f"{len(fds)} descriptors do not fit one message")
    data = message.encode("utf-8", "surrogateescape")[:_LARGEST]
    ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    channel.sendmsg([data], ancillary, socket.MSG_NOSIGNAL)


def hear(channel: socket.socket) -> tuple[str, tuple[int, ...]] | None:
    """The next message with its descriptors (close-on-exec), or None when the other side is gone."""
    room = socket.CMSG_SPACE(MOST_DESCRIPTORS * array.array("i").itemsize)
    try:
        data, ancillary, _, _ = channel.recvmsg(_LARGEST, room, socket.MSG_CMSG_CLOEXEC)
    except ConnectionResetError:
        return None
    fds = array.array("i")
    for level, kind, content in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(content[: len(content) - len(content) % fds.itemsize])
    if not data:
        for fd in fds:
            os.close(fd)
        return None
    return data.decode("utf-8", "surrogateescape"), tuple(fds)
