"""What a package manager has to be told, as data: phases, each one command in a session of its own."""

from __future__ import annotations

from typing import NamedTuple


class Cache(NamedTuple):
    """The kept downloads called `name`, seen at `target` during a phase."""

    name: str
    target: str
    writable: bool


class Phase(NamedTuple):
    """A shell script and its arguments ("$1" and on). `kept`: what it changes becomes part of the layer.

    `caches` are the downloads it sees. Where the code of packages runs, none of them is writable as far as the
    manager allows: what one environment's package leaves there would reach the next environment.
    `lock` names a cache that one process at a time may use.
    """

    name: str
    script: str
    arguments: tuple[str, ...]
    kept: bool
    caches: tuple[Cache, ...] = ()
    lock: str | None = None


CLEAN = "find /tmp /var/tmp -mindepth 1 -delete 2>/dev/null; rm -rf /root/.cache /root/.npm; true\n"
"""The end of every phase that is kept: temporary files are no part of a layer."""

UNREACHABLE = (
    "dial tcp|lookup .* on |onnection (refused|reset)|could not resolve|etwork is unreachable|timed out|timeout|EOF|"
    "TLS handshake|Bad Gateway|Service Unavailable"
)
"""What managers say (an extended regular expression) when a server did not answer: nothing that a server decided."""

MISSING = 90
"""The exit code of a phase whose manager is not there."""


def require(program: str, test: str) -> str:
    """Shell text that ends a phase with MISSING and a mark unless `test` succeeds."""
    return (
        f"if ! {test} >/dev/null 2>&1; then printf '@sandbox\\tmissing\\t{program}\\n'; exit {MISSING}; fi\n"
    )
