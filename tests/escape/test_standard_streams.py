"""Class: the caller's own standard streams as a way out (docs/threats/streams.md)."""

from __future__ import annotations

import os
import shlex
import socket
import subprocess
import threading
from pathlib import Path

import pytest

from tests.sessions.running import PYTHON, Sandbox

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
        done = subprocess.run(["bash", "-s", *line], input=script.encode(), capture_output=True, timeout=60)
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
            line, stdout=write, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, timeout=60
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
    done = subprocess.run(["sh", "-c", script], input=b"1\n2\n3\n4\n", capture_output=True, timeout=60)
    assert done.stdout.split() == [b"inside", b"2", b"1", b"3", b"inside", b"4"]


PASS_ON = """
import array, socket, sys
with socket.socket(socket.AF_UNIX) as there:
    there.connect('/given/s')
    there.sendmsg([b'x'], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', [1, 2]))])
    there.recv(1)
print('x' * 100000 + 'last')
"""


@pytest.mark.parametrize("on_terminal", [False, True])
def test_a_stream_that_was_passed_on_to_somebody_outside_holds_nothing_up(
    either_sandbox: Sandbox, tmp_path: Path, on_terminal: bool
) -> None:
    """The session reaches a socket in a directory that it was given; whoever listens there keeps what it gets."""
    held: list[int] = []
    with socket.socket(socket.AF_UNIX) as server:
        here = os.getcwd()
        os.chdir(tmp_path)  # a socket's path has 107 bytes at most
        try:
            server.bind("s")
        finally:
            os.chdir(here)
        os.chmod(tmp_path / "s", 0o777)
        server.listen()

        def listen() -> None:
            client, _ = server.accept()
            with client:
                held.extend(socket.recv_fds(client, 1, 2)[1])
                client.sendall(b"x")

        thread = threading.Thread(target=listen)
        thread.start()
        line = either_sandbox.line("--mount", f"{tmp_path}:/given", "--", PYTHON, "-Ic", PASS_ON)
        if on_terminal:
            line = ["script", "-qec", shlex.join(line), "/dev/null"]
        done = subprocess.run(line, stdin=subprocess.DEVNULL, capture_output=True, timeout=60)
        thread.join()
    for fd in held:
        os.close(fd)
    assert len(held) == 2
    assert done.returncode == 0
    assert done.stdout.rstrip().endswith(b"x" * 100000 + b"last")
