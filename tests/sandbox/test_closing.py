"""What is said when a session is over: nothing without need, and everything that matters."""

from __future__ import annotations

import json
from typing import Any

from sandbox.commands import closing
from sandbox.egress import Summary
from sandbox.session import Report
from sandbox.supervise import Outcome

QUIET = Summary([], [], [], {"allowed": 0, "denied": 0, "failed": 0}, "", 0)
DENIED = {
    "host": "d.test",
    "port": 443,
    "protocol": "tls",
    "count": 2,
    "reason": "d.test is not among the allowed hosts",
    "code": "not-allowed",
    "hint": "--allow d.test",
}
FAILED = {
    "host": "f.test",
    "port": 80,
    "protocol": "http",
    "count": 1,
    "reason": "the name f.test has no address",
    "code": "resolve",
    "hint": "",
}
ALLOWED = {"host": "a.test", "port": 443, "protocol": "tls", "count": 3, "sent": 10, "received": 20}


def report(egress: Summary, left_behind: list[str] | None = None, **changes: Any) -> Report:
    given: dict[str, Any] = dict.fromkeys(Outcome._fields, 0) | {"timed_out": False} | changes
    return Report(Outcome(**given), egress, "", 0, left_behind or [])


def said(egress: Summary, *, verbose: bool = False) -> list[str]:
    return closing.lines(report(egress), verbose=verbose)


def test_a_session_that_asked_for_nothing_is_closed_in_silence() -> None:
    assert said(QUIET) == []
    assert said(QUIET._replace(allowed=[ALLOWED])) == []


def test_a_refusal_names_the_host_the_reason_and_the_option_that_would_allow_it() -> None:
    assert said(QUIET._replace(denied=[DENIED])) == [
        "denied d.test port 443, TLS (2 times): d.test is not among the allowed hosts; to allow it: --allow d.test"
    ]
    assert said(QUIET._replace(denied=[{**DENIED, "host": "", "count": 1, "hint": ""}])) == [
        "denied an unnamed host port 443, TLS: d.test is not among the allowed hosts"
    ]


def test_an_allowed_host_out_of_reach_is_told_with_the_reason() -> None:
    assert said(QUIET._replace(failed=[FAILED])) == [
        "could not reach f.test port 80, plain HTTP: the name f.test has no address"
    ]


def test_what_found_no_room_in_the_lists_and_a_log_that_is_not_whole_are_told() -> None:
    full = QUIET._replace(omitted={"allowed": 7, "denied": 8, "failed": 9}, log_error="the log broke off")
    assert said(full) == [
        "8 further refusals are not listed",
        "9 further failures to reach a host are not listed",
        "the log broke off",
    ]


def test_a_proxy_that_died_is_told() -> None:
    assert said(QUIET._replace(restarts=2)) == ["the network proxy died 2 times; its connections were cut"]


def test_verbose_adds_what_passed_and_what_it_took() -> None:
    passed, figures = said(QUIET._replace(allowed=[ALLOWED]), verbose=True)
    assert passed == "allowed a.test port 443 (3 times, 10 bytes out, 20 in)"
    assert figures.startswith("exit code 0; started in 0 ms")


def test_a_time_limit_and_what_was_left_behind_are_told() -> None:
    over = report(QUIET, ["link: a symbolic link"], timed_out=True, wall_s=2.0)
    assert closing.lines(over, verbose=False) == [
        "not collected from the outputs: link: a symbolic link",
        "the time limit ended the command after 2.0 s",
    ]


def test_the_report_for_programs_has_every_list() -> None:
    egress = Summary([DENIED], [ALLOWED], [FAILED], {"allowed": 0, "denied": 1, "failed": 0}, "broke off", 1)
    found = json.loads(closing.as_json(report(egress)))
    assert (found["denied"], found["allowed"], found["failed"]) == ([DENIED], [ALLOWED], [FAILED])
    assert (found["omitted"]["denied"], found["egress_log_error"], found["proxy_deaths"]) == (
        1,
        "broke off",
        1,
    )
    assert json.loads(closing.as_json(report(QUIET)))["egress_log_error"] is None
    assert "\n" not in closing.as_json(report(egress))


def test_no_name_that_a_session_looked_up_writes_to_the_terminal() -> None:
    name = "\x1b]0;title\x07\x9b2J\r\nsandboxsh: denied nothing"
    lines = said(
        QUIET._replace(
            denied=[{**DENIED, "host": name}],
            failed=[{**FAILED, "host": name, "reason": f"none answered for {name}"}],
            allowed=[{**ALLOWED, "host": name}],
        ),
        verbose=True,
    )
    assert len(lines) == 4
    assert all(line.isprintable() for line in lines)
    assert all(r"\x1b]0;title\x07\x9b2J\r\n" in line for line in lines[:3])
