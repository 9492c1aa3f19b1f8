"""Records as people read them."""

from __future__ import annotations

import json

import pytest

from netpolicy.audit import Decision, denied, line
from netpolicy.auditlog import read, readable
from netpolicy.errors import InputError
from netpolicy.policy import Request, compile_policy, decide

POLICY = compile_policy("limited", ["a.test"])
ALLOWED = Decision(
    1_700_000_000.25,
    "tls",
    "a.test",
    443,
    "allowed",
    "",
    rule=POLICY.rules[0],
    sent=10,
    received=20,
    duration=0.25,
)
DENIED = denied(1_700_000_001, "http", "d.test", 80, decide(POLICY, Request("http", "d.test", 80)))


def shown(*decisions: Decision) -> list[str]:
    lines = [line("s1", decision) for decision in decisions]
    return [readable(record) for record in read(lines, "log")]


def test_what_the_proxy_writes_is_read() -> None:
    assert shown(ALLOWED, DENIED) == [
        "2023-11-14T22:13:20.250Z s1 allowed a.test port 443, TLS: by tls a.test 443 (allowed_hosts); "
        "10 B out, 20 B in, 0.25 s",
        "2023-11-14T22:13:21.000Z s1 denied d.test port 80, plain HTTP: d.test is not among the allowed hosts "
        "[not-allowed] to allow it: --allow d.test:80",
    ]


def test_a_log_can_not_command_a_terminal() -> None:
    text = shown(ALLOWED._replace(host="a\x1b[31m\n.test", reason="\x9b\u202e"))[0]
    assert text.isprintable()
    assert "\\x1b[31m" in text


def test_a_last_line_that_is_cut_short_is_no_mistake_and_any_other_is_named() -> None:
    whole = line("s1", ALLOWED)
    assert len(list(read([whole, whole[:20]], "log"))) == 1
    for wrong in (b"{\n", b"[]\n", b'{"a": 1}\n', b'{"verdict": 1}\n'):
        with pytest.raises(InputError, match="log:2"):
            list(read([whole, wrong, whole], "log"))


@pytest.mark.parametrize("time", [None, "x", -1, 1e300])
def test_any_record_can_be_shown(time: object) -> None:
    assert readable({"verdict": "denied", "time": time}).startswith("- - denied an unnamed host")
    assert readable(json.loads('{"verdict": "allowed"}'))
