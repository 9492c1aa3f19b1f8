"""The log of decisions as people read it: a line of text for each line of JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from netpolicy.errors import InputError
from netpolicy.policy import SPOKEN


def read(lines: Iterable[bytes], source: str) -> Iterator[dict[str, Any]]:
    """The records of a log. InputError names the line that is none; the last one may be cut short."""
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
            if not isinstance(record, dict) or not isinstance(record.get("verdict"), str):
                raise ValueError("it has no verdict")
        except ValueError as error:
            if not line.endswith(b"\n"):
                # Its writer died, or is writing still.
                return
            raise InputError(
                f"{source}:{number} is no record: {error}", "name a file of --egress-log"
            ) from None
        yield record


def readable(record: Mapping[str, Any]) -> str:
    """Time (UTC), session, verdict, target, rule or reason, and what was carried."""
    time = record.get("time")
    when = "-"
    if isinstance(time, (int, float)) and 0 <= time < 1e11:
        when = datetime.fromtimestamp(time, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    spoken = SPOKEN.get(record.get("protocol", ""), str(record.get("protocol")))
    target = f"{record.get('host') or 'an unnamed host'} port {record.get('port')}, {spoken}"
    parts = [when, str(record.get("session") or "-"), str(record["verdict"]), f"{target}:"]
    if record["verdict"] == "allowed":
        parts.append(f"by {record.get('rule')};" if record.get("rule") else "")
        parts.append(f"{record.get('sent')} B out, {record.get('received')} B in,")
        parts.append(f"{record.get('duration_s')} s")
        parts.append(f"({record['reason']})" if record.get("reason") else "")
    else:
        parts.append(str(record.get("reason")))
        parts.append(f"[{record['code']}]" if record.get("code") else "")
        parts.append(f"to allow it: {record['hint']}" if record.get("hint") else "")
    # A log may have been written by anybody: nothing in it commands the terminal.
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode()
        for each in " ".join(filter(None, parts))
    )
