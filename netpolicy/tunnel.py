"""Dialling through the proxy that the host itself uses."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

from netpolicy import hostproxy
from netpolicy.errors import PeerError
from netpolicy.hostproxy import HostProxy
from netpolicy.hosts import looks_like_address
from netpolicy.policy import may_be_private
from netpolicy.reach import Reach, Unreachable, refusal
from netpolicy.reactor import READ, WRITE, Timer

if TYPE_CHECKING:
    from netpolicy.wall import Wall

_HINTS = {
    403: "it may refuse this host or port; ask whoever runs it, or add the host to NO_PROXY",
    407: "it wants a name and a password: HTTPS_PROXY=http://NAME:PASSWORD@HOST:PORT",
}


class Tunnel:
    """One attempt to reach a host by name through a proxy; `done` is called once, unless cancelled.

    `plain`: the result is the connection to the proxy itself, to which requests are sent in absolute form. The
    proxy resolves the name, so addresses are not judged, save the one that a session asked for itself.
    """

    def __init__(
        self,
        wall: Wall,
        proxy: HostProxy | str,
        host: str,
        port: int,
        plain: bool,
        done: Callable[[socket.socket | Unreachable], None],
    ) -> None:
        self._wall = wall
        self._proxy = proxy
        self._host = host
        self._port = port
        self._plain = plain
        self._done: Callable[[socket.socket | Unreachable], None] | None = done
        self._reach: Reach | None = None
        self._connection: socket.socket | None = None
        self._out = b""
        self._seen = 0
        self._timer: Timer = wall.reactor.after(0, self._start)

    def cancel(self) -> None:
        self._done = None
        self._timer.cancel()
        if self._reach is not None:
            self._reach.cancel()
        self._drop()

    def _start(self) -> None:
        wall, proxy = self._wall, self._proxy
        host = self._host
        if isinstance(proxy, str):
            self._finish(Unreachable("failed", proxy, "upstream-proxy"))
            return
        if looks_like_address(host):
            private = may_be_private(wall.policy, host, self._port)
            refused = refusal(wall.policy, host, private, wall.own)
            if refused is not None:
                self._finish(Unreachable("denied", refused.reason, refused.code, refused.hint, refused.rule))
                return
            self._host = wall.recent.name_of(host) or host
        self._reach = wall.dial(proxy.host, proxy.port, self._reached, trusted=True)

    def _reached(self, result: socket.socket | Unreachable) -> None:
        self._reach = None
        if isinstance(result, Unreachable):
            self._fail(f"can't be reached: {result.reason}")
        elif self._plain:
            self._finish(result)
        else:
            assert isinstance(self._proxy, HostProxy)
            self._connection = result
            self._out = hostproxy.connect_request(self._proxy, self._host, self._port)
            wall = self._wall
            self._timer = wall.reactor.after(wall.timeouts.connect, self._expired)
            wall.reactor.watch(result.fileno(), WRITE, self._talk)

    def _expired(self) -> None:
        self._fail("did not open a tunnel in time", "upstream-proxy-timeout")

    def _talk(self, _event: int) -> None:
        if self._connection is None:
            return
        try:
            if self._out:
                self._out = self._out[self._connection.send(self._out) :]
                if not self._out:
                    self._wall.reactor.change(self._connection.fileno(), READ)
                return
            # Looked at first: what follows the answer is the other end's already.
            seen = self._connection.recv(hostproxy.MAX_ANSWER, socket.MSG_PEEK)
            length = hostproxy.head_length(seen)
            if length:
                self._answered(hostproxy.read_status(self._connection.recv(length)))
            elif len(seen) == self._seen:
                self._fail("hung up")
            else:
                # Called again for more than that, or for the end.
                self._seen = len(seen)
                self._connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, self._seen + 1)
        except BlockingIOError:
            return
        except (OSError, PeerError) as error:
            self._fail(error.strerror or "broke off" if isinstance(error, OSError) else str(error))

    def _answered(self, status: int) -> None:
        if not 200 <= status < 300:
            hint = _HINTS.get(status, "")
            self._fail(f"answered {status}" + (f" ({hint})" if hint else ""))
            return
        connection, self._connection = self._connection, None
        assert connection is not None
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)
        self._wall.reactor.forget(connection.fileno())
        self._finish(connection)

    def _fail(self, what: str, code: str = "upstream-proxy") -> None:
        reason = f"{self._host} was asked of the host's proxy, which {what}"
        self._finish(Unreachable("failed", reason, code))

    def _finish(self, result: socket.socket | Unreachable) -> None:
        self._timer.cancel()
        self._drop()
        done, self._done = self._done, None
        if done is None:
            if isinstance(result, socket.socket):
                result.close()
            return
        try:
            done(result)
        except Exception:
            if isinstance(result, socket.socket):
                result.close()
            raise

    def _drop(self) -> None:
        if self._connection is not None:
            self._wall.reactor.forget(self._connection.fileno())
            self._connection.close()
            self._connection = None
