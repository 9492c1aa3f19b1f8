"""Class: the caller's own standard streams as a way out (docs/threats/streams.md)."""

from __future__ import annotations

import os
import subprocess

from tests.sessions.running import Sandbox

# What a shell reads its commands from is a pipe that its children inherit.
ATTACK = (
    "exec 3<&0; echo 'echo HIT' | dd of=/proc/self/fd/3 oflag=nonblock conv=notrunc 2>/dev/null; echo tried"
)


def test_a_shell_that_reads_its_commands_from_a_pipe_gets_none_from_a_session(
    either_sandbox: Sandbox,
) -> None:
    """The same write, by a process that is in no session, does reach the shell."""
    for line, hits in ((either_sandbox.line("--", "sh", "-c", ATTACK), 0), (["sh", "-c", ATTACK], 1)):
        script = '"$@"\necho end\n'
        done = subprocess.run(["bash", "-s", *line], input=script.encode(), capture_output=True, timeout=20)
        words = done.stdout.decode().split()
        assert words[0] == "tried"
        assert "end" in words, "what the session did not read is the shell's"
        assert words.count("HIT") == hits, words


def test_what_others_write_to_the_callers_pipe_can_not_be_read_from_a_session(
    either_sandbox: Sandbox,
) -> None:
    """Two programs share one pipe; the one in the session opens it for reading."""
    script = "exec 3>&1; dd if=/proc/self/fd/3 iflag=nonblock bs=100 count=1 2>/dev/null | wc -c >&2"
    for line, stolen in (
        (either_sandbox.line("--", "sh", "-c", script), b"0"),
        (["sh", "-c", script], b"16"),
    ):
        read, write = os.pipe()
        os.write(write, b"another's secret")
        done = subprocess.run(
            line, stdout=write, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, timeout=20
        )
        os.close(write)
        left = os.read(read, 100)
        os.close(read)
        assert done.stderr.strip() == stolen
        assert left == (b"another's secret" if stolen == b"0" else b"")


def test_a_session_may_open_its_own_streams_anew(either_sandbox: Sandbox) -> None:
    """Programs do that by name, also when they have given up being root."""
    script = "cat /dev/stdin > /dev/stdout; echo error > /dev/stderr"
    done = either_sandbox.run("--", "sh", "-c", script, stdin=b"in\n")
    assert (done.out, done.err) == ("in\n", "error\n")


def test_a_session_takes_no_more_of_a_pipe_than_its_command_read(either_sandbox: Sandbox) -> None:
    """As without a session: the loop's other lines are still there."""
    inner = " ".join(f"'{word}'" for word in either_sandbox.line("--", "sh", "-c", "read x; echo inside $x"))
    script = f"read a; {inner}; read b; echo $a $b; {inner.replace('read x', 'true')}; cat"
    done = subprocess.run(["sh", "-c", script], input=b"1\n2\n3\n4\n", capture_output=True, timeout=20)
    assert done.stdout.split() == [b"inside", b"2", b"1", b"3", b"inside", b"4"]
