"""What a session may reach: the compiled policy and the one function that decides."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from netpolicy import advice
from netpolicy.blocklist import METADATA, Block, blocked_address, blocked_name
from netpolicy.errors import InputError
from netpolicy.hosts import ANY_HOST, HostPattern, looks_like_address, matches, normalise_name, parse_pattern

Mode = Literal["none", "limited", "unrestricted"]
Protocol = Literal["tls", "http", "tcp", "udp", "dns"]
# "any-tcp" and "any-udp" hear every port; "raw" sends the answers of the latter.
Role = Literal["tls", "http", "tcp", "dns-udp", "dns-tcp", "any-tcp", "any-udp", "raw"]

# The hosts of source repositories that package managers fetch from besides their registries.
CODE_HOSTS = (
    "github.com",
    "api.github.com",
    "codeload.github.com",
    "raw.githubusercontent.com",
    "objects.githubusercontent.com",
    "release-assets.githubusercontent.com",
    "gitlab.com",
    "bitbucket.org",
)


LEARNING = "learn: every name"


class Endpoint(NamedTuple):
    """A registry that a package manager uses.

    `source` is who says so: the file with the setting, as an absolute path, or "environment", or words for what
    is no configuration of the user's, such as "built-in default" or that another registry named this one.
    """

    scheme: Literal["http", "https"]
    host: str
    port: int
    manager: str
    source: str


class Opening(NamedTuple):
    """An entry in the form of `allowed_hosts`, and who asks for it: "--allow", "allow_mcp_servers: NAME", …"""

    entry: str
    origin: str


class Rule(NamedTuple):
    """Hosts that may be reached, the protocol spoken, the port, and who asked for it.

    `private`: the hosts may have addresses of a private network, since the user's configuration names them.
    Port 0 is every port, and "any" every protocol.
    """

    pattern: HostPattern
    protocol: Literal["tls", "http", "tcp", "any"]
    port: int
    origin: str
    private: bool = False


class ConnectTo(NamedTuple):
    """The user's word that `host` (on `port`, or on any) is dialled at `address` (on `to_port`, or the same).

    The address is dialled without the veto on private addresses: the user named that very target.
    """

    host: str
    port: int | None
    address: str
    to_port: int | None


class Policy(NamedTuple):
    """`blocks` go before `rules`. `private`: networks (CIDR) whose addresses are not refused for being private.

    `attached_ports`: further ports of TLS that are listened to, for netpolicy.credentials. `terms`: what whoever made
    the policy can change, for the words of a refusal.
    """

    mode: Mode
    rules: tuple[Rule, ...]
    connect_to: tuple[ConnectTo, ...]
    blocks: tuple[Block, ...] = METADATA
    private: tuple[str, ...] = ()
    attached_ports: tuple[int, ...] = ()
    terms: advice.Terms = advice.Terms()


class Request(NamedTuple):
    """What a session asks for. `host` is canonical, or None when it can't be determined."""

    protocol: Protocol
    host: str | None
    port: int


class Verdict(NamedTuple):
    """`reason` is for people, `code` for programs; `hint` says what would allow it, or is empty.

    `entry`: the entry of allowed_hosts that would allow it, or empty.
    """

    allow: bool
    reason: str
    rule: Rule | Block | None
    hint: str
    code: str = ""
    entry: str = ""


def compile_policy(
    mode: Mode,
    allowed_hosts: Sequence[str] = (),
    endpoints: Sequence[Endpoint] = (),
    allow_package_managers: bool = False,
    openings: Sequence[Opening] = (),
    connect_to: Sequence[ConnectTo] = (),
    code_hosts: bool = True,
    blocks: Sequence[Block] = (),
    private: Sequence[str] = (),
    learning: bool = False,
    terms: advice.Terms = advice.Terms(),  # noqa: B008 - a constant
) -> Policy:
    """Turn what the user configured into rules; InputError names the first entry that can't be accepted.

    Every entry is checked in every mode. `endpoints` count only with `allow_package_managers`. `openings`
    are what others than `allowed_hosts` ask for. `code_hosts`: package managers bring the well-known hosts of
    source repositories with them. `blocks` and `private`: see Policy; the names of clouds' metadata are always
    blocked. `learning` lets a limited session reach every name, so that it shows what it needs. `terms`: see Policy.
    """
    if mode not in ("none", "limited", "unrestricted"):
        raise InputError(f"network mode {mode!r} is unknown", "choose none, limited or unrestricted")
    rules = [_allowed(entry, "allowed_hosts") for entry in allowed_hosts]
    rules += [_allowed(each.entry, each.origin) for each in openings]
    if allow_package_managers:
        rules += [_endpoint(endpoint) for endpoint in endpoints]
        if code_hosts:
            rules += [
                Rule(HostPattern(host, False, None), "tls", 443, "allow_package_managers: code host")
                for host in CODE_HOSTS
            ]
    targets = tuple(_target(each) for each in connect_to)
    if mode == "none":
        return Policy(mode, (), (), terms=terms)
    if mode == "unrestricted":
        if targets:
            raise InputError(
                "connect_to means nothing with unrestricted networking: sessions look names up themselves",
                "drop --connect-to, or use limited networking",
            )
        rules = [Rule(ANY_HOST, "any", 0, "unrestricted networking")]
    elif learning:
        rules.append(Rule(ANY_HOST, "any", 0, LEARNING))
    return Policy(mode, _without_repeats(rules), targets, (*METADATA, *blocks), tuple(private), terms=terms)


def decide(policy: Policy, request: Request) -> Verdict:
    """Whether the session may do this, why, and what would change it."""
    entry = "" if request.host is None else advice.entry_for(request.protocol, request.host, request.port)
    if policy.mode == "none":
        hint = advice.open_network(policy.terms, entry)
        return Verdict(False, "the session has no network", None, hint, "no-network", entry)
    if request.protocol == "dns" and policy.mode == "limited":
        return Verdict(True, "names are answered inside the session and never leave it", None, "")
    if request.host is None:
        return Verdict(False, _NO_NAME[request.protocol], None, "", "no-name")
    block = blocked_name(policy.blocks, request.host)
    if block is not None:
        return Verdict(False, f"{request.host} is blocked ({block.origin})", block, "", "blocked")
    if policy.mode == "unrestricted" and looks_like_address(request.host):
        refused = judge_address(policy, request.host)
        if refused is not None:
            return refused
    covering = [rule for rule in policy.rules if matches(rule.pattern, request.host)]
    for rule in covering:
        if rule.port in (request.port, 0) and _speaks(rule, request.protocol):
            return Verdict(True, f"allowed by {rule.origin}", rule, "")
    return _denied(policy, request, request.host, covering, entry)


def judge_address(
    policy: Policy, address: str, private: bool = False, own: frozenset[str] = frozenset()
) -> Verdict | None:
    """The refusal of an address that is about to be dialled, or None.

    `private`: it may be of a private network. `own`: see netpolicy.addresses.veto.
    """
    block = blocked_address(policy.blocks, address)
    if block is not None:
        return Verdict(False, f"{address} is blocked ({block.origin})", block, "", "blocked")
    # Two milliseconds that denied connections and named targets are spared.
    from netpolicy.addresses import veto, within

    opened = private or any(within(address, network) for network in policy.private)
    reason = veto(address, own, opened)
    if reason is None:
        return None
    openable = not opened and veto(address, own, True) is None
    hint = advice.open_address(policy.terms, address) if openable else ""
    return Verdict(False, reason, None, hint, "private-address")


def target_for(policy: Policy, host: str, port: int) -> ConnectTo | None:
    """Where the user said that this name is dialled; an entry for the port goes before one for any port."""
    fitting = [each for each in policy.connect_to if each.host == host and each.port in (port, None)]
    return min(fitting, key=lambda each: each.port is None, default=None)


def may_be_private(policy: Policy, host: str, port: int) -> bool:
    """Whether a host that may be reached on `port` may be at an address of a private network."""
    return any(rule.private and rule.port == port and matches(rule.pattern, host) for rule in policy.rules)


def opens_address(policy: Policy, address: str, port: int) -> bool:
    """Whether a rule opens TLS to this very address: a greeting can't name one (RFC 6066 3)."""
    return looks_like_address(address) and decide(policy, Request("tls", address, port)).allow


def protocol_for(policy: Policy, host: str | None, port: int) -> Literal["tls", "http", "tcp"]:
    """What is spoken to a looked-up name, or an address, on a port that rules of several protocols share."""
    fitting = [rule for rule in policy.rules if rule.port == port and host and matches(rule.pattern, host)]
    spoken = fitting[0].protocol if fitting else "tcp"
    return "tcp" if spoken == "any" else spoken


def request_for(policy: Policy, host: str, port: int) -> Request:
    """What the proxy would ask about a connection to a canonical name on a port."""
    roles = {number: role for role, number in listening_ports(policy) if role != "dns-udp"}
    role = roles.get(port)
    protocol = role if role in ("tls", "http") else protocol_for(policy, host, port)
    return Request(protocol, host, port)


def listening_ports(policy: Policy) -> tuple[tuple[Role, int], ...]:
    """The sockets that a session's network needs, as (role, port); every other port has no listener at all.

    A port that rules of several protocols share is a "tcp" one: the name that the program looked up decides.
    """
    if policy.mode == "none":
        return ()
    every = False
    protocols: dict[int, set[Literal["tls", "http", "tcp"]]] = {443: {"tls"}, 80: {"http"}}
    for port in policy.attached_ports:
        protocols.setdefault(port, set()).add("tls")
    for rule in policy.rules:
        if rule.protocol == "any":
            every = True
        else:
            protocols.setdefault(rule.port, set()).add(rule.protocol)
    roles: list[tuple[Role, int]] = [("dns-udp", 53), ("dns-tcp", 53)]
    if policy.mode == "unrestricted":
        return (*roles, ("any-tcp", 0), ("any-udp", 0), ("raw", 0))
    roles += [
        (next(iter(each)) if len(each) == 1 else "tcp", port) for port, each in sorted(protocols.items())
    ]
    if every:
        roles.append(("any-tcp", 0))
    return tuple(roles)


def render(policy: Policy) -> list[str]:
    """The policy as lines for people, each rule with its origin."""
    if policy.mode == "none":
        return ["network: none"]
    lines = [f"network: {policy.mode}; everything that is not listed is refused"]
    if policy.mode == "unrestricted":
        lines = ["network: unrestricted; what is not public is refused, and so is this machine itself"]
    for origin in dict.fromkeys(each.origin for each in policy.blocks):
        what = ", ".join(str(each.pattern or each.network) for each in policy.blocks if each.origin == origin)
        lines.append(f"  refuse {what}  ({origin})")
    lines += [
        f"  private addresses of {each} are no reason to refuse  (--allow-private)" for each in policy.private
    ]
    lines += [f"  allow {describe(rule)}" for rule in policy.rules]
    for each in policy.connect_to:
        port = "any port" if each.port is None else f"port {each.port}"
        at = each.address if each.to_port is None else f"{each.address} port {each.to_port}"
        lines.append(f"  dial {each.host} on {port} at {at}  (connect_to)")
    return lines


def describe(rule: Rule | Block) -> str:
    """One rule for people, with its origin."""
    if isinstance(rule, Block):
        return f"nothing to {rule.pattern or rule.network}  ({rule.origin})"
    if rule.protocol == "any":
        return f"every host on every port  ({rule.origin})"
    private = ", at a private address too" if rule.private else ""
    name = rule.pattern._replace(port=None)
    return f"{SPOKEN[rule.protocol]} to {name} on port {rule.port}{private}  ({rule.origin})"


SPOKEN = {
    "tls": "TLS",
    "http": "plain HTTP",
    "tcp": "TCP",
    "udp": "UDP",
    "dns": "a DNS query",
    "https": "HTTPS",
}
_NO_NAME = {
    "tls": "the TLS greeting names no server, so the host can't be determined",
    "http": "the request names no host",
    "tcp": "the address stands for no name; only names can be allowed",
    "udp": "the datagram names no host",
    "dns": "the query names no host",
}


def _speaks(rule: Rule, protocol: Protocol) -> bool:
    return rule.protocol in (protocol, "any") or (rule.protocol == "tcp" and protocol != "udp")


def _denied(policy: Policy, request: Request, host: str, covering: list[Rule], entry: str) -> Verdict:
    hint = advice.open_host(policy.terms, entry)
    if covering:
        openings = " and ".join(
            dict.fromkeys(f"{SPOKEN[rule.protocol]} on port {rule.port}" for rule in covering)
        )
        asked = f"{SPOKEN[request.protocol]} on port {request.port}"
        code = "plain-http" if request.protocol == "http" else "port"
        reason = f"{host} is allowed for {openings} only, not for {asked}"
        return Verdict(False, reason, None, hint, code, entry)
    for rule in policy.rules:
        if rule.pattern.subdomains and rule.pattern.name == host:
            reason = f"*.{host} covers the names below {host}, not {host} itself"
            return Verdict(False, reason, None, hint, "not-allowed", entry)
    if looks_like_address(host):
        return Verdict(False, f"{host} is an address; only names can be allowed", None, "", "no-name")
    return Verdict(False, f"{host} is not among the allowed hosts", None, hint, "not-allowed", entry)


def _allowed(entry: str, origin: str) -> Rule:
    pattern = parse_pattern(entry)
    if pattern.port in (None, 443):
        return Rule(pattern, "tls", 443, origin)
    if pattern.port == 80:
        return Rule(pattern, "http", 80, origin)
    return Rule(pattern, "tcp", pattern.port, origin)


def _endpoint(endpoint: Endpoint) -> Rule:
    if endpoint.scheme not in ("http", "https") or not 0 < endpoint.port < 65536 or endpoint.port == 53:
        raise InputError(
            f"{endpoint.manager} endpoint {endpoint.scheme}://{endpoint.host}:{endpoint.port}, "
            f"read from {endpoint.source}, can't be opened",
            "an endpoint is http or https on a port from 1 to 65535 other than 53",
        )
    try:
        name = _canonical_address(endpoint.host) or normalise_name(endpoint.host)
    except InputError as error:
        raise InputError(
            f"{endpoint.manager} endpoint read from {endpoint.source}: {error}", error.hint
        ) from None
    origin = f"allow_package_managers: {endpoint.manager}, {endpoint.source}"
    configured = endpoint.source.startswith("/") or endpoint.source == "environment"
    protocol: Literal["tls", "http"] = "tls" if endpoint.scheme == "https" else "http"
    return Rule(HostPattern(name, False, None), protocol, endpoint.port, origin, private=configured)


def _target(each: ConnectTo) -> ConnectTo:
    host = normalise_name(each.host)
    address = _canonical_address(each.address)
    if address is None:
        raise InputError(
            f"connect_to for {host}: {each.address!r} is not an address",
            "give an IPv4 or IPv6 address, not a name",
        )
    for port in (each.port, each.to_port):
        if port is not None and not 0 < port < 65536:
            raise InputError(f"connect_to for {host}: port {port} is not from 1 to 65535", "correct the port")
    return ConnectTo(host, each.port, address, each.to_port)


def _canonical_address(text: str) -> str | None:
    if not looks_like_address(text):
        return None
    from ipaddress import ip_address

    try:
        return str(ip_address(text.removeprefix("[").removesuffix("]")))
    except ValueError:
        return None


def _without_repeats(rules: list[Rule]) -> tuple[Rule, ...]:
    """One rule for each opening; the first origin stays, save that what permits private addresses shows."""
    kept: dict[tuple[str, bool, str, int], Rule] = {}
    for rule in rules:
        key = (rule.pattern.name, rule.pattern.subdomains, rule.protocol, rule.port)
        known = kept.setdefault(key, rule)
        if rule.private and not known.private:
            kept[key] = rule
    return tuple(kept.values())
