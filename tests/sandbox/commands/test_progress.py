"""Progress goes to standard error: plain lines where there is no terminal, one that renews itself where there is."""

import os
import sys

import pytest

from pkgcache.phases import Event
from sandbox.commands.progress import Progress

EVENTS = [
    Event("apt", "download", "== download jq", 0.0),
    Event("apt", "download", "Get:1 jq", 0.2),
    Event("apt", "install", "Unpacking jq", 1.0),
    Event("apt", "done", "3 packages", 2.0),
]


def test_plain_lines_tell_each_phase_once(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress(quiet=False) as progress:
        for event in EVENTS:
            progress.show(event)
    said = capsys.readouterr()
    assert said.out == ""
    assert [line.split()[:2] for line in said.err.splitlines()] == [
        ["apt", "download"],
        ["apt", "install"],
        ["apt", "done"],
    ]


def test_quiet_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress(quiet=True) as progress:
        for event in EVENTS:
            progress.show(event)
    assert capsys.readouterr().err == ""


def test_a_terminal_has_one_line_that_renews_itself(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setattr("os.get_terminal_size", lambda _fd: os.terminal_size((30, 24)))
    monkeypatch.setattr(sys.stderr, "fileno", lambda: 2, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    with Progress(quiet=False) as progress:
        for event in EVENTS:
            progress.show(event)
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert said.endswith("\r\x1b[K")
    assert all(len(part) < 30 for part in said.replace("\n", "").split("\r\x1b[K"))
