"""Exit codes, signals and time limits; and that nothing is left, however a session ends."""

from __future__ import annotations

import os
import random
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.sessions.running import PYTHON, SANDBOXSH, Sandbox, children, eventually, mark, marked, mounts


@pytest.mark.parametrize("code", [0, 1, 2, 42, 124, 125, 126, 127, 128, 137, 255])
def test_the_exit_code_is_the_commands_own(sandbox: Sandbox, code: int) -> None:
    done = sandbox.run("--", "sh", "-c", f"exit {code}")
    assert (done.code, done.out, done.err) == (code, "", "")


@pytest.mark.parametrize("name", ["TERM", "KILL", "SEGV", "ABRT", "PIPE", "INT", "HUP", "USR1"])
def test_a_signal_that_ends_the_command_is_128_and_its_number(sandbox: Sandbox, name: str) -> None:
    done = sandbox.run("--json", "--", "sh", "-c", f"kill -{name} $$")
    number = signal.Signals[f"SIG{name}"]
    assert done.code == 128 + number
    assert (done.report()["exit_code"], done.report()["signal"]) == (128 + number, number)


def test_a_command_that_is_not_there_is_127_and_says_so(sandbox: Sandbox) -> None:
    done = sandbox.run("--", "no-such-program", "x")
    assert (done.code, done.out) == (127, "")
    assert done.err == "sandboxsh: no-such-program: not found in the session\n"
    assert sandbox.run("--", "/no/such/program").code == 127


@pytest.mark.parametrize("command", ["/etc/hostname", "/usr", "/workspace/script"])
def test_a_command_that_can_not_be_run_is_126_and_says_so(
    sandbox: Sandbox, command: str, tmp_path: Path
) -> None:
    (tmp_path / "script").write_text("#!/bin/sh\n")
    done = sandbox.run("--workspace", str(tmp_path), "--", command)
    assert done.code == 126
    assert done.err == f"sandboxsh: {command}: can't be run: Permission denied\n"


def test_a_script_without_its_interpreter_is_127_and_a_file_of_no_format_126(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    for name, text in (("lost", "#!/no/such/interpreter\n"), ("odd", "\1\2\3")):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    assert sandbox.run("--workspace", str(tmp_path), "--", "./lost").code == 127
    assert sandbox.run("--workspace", str(tmp_path), "--", "./odd").code == 126


def test_options_after_the_command_are_the_commands(sandbox: Sandbox) -> None:
    assert sandbox.ok("echo", "--json", "--", "-q") == "--json -- -q\n"
    assert sandbox.ok("--", "echo", "a  b", "", "*", "ü\n") == "a  b  * ü\n\n"


@pytest.mark.parametrize("name", ["TERM", "INT", "HUP", "QUIT", "USR1", "USR2"])
def test_a_signal_to_sandboxsh_reaches_the_command(sandbox: Sandbox, name: str) -> None:
    script = f"trap 'echo got {name}; exit 7' {name}; echo ready; while :; do sleep 0.01; done"
    with sandbox.start("--", "sh", "-c", script) as running:
        assert running.stdout is not None and running.stdout.readline() == b"ready\n"
        running.send_signal(signal.Signals[f"SIG{name}"])
        out, _ = running.communicate(timeout=60)
    assert (running.returncode, out) == (7, f"got {name}\n".encode())


def test_a_signal_reaches_what_the_command_started_too(sandbox: Sandbox) -> None:
    """As the terminal does it, and so that a pipeline ends with its shell."""
    with sandbox.start("--", "sh", "-c", "echo ready; sleep 1000; echo more; sleep 1000") as running:
        assert running.stdout is not None and running.stdout.readline() == b"ready\n"
        running.terminate()
        out, _ = running.communicate(timeout=60)
    assert (running.returncode, out) == (128 + signal.SIGTERM, b"")


def test_a_signal_that_the_caller_ignores_is_not_ignored_by_the_command(sandbox: Sandbox) -> None:
    line = sandbox.line("--", "sh", "-c", "kill -PIPE $$; kill -QUIT $$; echo alive")
    done = subprocess.run(["sh", "-c", 'trap "" PIPE QUIT; exec "$@"', "sh", *line], capture_output=True)
    assert (done.returncode, done.stdout) == (128 + signal.SIGPIPE, b"")


@contextmanager
def heeded(number: int) -> Iterator[None]:
    """What starts meanwhile doesn't ignore the signal, as this process may: a background job of a shell does."""
    before = signal.signal(number, lambda *_: None)
    try:
        yield
    finally:
        signal.signal(number, before)


@pytest.mark.parametrize("name", ["TERM", "INT", "HUP", "QUIT"])
def test_a_signal_during_the_set_up_ends_it_cleanly(sandbox: Sandbox, name: str) -> None:
    """At any moment from the first instruction on: the session runs to its end, or ends with nothing left."""
    number = signal.Signals[f"SIG{name}"]
    chance = random.Random(name)
    before = mounts()
    for _ in range(12):
        marker = mark()
        # Long enough that it has not ended by itself, however late this process wakes.
        line = ("--setenv", f"MARK={marker}", "--", "sleep", "5")
        with heeded(number), sandbox.start(*line) as running:
            with pytest.raises(subprocess.TimeoutExpired):
                running.wait(chance.uniform(0.001, 0.06))
            running.send_signal(number)
            _, err = running.communicate(timeout=60)
        before_us = running.returncode == 1 and b"Fatal Python error" in err
        assert before_us or running.returncode in (0, -number, 128 + number), (running.returncode, err)
        assert b"Traceback" not in err or name == "INT"  # Python's own, before the first line of ours
        eventually(lambda marker=marker: not marked(marker), "the end of every process")  # type: ignore[misc]
    assert mounts() == before
    sandbox.ok("--", "true")


def test_a_time_limit_ends_the_command_with_124(sandbox: Sandbox) -> None:
    done = sandbox.run("--timeout", "0.3", "--json", "--", "sleep", "1000")
    assert done.code == 124
    assert "the time limit ended the command after 0.3 s" in done.err
    assert done.report()["timed_out"] is True
    assert 0.3 <= done.report()["wall_s"] < 5.3, "before its five seconds of grace were over"


def test_a_command_that_ends_in_time_is_not_touched_by_the_limit(sandbox: Sandbox) -> None:
    assert sandbox.run("--timeout", "1m", "--", "sh", "-c", "exit 3").code == 3


def test_at_the_time_limit_the_command_may_tidy_up(sandbox: Sandbox) -> None:
    script = "trap 'echo tidy; exit 0' TERM; while :; do sleep 0.01; done"
    # The shell takes its time to get there when the machine is busy.
    done = sandbox.run("--timeout", "1.5s", "--", "sh", "-c", script)
    assert (done.code, done.out) == (124, "tidy\n")


def test_a_command_that_ignores_the_time_limit_is_killed(sandbox: Sandbox) -> None:
    number = mark()
    done = sandbox.run("--timeout", "0.1", "--", "sh", "-c", f"trap '' TERM; sleep {number}; sleep {number}")
    assert done.code == 124
    assert marked(number) == []


@pytest.mark.parametrize("pause", [0.0, 0.005, 0.01, 0.02, 0.03, 0.045, 0.08, None])
def test_killing_the_supervisor_at_any_stage_leaves_nothing(sandbox: Sandbox, pause: float | None) -> None:
    """``pause``: seconds from its start, or None for when the command is at work with files and network."""
    before, number = mounts(), mark()
    script = (
        f"echo x > /workspace/x; echo x > /etc/x; getent hosts a.test || true; echo ready; sleep {number}"
    )
    options = ("--setenv", f"MARK={number}", "--file", f"{__file__}:/f", "--allow", "a.test")
    # The proxy inherits standard error alone of the pipes, so its end is seen there, too.
    with sandbox.start(*options, "--", "sh", "-c", script) as running:
        assert running.stdout is not None
        if pause is None:
            while running.stdout.readline() != b"ready\n":
                pass
        else:
            with pytest.raises(subprocess.TimeoutExpired):
                running.wait(pause)
        running.kill()
        running.communicate(timeout=60)
    assert running.returncode == -signal.SIGKILL
    eventually(lambda: not marked(number), "the end of every process")
    assert mounts() == before
    sandbox.ok("--", "true")
    assert sandbox.left() == []


def test_killing_process_1_ends_the_session_with_137(sandbox: Sandbox) -> None:
    number = mark()
    script = f"echo ready; sleep {number}"
    with sandbox.start("--setenv", f"MARK={number}", "--", "sh", "-c", script) as running:
        assert running.stdout is not None and running.stdout.readline() == b"ready\n"
        process1 = children(running.pid)[0]
        os.kill(process1, signal.SIGKILL)
        running.communicate(timeout=60)
    assert running.returncode == 137
    eventually(lambda: not marked(number), "the end of every process")


def test_process_1_can_not_be_ended_from_inside(sandbox: Sandbox) -> None:
    assert (
        sandbox.sh(
            "kill -KILL 1; kill -TERM 1; kill -INT 1; kill -HUP 1; kill -STOP 1; sleep 0.05; echo alive"
        )
        == "alive\n"
    )


def test_a_sweep_leaves_running_sessions_alone(sandbox: Sandbox) -> None:
    with sandbox.start(
        "--", "sh", "-c", "echo x > /workspace/x; echo ready; read l; cat /workspace/x", stdin=subprocess.PIPE
    ) as running:
        assert running.stdout is not None and running.stdout.readline() == b"ready\n"
        sandbox.ok("--", "true")
        assert len(sandbox.left()) == 1
        out, _ = running.communicate(b"\n", timeout=60)
    assert (running.returncode, out) == (0, b"x\n")


def test_what_the_session_left_unreadable_is_removed(either_sandbox: Sandbox) -> None:
    script = (
        "mkdir -p /a/b /etc/c; touch /a/b/f; chown 33:33 /a/b/f /a/b; chmod 0 /a/b /a /etc/c; ln -s / /link"
    )
    either_sandbox.sh(script)
    assert either_sandbox.left() == []


def test_a_deep_and_a_wide_tree_are_removed(sandbox: Sandbox) -> None:
    script = (
        "import os\n"
        "for n in range(2000): open(f'/workspace/{n}', 'w').close()\n"
        "os.chdir('/tmp')\n"
        "for n in range(1500):\n    os.mkdir('d'); os.chdir('d')\n"
    )
    sandbox.python(script)
    assert sandbox.left() == []


def test_the_report_in_json_has_the_known_fields(sandbox: Sandbox) -> None:
    done = sandbox.run("--json", "--", PYTHON, "-Ic", "sum(range(3_000_000)); print('out')")
    report = done.report()
    assert (done.code, done.out, len(done.err.splitlines())) == (0, "out\n", 1)
    assert set(report) == {
        *("exit_code", "signal", "timed_out", "start_s", "wall_s", "user_s", "system_s", "max_rss_kib"),
        *("denied", "allowed", "failed", "omitted", "egress_log_error", "proxy_deaths"),
        *("outputs", "outputs_left_behind"),
    }
    assert (report["exit_code"], report["signal"], report["timed_out"]) == (0, None, False)
    assert 0 < report["user_s"] <= report["wall_s"] + 0.1
    assert report["max_rss_kib"] > 1000
    assert (report["denied"], report["allowed"], report["failed"], report["outputs"]) == ([], [], [], 0)


def test_help_and_version_start_nothing(sandbox: Sandbox, empty_data_dir: Path) -> None:
    for option, word in (
        ("--help", "usage: sandboxsh"),
        ("-h", "usage: sandboxsh"),
        ("--version", "sandboxsh "),
    ):
        done = subprocess.run(
            [SANDBOXSH, option],
            capture_output=True,
            text=True,
            env={**os.environ, "SANDBOXSH_DATA": str(empty_data_dir)},
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith(word)
    assert list(empty_data_dir.iterdir()) == []
