"""Lines and the summary."""

from __future__ import annotations

import json

from netpolicy.audit import MAX_ENTRIES, MAX_REASON, Audit, Decision, denied, line
from netpolicy.policy import Request, compile_policy, decide

POLICY = compile_policy("limited", ["a.test"])
ALLOWED = Decision(
    1.5, "tls", "a.test", 443, "allowed", "", rule=POLICY.rules[0], sent=10, received=20, duration=0.25
)
DENIED = denied(2.0, "tls", "d.test", 443, decide(POLICY, Request("tls", "d.test", 443)))


def test_a_line_is_one_json_object_with_every_field() -> None:
    data = line("s1", ALLOWED)
    assert data.endswith(b"\n")
    assert data.count(b"\n") == 1
    assert json.loads(data) == {
        "time": 1.5,
        "session": "s1",
        "protocol": "tls",
        "host": "a.test",
        "port": 443,
        "verdict": "allowed",
        "reason": "",
        "code": "",
        "hint": "",
        "rule": "tls a.test 443 (allowed_hosts)",
        "sent": 10,
        "received": 20,
        "duration_s": 0.25,
    }


def test_no_text_can_break_a_line_or_fill_the_log() -> None:
    nasty = "x\n\x1b[31m\u2028" * 1000
    data = line(nasty[:50], Decision(0, "tls", nasty[:50], 443, "failed", nasty))
    assert data.isascii()
    assert data.count(b"\n") == 1
    assert b"\x1b" not in data
    assert len(json.loads(data)["reason"]) == MAX_REASON


def test_each_decision_is_written_once_and_counted() -> None:
    lines: list[bytes] = []
    audit = Audit("s1", lines.append)
    for decision in (ALLOWED, DENIED, ALLOWED, DENIED, DENIED):
        audit.record(decision)
    assert len(lines) == 5
    assert audit.summary() == {
        "allowed": [
            {"host": "a.test", "port": 443, "protocol": "tls", "count": 2, "sent": 20, "received": 40}
        ],
        "denied": [
            {
                "host": "d.test",
                "port": 443,
                "protocol": "tls",
                "count": 3,
                "reason": "d.test is not among the allowed hosts",
                "code": "not-allowed",
                "hint": "--allow d.test",
            }
        ],
        "failed": [],
        "omitted": {"allowed": 0, "denied": 0, "failed": 0},
    }


def test_connections_that_ended_differently_are_one_entry() -> None:
    audit = Audit("s1", None)
    for reason in ("", "reset", "idle"):
        audit.record(ALLOWED._replace(reason=reason))
    assert [entry["count"] for entry in audit.summary()["allowed"]] == [3]


def test_the_summary_stays_small_however_many_names_are_tried() -> None:
    lines: list[bytes] = []
    audit = Audit("s1", lines.append)
    total = MAX_ENTRIES + 50
    for number in range(total):
        audit.record(Decision(0, "tls", f"n{number}.test", 443, "denied", "no"))
    audit.record(Decision(0, "tls", "n0.test", 443, "denied", "no"))
    summary = audit.summary()
    assert len(summary["denied"]) == MAX_ENTRIES
    assert summary["denied"][0]["count"] == 2
    assert summary["omitted"]["denied"] == 50
    assert len(lines) == total + 1
