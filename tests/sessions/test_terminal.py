"""A person at a terminal: everything is as if the command ran there itself."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.sessions.running import PYTHON, Sandbox, eventually, mark, marked
from tests.sessions.terminals import Terminal, ended, on_terminal, shell_on, terminal


def test_each_stream_on_the_terminal_is_a_terminal_inside(either_sandbox: Sandbox) -> None:
    script = (
        "test -t 0 && test -t 1 && test -t 2 && tty && test -c /dev/tty && echo at /dev/tty >/dev/tty; exit 5"
    )
    with terminal() as person, on_terminal(person, either_sandbox.line("--", "sh", "-c", script)) as running:
        assert person.until("at /dev/tty\r\n") == "/dev/pts/0\r\n"
        assert ended(running) == 5


@pytest.mark.parametrize("streams", [(), (0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2)])
def test_streams_that_are_redirected_are_no_terminals(
    sandbox: Sandbox, streams: tuple[int, ...], tmp_path: Path
) -> None:
    """``streams``: those that are files. Where the answer goes: a file that the session may write."""
    script = "for fd in 0 1 2; do test -t $fd && r=$r'yes ' || r=$r'no '; done; echo $r >outputs; exit 5"
    line = sandbox.line(
        "--outputs", str(tmp_path / "out"), "--workdir", "/mnt/session/outputs", "--", "sh", "-c", script
    )
    names = ("stdin", "stdout", "stderr")
    with open(tmp_path / "redirected", "w+b") as file, terminal() as person:
        ends = {names[fd]: file for fd in streams}
        with on_terminal(person, line, streams=ends) as running:
            assert ended(running) == 5
    assert (tmp_path / "out/outputs").read_text().split() == [
        "no" if fd in streams else "yes" for fd in (0, 1, 2)
    ]


def test_output_to_a_file_while_errors_go_to_the_terminal(sandbox: Sandbox, tmp_path: Path) -> None:
    line = sandbox.line("--", "sh", "-c", "echo one; echo two >&2; read x; echo $x; echo $x >&2")
    with (
        open(tmp_path / "out", "wb") as out,
        terminal() as person,
        on_terminal(person, line, streams={"stdout": out}) as running,
    ):
        person.until("two\r\n")
        person.type("three\r")
        person.until("three\r\nthree\r\n")
        assert ended(running) == 0
    assert (tmp_path / "out").read_text() == "one\nthree\n"


def test_a_pipe_into_a_command_on_the_terminal(sandbox: Sandbox) -> None:
    """As in ``producer | sandboxsh -- pager``: the terminal's line ends are not translated twice."""
    with terminal() as person:
        read, write = os.pipe()
        os.write(write, b"one\ntwo\n")
        os.close(write)
        try:
            with on_terminal(person, sandbox.line("--", "cat"), streams={"stdin": read}) as running:
                assert person.until("two\r\n") == "one\r\n"
                assert ended(running) == 0
        finally:
            os.close(read)
        assert person.rest() == ""


def test_the_size_is_the_terminals_and_follows_it(either_sandbox: Sandbox) -> None:
    script = "trap 'stty size; echo resized' WINCH; stty size; echo ready; while :; do sleep 0.01; done"
    line = either_sandbox.line("--", "sh", "-c", script)
    with terminal(33, 99) as person, on_terminal(person, line):
        assert person.until("ready\r\n") == "33 99\r\n"
        for rows, columns in ((50, 120), (10, 20)):
            person.resize(rows, columns)
            assert person.until("resized\r\n") == f"{rows} {columns}\r\n"


def test_the_kind_of_terminal_and_colours_are_passed_on(sandbox: Sandbox) -> None:
    script = "echo $TERM $COLORTERM; printf '\\033[31mred\\033[0m\\n'; tput colors 2>/dev/null; echo end"
    with terminal() as person:
        line = sandbox.line("--", "sh", "-c", script)
        with on_terminal(person, line, env={"TERM": "xterm-256color", "COLORTERM": "truecolor"}) as running:
            assert person.until("end\r\n").startswith("xterm-256color truecolor\r\nred\r\n")
            assert ended(running) == 0


def test_without_a_terminal_there_is_no_kind_of_one(sandbox: Sandbox) -> None:
    assert sandbox.sh('echo "<$TERM>"', env={"TERM": "xterm"}) == "<>\n"


def test_keys_reach_the_command_as_they_are(sandbox: Sandbox) -> None:
    script = "stty raw -echo; echo ready; dd bs=1 count=6 2>/dev/null | od -An -tx1; stty sane"
    with terminal() as person, on_terminal(person, sandbox.line("--", "sh", "-c", script)) as running:
        person.until("ready")
        person.type("\x03\x1a\x1c\x04\x11\x13")
        person.until("03 1a 1c 04 11 13")
        assert ended(running) == 0


def test_the_end_of_input_at_the_terminal_ends_reading(sandbox: Sandbox) -> None:
    with (
        terminal() as person,
        on_terminal(person, sandbox.line("--", "sh", "-c", "echo ready; cat; echo over")) as running,
    ):
        person.until("ready\r\n")
        person.type("line\r\x04")
        person.until("over\r\n")
        assert ended(running) == 0


def test_control_c_interrupts_the_command_and_not_sandboxsh(either_sandbox: Sandbox) -> None:
    script = "trap 'echo caught; exit 9' INT; echo ready; while :; do sleep 0.01; done"
    with terminal() as person, on_terminal(person, either_sandbox.line("--", "sh", "-c", script)) as running:
        person.until("ready\r\n")
        person.type("\x03")
        person.until("caught\r\n")
        assert ended(running) == 9


def test_control_c_in_a_shell_ends_what_runs_in_it_and_the_shell_goes_on(sandbox: Sandbox) -> None:
    with terminal() as person:
        line = sandbox.line("--setenv", "PS1=inside> ", "--", "bash", "--norc", "--noprofile", "-i")
        with on_terminal(person, line) as running:
            person.until("inside> ")
            person.type("sleep 1000\r")
            person.until("sleep 1000\r\n")
            eventually(lambda: _runs_inside(running.pid, "sleep"), "sleep inside")
            person.type("\x03")
            person.until("inside> ")
            person.type("echo code $?\r")
            person.until("code 130\r\n")
            person.type("exit 4\r")
            assert ended(running) == 4


def test_a_shell_inside_has_job_control(sandbox: Sandbox) -> None:
    with terminal() as person:
        line = sandbox.line("--setenv", "PS1=inside> ", "--", "bash", "--norc", "--noprofile", "-i")
        with on_terminal(person, line) as running:
            assert "no job control" not in person.until("inside> ")
            person.type("sleep 1000\r")
            eventually(lambda: _runs_inside(running.pid, "sleep"), "sleep inside")
            person.type("\x1a")
            person.until("Stopped")
            person.until("inside> ")
            person.type("fg\r")
            person.until("sleep 1000\r\n")
            person.type("\x03")
            person.until("inside> ")
            person.type("jobs; exit 6\r")
            assert ended(running) == 6


def test_control_z_stops_the_whole_and_fg_continues_it(either_sandbox: Sandbox) -> None:
    """In an interactive bash with job control, as a person would."""
    script = "echo started; read line; echo heard $line; exit 3"
    with terminal() as person, shell_on(person):
        person.type("stty -a | grep -ow -e -\\\\?icanon -e -\\\\?echo -e -\\\\?opost | tr '\\n' ' '\r")
        person.until("\r\n")
        before = person.until("outside> ")
        person.type(" ".join(either_sandbox.line("--", "sh", "-c", f"'{script}'")) + "\r")
        person.until("started\r\n")
        person.type("\x1a")
        person.until("Stopped")
        person.until("outside> ")
        person.type("stty -a | grep -ow -e -\\\\?icanon -e -\\\\?echo -e -\\\\?opost | tr '\\n' ' '\r")
        person.until("\r\n")
        assert person.until("outside> ") == before
        person.type("fg\r")
        person.until("\r\n")
        person.type("words\r")
        person.until("heard words\r\n")
        person.until("outside> ")
        person.type("echo code $?\r")
        person.until("code 3\r\n")


def test_a_session_that_was_stopped_takes_the_new_size(sandbox: Sandbox) -> None:
    with terminal(24, 80) as person, shell_on(person):
        line = sandbox.line("--", "sh", "-c", "'echo started; read line; stty size; echo done'")
        person.type(" ".join(line) + "\r")
        person.until("started\r\n")
        person.type("\x1a")
        person.until("outside> ")
        person.resize(40, 100)
        person.type("fg\r")
        person.until("\r\n")
        person.type("\r")
        assert "40 100" in person.until("done\r\n")
        person.until("outside> ")


def test_a_session_in_the_background_runs_without_the_terminal(sandbox: Sandbox, tmp_path: Path) -> None:
    """``sandboxsh … < /dev/null > file &`` neither stops nor touches the terminal."""
    with terminal() as person, shell_on(person):
        before = person.attributes()
        line = sandbox.line("--", "sh", "-c", "'echo worked'")
        out = tmp_path / "out"
        person.type(" ".join(line) + f" </dev/null >{out} 2>&1 & wait; cat {out}\r")
        person.until("worked\r\n")
        person.until("outside> ")
        assert person.attributes() == before


def _raw(person: Terminal) -> bool:
    import termios

    return not person.attributes()[3] & termios.ICANON


@pytest.mark.parametrize("end", ["exit", "SIGTERM", "SIGHUP", "killed inside", "timeout", "not found"])
def test_the_terminal_is_put_back_as_it_was(sandbox: Sandbox, end: str) -> None:
    scripts = {"exit": "exit 3", "killed inside": "kill -9 $$", "timeout": "sleep 1000"}
    waits = "echo ready; read x; " + scripts.get(end, "sleep 1000")
    options = ("--timeout", "2") if end == "timeout" else ()
    command = ("no-such-program",) if end == "not found" else ("sh", "-c", waits)
    codes = {"exit": 3, "SIGTERM": 143, "SIGHUP": 129, "killed inside": 137, "timeout": 124, "not found": 127}
    with terminal() as person:
        before = person.attributes()
        with on_terminal(person, sandbox.line(*options, "--", *command)) as running:
            if end != "not found":
                person.until("ready\r\n")
                assert _raw(person)
                if end.startswith("SIG"):
                    running.send_signal(signal.Signals[end])
                else:
                    person.type("\r")
            assert ended(running) == codes[end]
            assert person.attributes() == before


def test_a_terminal_that_goes_away_ends_the_session(sandbox: Sandbox) -> None:
    """A closed window: SIGHUP to the session's leader, and nothing stays."""
    number = mark()
    person = Terminal(24, 80)
    running = person.start(sandbox.line("--", "sh", "-c", f"echo ready; sleep {number}"))
    person.until("ready\r\n")
    os.close(person.slave)
    os.close(person.master)
    assert ended(running) != 0
    eventually(lambda: not marked(number), "the end of every process")


def test_much_output_reaches_a_terminal_whole(sandbox: Sandbox) -> None:
    with terminal() as person, on_terminal(person, sandbox.line("--", "seq", "100000")) as running:
        shown = person.until("\r\n100000\r\n")
        assert ended(running) == 0
    assert shown.split("\r\n") == [str(number) for number in range(1, 100000)]


def test_what_is_typed_ahead_is_not_lost(sandbox: Sandbox) -> None:
    with terminal() as person:
        person.type("early\r")
        with on_terminal(person, sandbox.line("--", "sh", "-c", "read x; echo got $x")) as running:
            person.until("got early\r\n")
            assert ended(running) == 0


INJECT = """
import fcntl, os, sys
for number in (0x5412, 0x541C):  # TIOCSTI, TIOCLINUX
    try:
        fcntl.ioctl(0, number, b'x' if number == 0x5412 else bytes([2]))
    except OSError as error:
        print('refused')
    else:
        print('GIVEN')
"""


def test_keys_can_not_be_injected_into_the_callers_terminal(sandbox: Sandbox) -> None:
    with terminal() as person, on_terminal(person, sandbox.line("--", PYTHON, "-Ic", INJECT)) as running:
        assert person.until("refused\r\nrefused\r\n") == ""
        assert ended(running) == 0
        assert person.rest() == ""


def test_no_descriptor_of_the_callers_terminal_is_inside(sandbox: Sandbox) -> None:
    script = "ls -l /proc/[0-9]*/fd 2>/dev/null | grep -o '/dev/[pt].*' | sort -u; echo end"
    with terminal() as person, on_terminal(person, sandbox.line("--", "sh", "-c", script)) as running:
        assert set(person.until("end\r\n").split()) == {"/dev/pts/0"}
        assert ended(running) == 0


def test_a_person_sees_the_words_of_sandboxsh_on_whole_lines(sandbox: Sandbox) -> None:
    with terminal() as person, on_terminal(person, sandbox.line("-v", "--", "true")) as running:
        assert ended(running) == 0
        assert person.until("largest process").startswith("sandboxsh: exit code 0")


def test_without_a_command_a_terminal_gets_a_shell(sandbox: Sandbox) -> None:
    with terminal() as person, on_terminal(person, sandbox.line("--setenv", "PS1=inside> ")) as running:
        person.type("echo shell is $0; exit 8\r")
        person.until("shell is /bin/")
        assert ended(running) == 8


def _runs_inside(supervisor: int, name: str) -> bool:
    done = subprocess.run(["ps", "-e", "-o", "pid=,ppid=,comm="], capture_output=True, text=True, check=True)
    rows = [line.split(None, 2) for line in done.stdout.splitlines()]
    parents = {int(pid): int(parent) for pid, parent, _ in rows}

    def below(pid: int) -> bool:
        while pid in parents:
            if pid == supervisor:
                return True
            pid = parents[pid]
        return False

    return any(program == name and below(int(pid)) for pid, _, program in rows)
