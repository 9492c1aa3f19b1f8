"""What would allow what was refused, in the words of whoever can change it.

A session that a command started is changed by the command's options. One that stands on an environment alone is changed
by nothing: the environment is, and new sessions have that. A build serves both.
"""

from __future__ import annotations

from typing import Literal, NamedTuple


class Terms(NamedTuple):
    """What a session's user can change: options, the fields of an environment, or, of a build, either.

    `unset`: the fields of the environment's networking that open more hosts and are not set.
    """

    by: Literal["options", "environment", "either"] = "options"
    unset: tuple[str, ...] = ()


_OPENS = {
    "allow_package_managers": "package managers' servers",
    "allow_mcp_servers": "the servers of the agent's mcp_servers",
}


def entry_for(protocol: str, host: str, port: int) -> str:
    """The entry of allowed_hosts that opens a canonical name on a port."""
    return host if protocol == "tls" and port == 443 else f"{host}:{port}"


def open_host(terms: Terms, entry: str) -> str:
    """For a host that limited networking doesn't list."""
    if terms.by == "options":
        return f"--allow {entry}"
    if terms.by == "either":
        return f'--allow {entry}, or "{entry}" in networking.allowed_hosts of the environment'
    more = " and ".join(f"{field} opens {_OPENS[field]}" for field in terms.unset)
    beside = f" ({more})" if more else ""
    return f'add "{entry}" to networking.allowed_hosts of the environment{beside} and make a new session'


def open_network(terms: Terms, entry: str) -> str:
    """For a session that has no network; `entry` is what it asked for, or empty."""
    if terms.by == "options":
        return f"--net limited --allow {entry}" if entry else "--net limited"
    listed = "" if not entry else f' with "{entry}" among its allowed_hosts'
    return f"make a session of an environment with limited networking{listed}"


def open_address(terms: Terms, address: str) -> str:
    """For an address of a private network, which the user may open."""
    network = f"{address}/{128 if ':' in address else 32}"
    return _by_option(terms, f"--allow-private {network}")


def dial_at(terms: Terms, host: str, port: int, address: str) -> str:
    """For a name whose addresses are not dialled unless the user names one."""
    shown = f"[{address}]" if ":" in address else address
    return _by_option(terms, f"--connect-to {host}:{port}={shown}")


def _by_option(terms: Terms, option: str) -> str:
    if terms.by != "environment":
        return option
    return f"no environment can; a session of sandboxsh can, with {option}"
