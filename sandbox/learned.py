"""From what a learning session reached to the environment that would have sufficed."""

from collections.abc import Iterable, Mapping
from typing import Any, cast

from netpolicy.errors import InputError
from netpolicy.hosts import parse_pattern
from netpolicy.policy import LEARNING, Policy, Protocol, Request, decide
from sandbox.networks import Access


def entries(policy: Policy, reached: Iterable[Mapping[str, Any]]) -> list[str]:
    """The entries of allowed_hosts that a session lacked. ``policy``: the session's; ``reached``: its report's.

    Each is the one that the same decision names when nobody is learning.
    """
    strict = policy._replace(rules=tuple(rule for rule in policy.rules if rule.origin != LEARNING))
    found = set()
    for each in reached:
        protocol = "tls" if each["protocol"] == "https" else each["protocol"]
        asked = Request(cast(Protocol, protocol), each["host"], each["port"])
        entry = decide(strict, asked).entry
        if _is_entry(entry):
            found.add(entry)
    return sorted(found, key=lambda entry: (entry.partition(":")[0].split(".")[::-1], entry))


def fragment(policy: Policy, access: Access, report: Mapping[str, Any]) -> str:
    """An environment in YAML: what was allowed before, and what was learned. ``report``: the session's by outcome."""
    new = [entry for entry in entries(policy, report["allowed"]) if entry not in access.hosts]
    lines = ["networking:", "  type: limited"]
    hosts = list(dict.fromkeys((*access.hosts, *new)))
    lines.append("  allowed_hosts:" if hosts else "  allowed_hosts: []")
    # A name is a plain scalar's text but for the star, which would begin an alias.
    lines += [f'    - "{entry}"' for entry in hosts]
    if access.allow_package_managers:
        lines.append("  allow_package_managers: true")
    omitted = report["omitted"].get("allowed", 0)
    if omitted:
        lines.append(
            f"# {omitted} further connections found no room in the session's record: learn in parts."
        )
    return "\n".join(lines) + "\n"


def _is_entry(text: str) -> bool:
    try:
        parse_pattern(text)
    except InputError:
        return False
    return True
