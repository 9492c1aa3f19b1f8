"""Identifiers and times."""

from __future__ import annotations

import re
import time

import pytest

from sandbox.managed import identifiers


def test_identifiers_differ_and_sort_by_time() -> None:
    made = {identifiers.new("env") for _ in range(1000)}
    assert len(made) == 1000
    assert all(re.fullmatch(r"env_[1-9A-HJ-NP-Za-km-z]{24}", one) for one in made)
    newest, start = max(made), time.time_ns() // 1_000_000
    while time.time_ns() // 1_000_000 <= start:
        pass
    assert identifiers.new("env") > newest


def test_times_are_written_one_way() -> None:
    now = identifiers.now()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", now)
    assert identifiers.read_time(now) == now
    assert identifiers.read_time("2026-01-02T03:04:05+02:00") == "2026-01-02T01:04:05.000000Z"
    for wrong in ("yesterday", "2026-01-02T03:04:05", ""):
        with pytest.raises(ValueError):
            identifiers.read_time(wrong)
