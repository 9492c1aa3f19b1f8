"""What a package manager has to be told, as data: phases, each one command in a session."""

from __future__ import annotations

from typing import NamedTuple


class Cache(NamedTuple):
    """The kept downloads called `name`, seen at `target` during a phase. `private`: not once they are closed."""

    name: str
    target: str
    writable: bool
    private: bool = False


class Phase(NamedTuple):
    """A shell script and its arguments ("$1" and on). `kept`: what it changes becomes part of the layer.

    `caches` are the downloads it sees. Where the code of packages runs, none of them is writable as far as the
    manager allows: what one environment's package leaves there would reach the next environment.
    `lock` names a cache that one process at a time may use. `apart`: nothing is there of the layers below but apt's.
    A build without the network leaves out the phases that are `online`, and the others find OFFLINE set. A phase that
    is `asked` runs only when an earlier one told a mark `phase` with its name.
    A phase that `seals` may do the next one's work as well: where SEALABLE is set, it has its caches closed (`seal`)
    before any code of packages runs, and goes on. Where that was not to be had, it ends with NOT_CLOSED.
    """

    name: str
    script: str
    arguments: tuple[str, ...]
    kept: bool
    caches: tuple[Cache, ...] = ()
    lock: str | None = None
    apart: bool = False
    online: bool = False
    asked: bool = False
    seals: bool = False


TOOLS = "FIND=$(command -v find) RM=$(command -v rm)\n"
"""What CLEAN uses, found before packages have put programs of their own first in the path."""

CLEAN = """for left in /tmp/* /tmp/.[!.]* /tmp/..?* /var/tmp/* /var/tmp/.[!.]* /var/tmp/..?*; do
  if test -e "$left" || test -h "$left"; then
    "${FIND:-find}" /tmp /var/tmp -mindepth 1 -delete 2>/dev/null
    break
  fi
done
for left in /root/.cache /root/.npm; do test ! -e "$left" || "${RM:-rm}" -rf "$left"; done
true
"""
"""The end of every phase that is kept: temporary files are no part of a layer. Where there are none, nothing is run."""

_UNREACHABLE = (
    "dial tcp|lookup .* on |ouldn.t (resolve|connect)|ould not resolve|onnection (refused|reset)|"
    "etwork is unreachable|timed out|timeout|EOF|TLS handshake|"
    "Failed to open TCP|name resolution|Bad Gateway|Service Unavailable"
)
# What managers say (an extended regular expression) when a server did not answer: nothing that a server decided.

UNREACHED = (
    r"^sandbox: (?P<package>\S+)(?: .*)?: its servers can't be reached",
    "its servers can't be reached, and nothing of it is kept",
)
"""Pattern and meaning of what `settle` says at the end of a phase without the network that it needs."""


def settle(cache: str, plan: str) -> str:
    """Shell text that defines `settle`: what the package "$spec" came to goes to the file `plan`, or the phase ends.

    /tmp/found has it or is empty; /tmp/said is what the manager said. What a package came to is kept in the directory
    `cache`, too, for "$tool" (what else decides, such as the version of the manager), and read from there when the
    manager's servers did not answer.
    """
    return f"""mkdir -p {cache}/resolved /var/tmp && : > {plan} || exit
settle() {{
  kept={cache}/resolved/$(printf '%s %s' "$tool" "$spec" | sha256sum | cut -c1-64)
  if test -s /tmp/found; then
    cp /tmp/found "$kept.$$" && mv "$kept.$$" "$kept" || exit
  elif ! grep -Eq "{_UNREACHABLE}" /tmp/said; then
    exit 1
  elif test -e "$kept"; then
    echo "the servers can't be reached: $spec as it was last resolved"
  else
    echo "sandbox: $spec: its servers can't be reached, and nothing of it is kept"
    exit 1
  fi
  cat "$kept" >> {plan} || exit
}}
"""


OFFLINE = "SANDBOX_OFFLINE"
"""The variable that is "1" where there is no network, and a manager has to take what is kept."""

SEALABLE = "SANDBOX_SEALABLE"
"""The variable that is "1" where a phase can have its caches closed by the mark `seal`."""


NOT_CLOSED = 91
"""The exit code of a phase that asked to have its caches closed and did not see it happen: it has done its own part."""

SEAL = "@sandbox\tseal"


def seal(directory: str) -> str:
    """Shell text that has all caches closed, `directory` among them, and fails when that takes more than 10 seconds.

    The kernel's list of mounts says so; of root, some shells' `test` says that it may write anywhere.
    """
    return f"""printf '{SEAL}\\n'
left=1000
until grep -q " {directory} ro[, ]" /proc/self/mountinfo; do
  left=$((left - 1)); test $left -gt 0 || exit 1
  sleep 0.01
done
"""


def fetch_and_install(
    name: str, target: str, specs: tuple[str, ...], fetch: str, install: str
) -> tuple[Phase, ...]:
    """`fetch` with the kept downloads `name` at `target`, then `install`, which can't write there.

    Both are shell text that finds `specs` as "$@", /tmp empty and no variables of the other's. One session does both
    where the downloads can be closed to it.
    """
    in_one = f"""(
{fetch}) || exit
test -n "${SEALABLE}" || exit 0
(
{seal(target)}) || exit {NOT_CLOSED}
find /tmp -mindepth 1 -delete
cd /workspace || exit
{install}"""
    return (
        Phase("download", in_one, specs, True, (Cache(name, target, writable=True),), apart=True, seals=True),
        Phase("install", install, specs, True, (Cache(name, target, writable=False),)),
    )


MISSING = 90
"""The exit code of a phase whose manager is not there."""


def require(program: str, test: str) -> str:
    """Shell text that ends a phase with MISSING and a mark unless `test` succeeds."""
    return (
        f"if ! {test} >/dev/null 2>&1; then printf '@sandbox\\tmissing\\t{program}\\n'; exit {MISSING}; fi\n"
    )
