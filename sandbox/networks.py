"""From an environment's networking, the package managers' servers and the user's options to a policy."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from netpolicy.advice import Terms
from netpolicy.blocklist import Block, parse_private
from netpolicy.policy import ConnectTo, Endpoint, Opening, Policy, compile_policy
from sandbox.errors import InputError

if TYPE_CHECKING:
    from sandbox.environment import Networking

MODES = ("none", "limited", "unrestricted")


class Access(NamedTuple):
    """What a session is to reach, as far as that does not depend on what is installed.

    ``allowed_hosts``: the environment's. ``openings``: what is asked for beside them, each with who asks.
    ``blocks``: what is refused whatever else is allowed. ``private``: private networks (CIDR) that may be reached.
    ``learning``: every name may be reached, to find out which are needed. ``terms``: what its user can change.
    """

    mode: str = "limited"
    allowed_hosts: tuple[str, ...] = ()
    openings: tuple[Opening, ...] = ()
    allow_package_managers: bool = False
    connect_to: tuple[ConnectTo, ...] = ()
    blocks: tuple[Block, ...] = ()
    private: tuple[str, ...] = ()
    learning: bool = False
    terms: Terms = Terms()

    @property
    def hosts(self) -> tuple[str, ...]:
        """Every entry, whoever asks for it."""
        return (*self.allowed_hosts, *(each.entry for each in self.openings))


def combine(
    given: "Networking | None",
    *,
    mode: str | None = None,
    allow: Sequence[str] = (),
    allow_package_managers: bool = False,
    connect_to: Sequence[str] = (),
    allow_private: Sequence[str] = (),
    blocks: Sequence[Block] = (),
) -> Access:
    """An environment's networking and the options that were given beside it. InputError when they don't agree."""
    chosen = mode or (given.type if given else "limited")
    if chosen != "limited" and (allow or allow_package_managers):
        raise InputError(
            f"--allow and --allow-package-managers mean nothing with {chosen} networking",
            hint="drop them, or use --net limited",
        )
    targets = tuple(parse_connect_to(text) for text in connect_to)
    private = tuple(parse_private(text) for text in allow_private)
    if chosen != "limited":
        return Access(chosen, connect_to=targets, blocks=tuple(blocks), private=private)
    return Access(
        chosen,
        given.allowed_hosts if given else (),
        tuple(Opening(entry, "--allow") for entry in allow),
        allow_package_managers or bool(given and given.allow_package_managers),
        targets,
        tuple(blocks),
        private,
    )


def of_environment(
    given: "Networking", *, blocks: Sequence[Block] = (), mcp: Sequence[Opening] = ()
) -> Access:
    """An environment's networking with nothing beside it. ``mcp``: the agent's MCP servers, as far as they count."""
    access = combine(given, blocks=blocks)
    unset = tuple(
        field for field in ("allow_package_managers", "allow_mcp_servers") if not getattr(given, field)
    )
    if given.allow_mcp_servers:
        access = access._replace(openings=tuple(mcp))
    return access._replace(terms=Terms("environment", unset))


def make_policy(access: Access, endpoints: Sequence[tuple[str, str, str, int, str]] = ()) -> Policy:
    """Compile a session's policy. ``endpoints``: (manager, scheme, host, port, source) of each registry."""
    return compile_policy(
        access.mode,  # type: ignore[arg-type]
        access.allowed_hosts,
        [Endpoint(scheme, host, port, manager, source) for manager, scheme, host, port, source in endpoints],  # type: ignore[arg-type]
        access.allow_package_managers,
        access.openings,
        access.connect_to,
        blocks=access.blocks,
        private=access.private,
        learning=access.learning,
        terms=access.terms,
    )


def parse_connect_to(text: str) -> ConnectTo:
    """``HOST[:PORT]=ADDRESS[:PORT]``, an IPv6 address in brackets. InputError says what is wrong with it."""
    host, equals, address = text.partition("=")
    if not equals or not host or not address:
        raise InputError(
            f"--connect-to {text}: this is not HOST[:PORT]=ADDRESS[:PORT]",
            hint="for example --connect-to api.test=127.0.0.1:8443",
        )
    name, port = _split_port(host, text)
    target, to_port = _split_port(address, text)
    return ConnectTo(name, port, target.strip("[]"), to_port)


def _split_port(text: str, whole: str) -> tuple[str, int | None]:
    name, colon, port = text.rpartition(":")
    if not colon or text.endswith("]") or (":" in name and not name.endswith("]")):
        return text, None
    if not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        raise InputError(f"--connect-to {whole}: {port!r} is not a port from 1 to 65535")
    return name, int(port)
