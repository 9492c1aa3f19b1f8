"""From a checked name to a connected socket: resolve, veto, dial exactly what was vetted."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

from netpolicy import advice
from netpolicy.blocklist import Block
from netpolicy.hosts import looks_like_address
from netpolicy.ownership import local_veto
from netpolicy.policy import Policy, Rule, Verdict, judge_address, may_be_private, target_for
from netpolicy.reactor import WRITE, Reactor, Timer
from netpolicy.resolver import Resolver

MAX_ADDRESSES = 16
STAGGER = 0.25  # seconds, RFC 8305 section 8


class Unreachable(NamedTuple):
    """Why there is no connection: "denied" when every address was vetoed, else "failed"; `rule`: what vetoed it."""

    kind: Literal["denied", "failed"]
    reason: str
    code: str
    hint: str = ""
    rule: Rule | Block | None = None


def refusal(policy: Policy, address: str, private: bool, own: frozenset[str]) -> Verdict | None:
    """Why an address is not dialled: by the policy, or because the kernel says that it is this machine's own."""
    verdict = judge_address(policy, address, private, own)
    if verdict is not None:
        return verdict
    reason = local_veto(address)
    return None if reason is None else Verdict(False, reason, None, "", "private-address")


class Reach:
    """One attempt to connect to a name; `done` is called once, with the socket or why not, unless cancelled.

    Addresses are tried one after the other, the next one as soon as one fails or has taken a quarter second.
    `trusted`: the host's own configuration names this target; none of its addresses is refused. `siblings`: further
    addresses of it, asked for only where the first ones fail or take long; those that are refused are left out.
    """

    def __init__(
        self,
        reactor: Reactor,
        policy: Policy,
        resolver: Resolver,
        own: frozenset[str],
        resolve_timeout: float,
        connect_timeout: float,
        host: str,
        port: int,
        done: Callable[[socket.socket | Unreachable], None],
        trusted: bool = False,
        siblings: Callable[[], Sequence[str]] | None = None,
    ) -> None:
        self._siblings = siblings
        self._trusted = trusted
        self._reactor = reactor
        self._policy = policy
        self._own = own
        self._connect_timeout = connect_timeout
        self._host = host
        self._port = port
        self._private = False
        self._done: Callable[[socket.socket | Unreachable], None] | None = done
        self._left: list[str] = []
        self._trying: dict[socket.socket, str] = {}
        self._stagger: Timer | None = None
        self._last_error = ""
        self._deadline: Timer
        target = None if trusted else target_for(policy, host, port)
        if target is not None:
            self._port = port if target.to_port is None else target.to_port
            self._deadline = reactor.after(0, lambda: self._dial([target.address]))
        else:
            self._private = may_be_private(policy, host, port)
            if looks_like_address(host):
                self._deadline = reactor.after(0, lambda: self._resolved([host]))
                return
            self._deadline = reactor.after(resolve_timeout, self._resolve_expired)
            resolver.resolve(host, self._resolved)

    def cancel(self) -> None:
        self._done = None
        self._stop()

    def _resolve_expired(self) -> None:
        self._finish(Unreachable("failed", f"the name {self._host} was not resolved in time", "resolve"))

    def _resolved(self, result: Sequence[str] | OSError) -> None:
        if self._done is None:
            return
        if isinstance(result, OSError):
            why = result.strerror or str(result)
            self._finish(Unreachable("failed", f"the name {self._host} can't be resolved: {why}", "resolve"))
            return
        addresses = list(dict.fromkeys(result))[:MAX_ADDRESSES]
        verdicts = {each: self._refusal(each) for each in addresses}
        open_ones = [each for each in addresses if verdicts[each] is None]
        if open_ones:
            self._dial(_alternate(open_ones))
        elif addresses:
            self._refuse(addresses[0], verdicts[addresses[0]])
        else:
            self._finish(Unreachable("failed", f"the name {self._host} has no address", "resolve"))

    def _refusal(self, address: str) -> Verdict | None:
        return None if self._trusted else refusal(self._policy, address, self._private, self._own)

    def _refuse(self, address: str, verdict: Verdict | None) -> None:
        assert verdict is not None
        if address == self._host:
            self._finish(Unreachable("denied", verdict.reason, verdict.code, verdict.hint, verdict.rule))
            return
        reason = f"{self._host} resolves to {verdict.reason}, which sessions must not reach"
        hint = verdict.hint
        if verdict.code == "private-address" and self._policy.mode == "limited":
            hint = advice.dial_at(self._policy.terms, self._host, self._port, address)
        self._finish(Unreachable("denied", reason, verdict.code, hint, verdict.rule))

    def _dial(self, addresses: list[str]) -> None:
        self._deadline.cancel()
        self._deadline = self._reactor.after(self._connect_timeout, self._connect_expired)
        self._left = addresses
        self._next()

    def _connect_expired(self) -> None:
        self._finish(
            Unreachable("failed", f"{self._host} did not accept the connection in time", "connect-timeout")
        )

    def _next(self) -> None:
        """Start on the next address; without any left, wait for those under way."""
        if self._stagger is not None:
            self._stagger.cancel()
            self._stagger = None
        while self._left:
            address = self._left.pop(0)
            try:
                self._start(address)
            except OSError as error:
                self._last_error = os.strerror(error.errno) if error.errno else str(error)
                continue
            if (self._left or self._siblings is not None) and self._done is not None:
                self._stagger = self._reactor.after(STAGGER, self._next)
            return
        if self._siblings is not None:
            siblings, self._siblings = self._siblings(), None
            self._left = [each for each in siblings[:MAX_ADDRESSES] if self._refusal(each) is None]
            if self._left:
                self._next()
                return
        if not self._trying and self._done is not None:
            self._finish(
                Unreachable("failed", f"{self._host} can't be connected to: {self._last_error}", "connect")
            )

    def _start(self, address: str) -> None:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        connection = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            code = connection.connect_ex((address, self._port))
            if code not in (0, errno.EINPROGRESS):
                raise OSError(code, os.strerror(code))
        except OSError:
            connection.close()
            raise
        self._trying[connection] = address
        self._reactor.watch(connection.fileno(), WRITE, lambda _event: self._check(connection))

    def _check(self, connection: socket.socket) -> None:
        address = self._trying.get(connection)
        if address is None:
            return
        # Asking again tells the three states apart, which SO_ERROR alone does not.
        code = connection.connect_ex((address, self._port))
        if code in (errno.EALREADY, errno.EINPROGRESS):
            return
        del self._trying[connection]
        self._reactor.forget(connection.fileno())
        if code in (0, errno.EISCONN):
            self._finish(connection)
            return
        connection.close()
        self._last_error = os.strerror(code)
        self._next()

    def _finish(self, result: socket.socket | Unreachable) -> None:
        done, self._done = self._done, None
        self._stop()
        if done is None:
            return
        try:
            done(result)
        except Exception:
            if isinstance(result, socket.socket):
                result.close()
            raise

    def _stop(self) -> None:
        self._deadline.cancel()
        if self._stagger is not None:
            self._stagger.cancel()
        self._left = []
        for connection in self._trying:
            self._reactor.forget(connection.fileno())
            connection.close()
        self._trying.clear()


def _alternate(addresses: list[str]) -> list[str]:
    """The families in turn, the resolver's first choice first (RFC 8305 section 4)."""
    first_is_v6 = ":" in addresses[0]
    same = [each for each in addresses if (":" in each) == first_is_v6]
    other = [each for each in addresses if (":" in each) != first_is_v6]
    mixed = []
    while same or other:
        mixed += same[:1] + other[:1]
        same, other = same[1:], other[1:]
    return mixed
