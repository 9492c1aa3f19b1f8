"""A session with repositories attached, as its supervisor sees it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.capabilities import need
from tests.githost import GitHost

ROOT = Path(__file__).resolve().parents[2]
TOKEN = "canary-0451-s3cret"
URL = "https://git.test/me/ours"


class Running:
    """A session with repositories attached; see tests.sessions.attaching."""

    def __init__(self, data: Path, place: Path, host: GitHost, script: str, **given: Any) -> None:
        need("user-namespaces", "overlay", "git")
        authority = place / "ca.pem"
        authority.write_bytes(host.ca)
        self.log = place / "egress.log"
        said = {
            "data": str(data),
            "ids": "auto",
            "log": str(self.log),
            "mode": "limited",
            "allowed": [],
            "targets": {"git.test": host.port},
            "attached": [{"url": URL, "token": TOKEN}],
            "variables": {"GIT_TERMINAL_PROMPT": "0"},
            "command": ["sh", "-ec", script],
            **given,
        }
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.sessions.attaching"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "SSL_CERT_FILE": str(authority), "PYTHONPATH": str(ROOT)},
        )
        self.output = ""
        self.report: dict[str, Any] = {}
        self.say(said)

    def say(self, words: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(words).encode() + b"\n")
        self.process.stdin.flush()

    def until(self, words: str) -> None:
        """Read on until the session has said this, or has ended."""
        while words not in self.output and self._read():
            pass
        assert words in self.output, self.output

    def _read(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            return {}
        found: dict[str, Any] = json.loads(line)
        self.output += found.get("output", "")
        self.report = found.get("report", self.report)
        return found

    def attach(self, *repositories: dict[str, str]) -> None:
        self.say(list(repositories))
        while "attached" not in (found := self._read()):
            assert found, "the session ended"

    def end(self) -> str:
        """What it printed, once it has ended."""
        while self._read():
            pass
        assert self.process.stderr is not None
        said = self.process.stderr.read().decode()
        self.process.wait(60)
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            assert pipe is not None
            pipe.close()
        assert self.report, said
        return self.output
