"""From an environment's networking, the package managers' servers and the user's options to a policy."""

from collections.abc import Sequence

from netpolicy.policy import ConnectTo, Endpoint, Policy, compile_policy
from sandbox.errors import InputError

MODES = ("none", "limited", "unrestricted")


def make_policy(
    mode: str,
    allowed_hosts: Sequence[str],
    endpoints: Sequence[tuple[str, str, str, int, str]] = (),
    *,
    allow_package_managers: bool = False,
    connect_to: Sequence[ConnectTo] = (),
) -> Policy:
    """Compile a session's policy. ``endpoints``: (manager, scheme, host, port, source) of each registry."""
    return compile_policy(
        mode,  # type: ignore[arg-type]
        allowed_hosts,
        [Endpoint(scheme, host, port, manager, source) for manager, scheme, host, port, source in endpoints],  # type: ignore[arg-type]
        allow_package_managers=allow_package_managers,
        connect_to=connect_to,
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
