"""Class: attacks on the processes that keep a session (docs/threats/supervisor.md)."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.capabilities import need
from tests.sessions.running import PYTHON, Sandbox, children, eventually, mark, marked


@pytest.mark.parametrize("attack", ["kill -STOP $$", "kill -STOP 0", "trap '' TERM HUP INT; kill -STOP $$"])
def test_a_command_that_stops_itself_does_not_escape_the_time_limit(
    either_sandbox: Sandbox, attack: str
) -> None:
    number = mark()
    script = f"sleep {number} & {attack}; echo went on; wait"
    done = either_sandbox.run("--timeout", "0.5", "--", "sh", "-c", script)
    assert done.code == 124, done
    eventually(lambda: not marked(number), "the end of every process")


def test_on_a_terminal_that_no_shell_controls_the_time_limit_holds_as_well(sandbox: Sandbox) -> None:
    """As in continuous integration: there is a terminal, and nobody who would continue what stopped."""
    line = sandbox.line("--timeout", "0.5", "--", "sh", "-c", "while :; do kill -STOP $$; done")
    around = ["script", "-qec", shlex.join(line), "/dev/null"]
    done = subprocess.run(around, stdin=subprocess.DEVNULL, capture_output=True, timeout=60)
    assert done.returncode == 124, done


def test_a_command_that_stopped_itself_goes_on_when_the_caller_says_so(either_sandbox: Sandbox) -> None:
    with either_sandbox.start("--", "sh", "-c", "echo $$; kill -STOP $$; echo went on") as running:
        assert running.stdout is not None and running.stdout.readline().strip().isdigit()
        (process1, *_) = children(running.pid)

        def stopped() -> bool:
            (command, *_) = children(process1) or [0]
            return (
                bool(command)
                and Path(f"/proc/{command}/stat").read_text().rpartition(")")[2].split()[0] == "T"
            )

        eventually(stopped, "the command's stop")
        running.send_signal(signal.SIGCONT)
        out, _ = running.communicate(timeout=60)
    assert (running.returncode, out) == (0, b"went on\n")


LIMITS = """
import ctypes, glob, os, resource, sys
pid = int(sys.argv[1]) or os.getpid()
done = []
def attempt(what, work, *arguments):
    try:
        work(*arguments)
        done.append(what)
    except (OSError, ValueError) as error:
        pass
for name in ('NOFILE', 'CPU', 'NPROC', 'FSIZE', 'DATA'):
    number = getattr(resource, f'RLIMIT_{name}')
    attempt(name, resource.prlimit, pid, number, resource.getrlimit(number))
attempt('scheduler', os.sched_setscheduler, pid, os.SCHED_BATCH, os.sched_param(0))
attempt('affinity', os.sched_setaffinity, pid, os.sched_getaffinity(0))
nice = os.getpriority(os.PRIO_PROCESS, 0)
attempt('priority', os.setpriority, os.PRIO_PROCESS, pid, nice)
if pid == 1:
    attempt('group', os.setpriority, os.PRIO_PGRP, 1, nice)
    attempt('join', os.setpgid, 0, 1)
    attempt('own group', os.setpriority, os.PRIO_PGRP, 0, nice)
    attempt('user', os.setpriority, os.PRIO_USER, 0, nice)
    for number in range(1, 65):
        attempt('', os.kill, 1, number)
for path in glob.glob(f'/proc/{pid}/*'):
    name = os.path.basename(path)
    if name in ('oom_score_adj', 'oom_adj', 'autogroup', 'coredump_filter', 'comm'):
        attempt(name, lambda: os.close(os.open(path, os.O_WRONLY)))
print(*sorted(each for each in done if each not in ('', 'join')))
"""


def test_process_1_is_not_to_be_starved_by_its_own_session(either_sandbox: Sandbox) -> None:
    """It has the session's user, whom the kernel lets change the limits and the scheduling of that user's processes."""
    number = mark()
    script = f'sleep {number} & {PYTHON} -Ic "$0" 1; {PYTHON} -Ic "$0" 0; exit 3'
    done = either_sandbox.run("--", "sh", "-c", script, LIMITS)
    at_process_1, at_itself = done.out.splitlines()
    assert (done.code, at_process_1) == (3, ""), done
    assert {"NOFILE", "NPROC", "affinity", "oom_score_adj", "priority", "scheduler"} <= set(at_itself.split())
    eventually(lambda: not marked(number), "the end of every process")


def test_a_crash_runs_no_handler_of_the_host(either_sandbox: Sandbox) -> None:
    """core(5): a handler that core_pattern pipes to is run for every limit but 1, also for 0."""
    script = "ulimit -Sc; ulimit -Hc; ulimit -Hc 2 2>/dev/null || echo stays; sh -c 'kill -SEGV $$'; ls -A"
    assert re.fullmatch(r"(0|1)\n(0|1)\nstays\n", either_sandbox.run("--", "sh", "-c", script).out)
    out = either_sandbox.python("import resource; print(resource.getrlimit(resource.RLIMIT_CORE))")
    assert out == "(1, 1)\n"


def test_the_callers_secrets_are_not_in_reach_of_its_sessions(either_sandbox: Sandbox) -> None:
    """Neither the variables nor the arguments of the supervisor, whose memory process 1 began as a copy of."""
    secret = f"song-{mark()}"
    script = """
import os, glob
found = []
for path in glob.glob('/proc/[0-9]*/*') + glob.glob('/proc/[0-9]*/task/*/*'):
    if os.path.basename(path) in ('environ', 'cmdline', 'comm', 'maps', 'stat', 'status', 'mountinfo'):
        try: found.append((path, open(path, 'rb').read()))
        except OSError: pass
print(len([path for path, data in found if b'given-%s' in data]), [path for path, data in found if b'%s' in data])
""".replace("%s", secret.removeprefix("song-")).replace("b'" + secret.removeprefix("song-"), "b'" + secret)
    options = ("--setenv", f"GIVEN=given-{secret.removeprefix('song-')}")
    done = either_sandbox.run(*options, "--", PYTHON, "-Ic", script, env={"CANARY": secret})
    count, paths = done.out.split(" ", 1)
    assert int(count) >= 1, "what is given is there"
    assert set(re.findall(r"/proc/(\d+)/", paths)) <= {"2"}, "in the attacker's own arguments alone"


def test_stopping_and_killing_every_process_in_sight_harms_no_other_session(either_sandbox: Sandbox) -> None:
    with either_sandbox.start(
        "--", "sh", "-c", "echo ready; read x; echo $x", stdin=subprocess.PIPE
    ) as other:
        assert other.stdout is not None and other.stdout.readline() == b"ready\n"
        attack = (
            "import os, signal\n"
            "for pid in range(-1, 40000):\n"
            "    if pid in (-1, 0, os.getpid(), os.getpgid(0)): continue\n"
            "    for s in (19, 9):\n"
            "        try: os.kill(pid, s)\n"
            "        except OSError: pass\n"
            "print('tried')"
        )
        assert either_sandbox.python(attack) == "tried\n"
        out, _ = other.communicate(b"alive\n", timeout=60)
    assert (other.returncode, out) == (0, b"alive\n")


def test_a_session_does_not_outlive_its_supervisor_however_it_holds_on(either_sandbox: Sandbox) -> None:
    number = mark()
    deaf = f"trap '' HUP TERM INT; sleep {number}"
    script = f"trap '' HUP TERM INT; for i in 1 2 3; do setsid sh -c \"{deaf}\" & done; echo up; wait"
    with either_sandbox.start("--", "sh", "-c", script) as running:
        assert running.stdout is not None and running.stdout.readline() == b"up\n"
        eventually(lambda: len(marked(number)) >= 4, "the processes")
        running.kill()
        running.communicate()
    eventually(lambda: not marked(number), "the end of every process")
    either_sandbox.ok("--", "true")


def test_a_fork_bomb_ends_with_its_session(sandbox: Sandbox) -> None:
    """Held by a limit that the caller sets, as sandboxsh has none of its own yet."""
    need("ordinary-user")
    number = mark()
    script = f"while :; do sleep {number} & done 2>/dev/null"
    begun = time.monotonic()
    around = ("prlimit", f"--nproc={len(os.listdir('/proc')) + 200}")
    done = sandbox.run("--timeout", "1", "--", "sh", "-c", script, around=around, timeout=60)
    assert done.code in (124, 137, 2), done
    assert time.monotonic() - begun < 45
    eventually(lambda: not marked(number), "the end of every process")


def test_process_1_loads_nothing_of_the_sessions(either_sandbox: Sandbox, tmp_path: Path) -> None:
    """It is Python, and its root is the session's by the time that it gives up its rights."""
    import termios

    place = getattr(termios, "__file__", None)
    if place is None:
        pytest.skip("this Python has no module of its own for terminals")
    (tmp_path / os.path.basename(place)).write_text("hostile")
    given = ("--mount", f"{tmp_path}:{os.path.dirname(place)}")
    line = either_sandbox.line(*given, "--", "sh", "-c", f"test -t 0 && ls {os.path.dirname(place)}")
    around = ["script", "-qec", shlex.join(line), "/dev/null"]
    done = subprocess.run(around, stdin=subprocess.DEVNULL, capture_output=True, timeout=60)
    assert (done.returncode, os.path.basename(place).encode() in done.stdout) == (0, True), done
