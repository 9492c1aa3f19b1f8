"""The record of what was decided: a line for each decision, and a summary that stays small."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

from netpolicy.blocklist import Block
from netpolicy.policy import Rule, Verdict

MAX_ENTRIES = 1_000
MAX_REASON = 500


class Decision(NamedTuple):
    """One judged connection or request; `outcome` "failed" means allowed, but out of reach.

    `host` is the judged name, or what is known instead: the name or the address that was connected to.
    `sent` and `received` are octets as the session sees them, `duration` seconds, `time` Unix seconds.
    """

    time: float
    protocol: str
    host: str
    port: int
    outcome: Literal["allowed", "denied", "failed"]
    reason: str
    code: str = ""
    hint: str = ""
    rule: Rule | Block | None = None
    sent: int = 0
    received: int = 0
    duration: float = 0.0


def denied(time: float, protocol: str, host: str, port: int, verdict: Verdict) -> Decision:
    return Decision(
        time, protocol, host, port, "denied", verdict.reason, verdict.code, verdict.hint, verdict.rule
    )


def line(session: str, decision: Decision) -> bytes:
    """One JSON line. It has no path, query, header or body of any request."""
    import json

    rule = decision.rule
    record = {
        "time": round(decision.time, 3),
        "session": session,
        "protocol": decision.protocol,
        "host": decision.host,
        "port": decision.port,
        "verdict": decision.outcome,
        "reason": decision.reason[:MAX_REASON],
        "code": decision.code,
        "hint": decision.hint,
        "rule": None if rule is None else _rule(rule),
        "sent": decision.sent,
        "received": decision.received,
        "duration_s": round(decision.duration, 6),
    }
    return json.dumps(record, separators=(",", ":")).encode("ascii") + b"\n"


def _rule(rule: Rule | Block) -> str:
    if isinstance(rule, Block):
        return f"block {rule.pattern or rule.network} ({rule.origin})"
    return f"{rule.protocol} {rule.pattern} {rule.port or 'any port'} ({rule.origin})"


class Audit:
    """Takes each decision once: writes its line to `sink`, if any, and counts it for the summary.

    The summary keeps MAX_ENTRIES different entries of each outcome and counts the rest together.
    """

    def __init__(self, session: str, sink: Callable[[bytes], None] | None) -> None:
        self._session = session
        self._sink = sink
        self._entries: dict[str, dict[tuple[str, int, str, str], Decision]] = {
            "allowed": {},
            "denied": {},
            "failed": {},
        }
        self._counts: dict[tuple[str, tuple[str, int, str, str]], int] = {}
        self._dropped = {"allowed": 0, "denied": 0, "failed": 0}

    def record(self, decision: Decision) -> None:
        if self._sink is not None:
            self._sink(line(self._session, decision))
        entries = self._entries[decision.outcome]
        reason = "" if decision.outcome == "allowed" else decision.reason
        key = (decision.host, decision.port, decision.protocol, reason)
        known = entries.get(key)
        if known is not None:
            entries[key] = known._replace(
                sent=known.sent + decision.sent, received=known.received + decision.received
            )
        elif len(entries) < MAX_ENTRIES:
            entries[key] = decision
        else:
            self._dropped[decision.outcome] += 1
            return
        self._counts[decision.outcome, key] = self._counts.get((decision.outcome, key), 0) + 1

    def summary(self) -> dict[str, Any]:
        """`denied`, `allowed` and `failed`: lists of entries; `omitted`: how many more there were."""
        result: dict[str, Any] = {}
        for outcome, entries in self._entries.items():
            result[outcome] = [
                self._entry(outcome, decision, self._counts[outcome, key])
                for key, decision in entries.items()
            ]
        result["omitted"] = dict(self._dropped)
        return result

    @staticmethod
    def _entry(outcome: str, decision: Decision, count: int) -> dict[str, Any]:
        entry: dict[str, Any] = {
            "host": decision.host,
            "port": decision.port,
            "protocol": decision.protocol,
            "count": count,
        }
        if outcome == "allowed":
            return {**entry, "sent": decision.sent, "received": decision.received}
        return {**entry, "reason": decision.reason[:MAX_REASON], "code": decision.code, "hint": decision.hint}
