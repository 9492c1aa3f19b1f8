"""The real command as a subprocess, and what it may leave behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

SANDBOXSH = str(Path(sys.executable).with_name("sandboxsh"))
SANDBOXCTL = str(Path(sys.executable).with_name("sandboxctl"))
PATIENCE = 60.0  # seconds until a test gives up
PYTHON = "/usr/bin/python3"  # as sessions on the host base have it


class Sandbox:
    """``sandboxsh`` with a data directory and the options that every call gets."""

    def __init__(self, data: Path, *options: str) -> None:
        self.data = data
        self.options = options

    def line(self, *arguments: str) -> list[str]:
        """The whole command line."""
        return [SANDBOXSH, "--data", str(self.data), *self.options, *arguments]

    def run(
        self,
        *arguments: str,
        stdin: bytes | None = None,
        env: Mapping[str, str] | None = None,
        cwd: str | Path | None = None,
        around: tuple[str, ...] = (),
        timeout: float = PATIENCE,
    ) -> Ran:
        """Run one session to its end. ``env`` adds to this process's own; ``around`` is put before the command."""
        done = subprocess.run(
            [*around, *self.line(*arguments)],
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            env={**os.environ, **(env or {})},
            cwd=cwd,
            timeout=timeout,
            check=False,
        )
        return Ran(done.returncode, _text(done.stdout), _text(done.stderr))

    def ok(self, *arguments: str, **options: Any) -> str:
        """As `run`, for a session that must succeed without a word of its own; what it printed."""
        done = self.run(*arguments, **options)
        assert (done.code, done.err) == (0, ""), done
        return done.out

    def sh(self, script: str, *arguments: str, **options: Any) -> str:
        """What a shell script prints in a session that must succeed."""
        return self.ok(*arguments, "--", "sh", "-ec", script, **options)

    def python(self, script: str, *arguments: str, **options: Any) -> str:
        """What a Python program prints in a session that must succeed."""
        return self.ok(*arguments, "--", PYTHON, "-Ic", script, **options)

    def start(self, *arguments: str, **options: Any) -> subprocess.Popen[bytes]:
        """Start a session; both its outputs are pipes unless said otherwise."""
        options = {
            "stdin": subprocess.DEVNULL,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
            **options,
        }
        return Session(self.line(*arguments), **options)

    def left(self) -> list[str]:
        """The directories of sessions that are there now."""
        return sorted(str(path) for path in self.data.glob("sessions/*/*"))


class Session(subprocess.Popen[bytes]):
    """A session under way; killed when a test fails while it runs."""

    def __exit__(self, kind: Any, value: Any, traceback: Any) -> None:
        if kind is not None:
            self.kill()
        super().__exit__(kind, value, traceback)


class Ran(NamedTuple):
    """How a command ended, with what it printed."""

    code: int
    out: str
    err: str

    def report(self) -> dict[str, Any]:
        """The report of --json: the last line on standard error."""
        found = json.loads(self.err.splitlines()[-1])
        assert isinstance(found, dict)
        return found


def control(data: Path, *arguments: str, timeout: float = 60) -> Ran:
    """Run ``sandboxctl`` to its end."""
    done = subprocess.run(
        [SANDBOXCTL, "--data", str(data), *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=timeout,
        check=False,
    )
    return Ran(done.returncode, _text(done.stdout), _text(done.stderr))


def _text(data: bytes) -> str:
    return data.decode(errors="surrogateescape")


def mark() -> str:
    """A number that no other process has among its arguments: ``sleep`` takes it, too."""
    return f"1000.{int.from_bytes(os.urandom(6), 'big'):015d}"


def marked(text: str) -> list[int]:
    """The processes with ``text`` in their command line. While one executes a program, it has none for a moment."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/cmdline", "rb") as file:
                    if text.encode() in file.read():
                        found.append(int(entry))
            except OSError:
                continue
    return sorted(found)


def children(pid: int) -> list[int]:
    """The child processes of ``pid`` (its first thread's)."""
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def eventually(holds: Callable[[], Any], what: str = "it") -> Any:
    """Wait until ``holds`` gives something true, and return that."""
    deadline = time.monotonic() + PATIENCE
    while not (found := holds()):
        assert time.monotonic() < deadline, f"{what} did not happen within {PATIENCE:.0f} s"
        time.sleep(0.005)
    return found


def mounts() -> list[str]:
    """What is mounted where this process is, but for what another user's run of the tests has in its directories."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [line for line in lines if not _is_anothers(line.split()[4])]


def _is_anothers(path: str) -> bool:
    """Whether a path is in the directory of a test (see tests/conftest.py) that is not this user's."""
    if not path.startswith("/var/tmp/sandboxsh-test"):
        return False
    try:
        return os.stat("/".join(path.split("/")[:4])).st_uid != os.geteuid()
    except FileNotFoundError:
        return True
