"""What is said when a session is over."""

from typing import Any

from sandbox.commands.failures import spoken
from sandbox.session import Report

_SPOKEN = {"tls": "TLS", "http": "plain HTTP", "tcp": "TCP", "udp": "UDP", "dns": "DNS", "https": "HTTPS"}


def lines(report: Report, *, verbose: bool) -> list[str]:
    """For people: what was refused and how to allow it, what was not collected, and more when ``verbose``."""
    egress = report.egress
    said = [_denied(entry) for entry in egress.denied]
    said += [_failed(entry) for entry in egress.failed]
    for kind, what in (("denied", "refusals"), ("failed", "failures to reach a host")):
        if egress.omitted.get(kind):
            said.append(f"{egress.omitted[kind]} further {what} are not listed")
    if egress.log_error:
        said.append(egress.log_error)
    if egress.restarts:
        said.append(f"the network proxy died {egress.restarts} times; its connections were cut")
    said += [f"not collected from the outputs: {what}" for what in report.left_behind]
    outcome = report.outcome
    if outcome.timed_out:
        said.append(f"the time limit ended the command after {outcome.wall_s:.1f} s")
    if verbose:
        said += [_allowed(entry) for entry in egress.allowed]
        said.append(
            f"exit code {outcome.code}; started in {outcome.start_s * 1000:.0f} ms, ran {outcome.wall_s:.2f} s, "
            f"processor {outcome.user_s:.2f} s user {outcome.system_s:.2f} s system, "
            f"largest process {outcome.max_rss_kib / 1024:.0f} MiB"
        )
    # Names that a session looked up can have any byte in them.
    return [spoken(line) for line in said]


def _denied(entry: dict[str, Any]) -> str:
    line = f"denied {_target(entry)}: {entry['reason']}"
    return f"{line}; to allow it: {entry['hint']}" if entry["hint"] else line


def _failed(entry: dict[str, Any]) -> str:
    return f"could not reach {_target(entry)}: {entry['reason']}"


def _target(entry: dict[str, Any]) -> str:
    times = "" if entry["count"] == 1 else f" ({entry['count']} times)"
    spoken = _SPOKEN.get(entry["protocol"], entry["protocol"])
    return f"{entry['host'] or 'an unnamed host'} port {entry['port']}, {spoken}{times}"


def _allowed(entry: dict[str, Any]) -> str:
    return (
        f"allowed {entry['host']} port {entry['port']} ({entry['count']} times, "
        f"{entry['sent']} bytes out, {entry['received']} in)"
    )


def as_json(report: Report) -> str:
    """The whole report as one line of JSON; times in seconds, memory in KiB."""
    import json

    outcome = report.outcome
    return json.dumps(
        {
            "exit_code": outcome.code,
            "signal": int(outcome.signal) or None,
            "timed_out": outcome.timed_out,
            "start_s": round(outcome.start_s, 6),
            "wall_s": round(outcome.wall_s, 6),
            "user_s": outcome.user_s,
            "system_s": outcome.system_s,
            "max_rss_kib": outcome.max_rss_kib,
            "denied": report.egress.denied,
            "failed": report.egress.failed,
            "allowed": report.egress.allowed,
            "omitted": report.egress.omitted,
            "egress_log_error": report.egress.log_error or None,
            "proxy_deaths": report.egress.restarts,
            "outputs": report.collected,
            "outputs_left_behind": report.left_behind,
        }
    )
