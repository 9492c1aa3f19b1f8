"""Commands in a running container: streams, terminals, signals, and hanging up."""

from __future__ import annotations

import os
import resource
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from sandbox.containers import directory
from sandbox.containers.containers import Containers
from sandbox.containers.execution import Exec, Given, StoppedError, pipe
from sandbox.containers.spec import Size
from sandbox.errors import InputError
from tests.containers.test_containers import said
from tests.sessions.running import PATIENCE, eventually, mark, marked


@contextmanager
def shell(containers: Containers, script: str, **variables: str) -> Iterator[tuple[Exec, int, int]]:
    """A shell script under way, with the ends of its input and output. ``variables`` are in no command line."""
    stdin, feed = pipe()
    output, stdout = pipe()
    try:
        given = Given(stdin, stdout, stdout)
        with containers.exec("one", ["sh", "-c", script], given=given, environment=variables) as command:
            os.close(stdin)
            os.close(stdout)
            stdin = stdout = -1
            yield command, feed, output
    finally:
        for fd in (stdin, stdout, feed, output):
            if fd >= 0:
                os.close(fd)


def read_until(fd: int, text: bytes) -> bytes:
    """Read until ``text`` came."""
    found = b""
    deadline = time.monotonic() + PATIENCE
    while text not in found:
        assert select.select([fd], [], [], max(0, deadline - time.monotonic()))[0], found
        found += os.read(fd, 65536)
    return found


def test_input_and_output_flow_while_it_runs(containers: Containers, container: str) -> None:
    with shell(containers, "while read line; do echo got $line; done; echo end") as (command, feed, output):
        os.write(feed, b"one\n")
        assert read_until(output, b"\n") == b"got one\n"
        assert command.poll() is None
        os.write(feed, b"two\n")
        assert read_until(output, b"\n") == b"got two\n"
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, feed)
        os.close(null)
        ended = command.wait(PATIENCE)
        assert ended is not None and ended.code == 0
        assert os.read(output, 100) == b"end\n"


def test_news_shows_on_its_descriptor(containers: Containers, container: str) -> None:
    with shell(containers, "read line") as (command, feed, _):
        assert not select.select([command], [], [], 0)[0]
        os.write(feed, b"\n")
        assert select.select([command], [], [], PATIENCE)[0]
        assert command.poll() == command.ended
        assert command.ended is not None and command.ended.code == 0


def test_many_commands_run_at_once(containers: Containers, container: str) -> None:
    said(containers, "mkfifo /root/gate")

    def wait(number: int) -> bytes:
        return containers.run(container, ["sh", "-c", f"read x </root/gate; echo {number}"]).output

    with ThreadPoolExecutor(10) as pool:
        waiting = [pool.submit(wait, number) for number in range(10)]
        # Who opens it for both needs nobody at the other end, and who waits there gets what is in it.
        open_once = "exec 3<>/root/gate; echo x >&3"
        eventually(lambda: said(containers, open_once) == "" and all(each.done() for each in waiting))
        assert sorted(int(each.result()) for each in waiting) == list(range(10))


def test_nothing_of_what_was_written_before_the_end_is_lost(containers: Containers, container: str) -> None:
    number = mark()
    script = f"sleep {number} & head -c 1000000 /dev/zero; echo end"
    for _ in range(10):
        done = containers.run(container, ["sh", "-c", script])
        assert done.output.endswith(b"\0end\n") and len(done.output) == 1_000_004
    eventually(lambda: len(marked(number)) == 10, "what each of them left")


def test_a_terminal_of_its_own(containers: Containers, container: str) -> None:
    script = "tty; stty size; echo ready; read x; echo got $x; stty size"
    with containers.exec(container, ["sh", "-c", script], terminal=Size(24, 80)) as command:
        told = read_until(command.terminal, b"ready")
        assert b"/dev/pts/" in told and b"24 80" in told
        command.resize(Size(30, 100))
        os.write(command.terminal, b"typed\n")
        assert b"got typed" in read_until(command.terminal, b"30 100")
        ended = command.wait(PATIENCE)
        assert ended is not None and ended.code == 0


def test_the_end_of_what_is_said_on_a_terminal_is_there_when_the_command_has_ended(
    containers: Containers, container: str
) -> None:
    for _ in range(20):
        with containers.exec(container, ["sh", "-c", "seq 200; echo last"], terminal=Size(24, 80)) as command:
            said_ = read_until(command.terminal, b"last")
            assert said_.count(b"\n") >= 200
            assert command.wait(PATIENCE) is not None


def test_control_keys_reach_what_is_in_the_foreground(containers: Containers, container: str) -> None:
    with containers.exec(
        container, ["sh", "-c", "echo ready; exec sleep 1000"], terminal=Size(24, 80)
    ) as command:
        read_until(command.terminal, b"ready")
        os.write(command.terminal, b"\x03")
        ended = command.wait(PATIENCE)
        assert ended is not None and ended.signal == signal.SIGINT


def test_a_terminal_can_be_opened_whatever_the_session_did_to_its_devices(
    containers: Containers, container: str
) -> None:
    said(containers, "rm /dev/ptmx; mkfifo /dev/ptmx; chmod 0 /dev/pts/ptmx")
    with containers.exec(container, ["tty"], terminal=Size(24, 80)) as command:
        assert b"/dev/pts/" in read_until(command.terminal, b"\n")


def test_signals_reach_the_process_group(containers: Containers, container: str) -> None:
    number = mark()
    script = "trap 'echo caught; exit 7' USR1; sleep $N & echo ready; while :; do wait; done"
    with shell(containers, script, N=number) as (command, _, output):
        read_until(output, b"ready")
        eventually(lambda: marked(number))
        command.signal(signal.SIGUSR1)
        ended = command.wait(PATIENCE)
        assert ended is not None and ended.code == 7
        assert b"caught" in read_until(output, b"caught")
    eventually(lambda: not marked(number), "the end of its child")


def names(number: str) -> list[str]:
    """What the processes with ``number`` in their command line are called: setsid is one until it executes."""
    return [psutil.Process(pid).name() for pid in marked(number) if psutil.pid_exists(pid)]


def test_who_hangs_up_has_the_process_group_killed_and_nothing_else(
    containers: Containers, container: str
) -> None:
    ours, other, apart = mark(), mark(), mark()
    said(containers, f"sleep {other} &")
    script = "sleep $OURS & setsid sleep $APART & echo ready; sleep $OURS"
    with shell(containers, script, OURS=ours, APART=apart) as (_, __, output):
        read_until(output, b"ready")
        eventually(lambda: len(marked(ours)) == 2 and names(apart) == ["sleep"])
    eventually(lambda: not marked(ours), "the end of the group")
    assert marked(other) and marked(apart)


def test_a_caller_that_is_killed_has_hung_up(containers: Containers, container: str) -> None:
    number = mark()
    containers.start(container)
    pid = os.fork()
    if pid == 0:
        try:
            containers.run(container, ["sleep", number])
        finally:
            os._exit(1)
    eventually(lambda: marked(number))
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    eventually(lambda: not marked(number), "the end of the command")


def test_a_command_whose_container_is_stopped_is_told_so(containers: Containers, container: str) -> None:
    with shell(containers, "echo ready; sleep 1000") as (command, _, output):
        read_until(output, b"ready")
        containers.stop(container)
        with pytest.raises(StoppedError):
            command.wait(PATIENCE)


def test_a_stop_with_grace_lets_processes_end(containers: Containers, container: str) -> None:
    number = mark()
    script = "trap 'echo ended >/root/told; exit' TERM; sleep $N & echo ready; while :; do wait; done"
    with shell(containers, script, N=number) as (_, __, output):
        read_until(output, b"ready")
        eventually(lambda: marked(number))
        containers.stop(container, grace_s=PATIENCE)
    assert said(containers, "cat /root/told") == "ended\n"
    assert not marked(number)


def test_a_grace_is_no_longer_than_it_is(containers: Containers, container: str) -> None:
    with shell(containers, "trap '' TERM; echo ready; while :; do sleep 1; done") as (_, __, output):
        read_until(output, b"ready")
        begun = time.monotonic()
        containers.stop(container, grace_s=0.3)
        assert 0.25 < time.monotonic() - begun < PATIENCE


def test_only_pipes_go_in(containers: Containers, container: str, tmp_path: Path) -> None:
    """Anything else could be opened again in the session with other rights."""
    one, other = socket.socketpair()
    file = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    folder = os.open(tmp_path, os.O_RDONLY)
    zero = os.open("/dev/zero", os.O_RDONLY)
    read, write = pipe()
    try:
        for fd in (one.fileno(), file, folder, zero):
            with pytest.raises(InputError, match="neither a pipe"):
                containers.exec(container, ["true"], given=Given(stdin=fd))
        with containers.exec(container, ["true"], given=Given(stdin=read, stdout=write)) as command:
            assert command.wait(PATIENCE) is not None
    finally:
        one.close()
        other.close()
        for fd in (file, folder, zero, read, write):
            os.close(fd)


def test_arguments_that_no_command_can_have_are_refused(containers: Containers, container: str) -> None:
    for arguments in ([], [""], ["a\0b"]):
        with pytest.raises(InputError):
            containers.run(container, arguments)
    for environment in ({"": "x"}, {"a=b": "x"}, {"a": "\0"}):
        with pytest.raises(InputError):
            containers.run(container, ["true"], environment=environment)
    assert containers.run(container, ["true", "\udcff"]).ended.code == 0
    too_long = containers.run(container, ["true", "x" * 3_000_000]).ended
    assert (too_long.code, "too long" in too_long.message) == (126, True)


def test_a_command_has_nothing_of_process_1s(containers: Containers, container: str) -> None:
    assert said(containers, "ls /proc/self/fd | tr '\\n' ' '") == "0 1 2 3 "
    assert "SigIgn:\t0000000000000000" in said(containers, "cat /proc/self/status")
    assert "SigBlk:\t0000000000000000" in said(containers, "cat /proc/self/status")


def test_files_of_the_session_are_never_taken_for_code_of_process_1(
    containers: Containers, container: str
) -> None:
    """Whatever Python would look for by itself, where it would look."""
    folders = " ".join({path for path in sys.path if path.startswith("/")} | {"/workspace", "/"})
    said(
        containers,
        f"for d in {folders}; do mkdir -p $d 2>/dev/null || continue; for m in traceback linecache tokenize token "
        """termios pty tty; do (echo 'open("/root/hurt", "w")' >$d/$m.py) 2>/dev/null || true; done; done""",
    )
    assert said(containers, "ls /termios.py") == "/termios.py\n"
    with containers.exec(container, ["true"], terminal=Size(1, 1)) as command:
        command.wait(PATIENCE)
    containers.run(container, ["nosuch"])
    assert said(containers, "ls /root") == ""


def test_starting_is_not_held_up_by_a_slow_command(containers: Containers, container: str) -> None:
    over = threading.Event()
    with shell(containers, "echo ready; sleep 1000") as (_, __, output):
        read_until(output, b"ready")
        assert said(containers, "echo quick") == "quick\n"
        over.set()


def test_more_callers_than_there_is_room_for_wait_and_take_no_time(
    containers: Containers, container: str
) -> None:
    """Process 1 waits for room; it does not ask again and again."""
    containers.start(container)
    place = directory.place_of(containers.data, containers.ids, container)
    process1 = directory.process1_of(place)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
    silent: list[socket.socket] = []
    try:
        with directory.Folder(place) as folder:
            # As many as it takes, and some that wait to be taken.
            for _ in range(1224):
                silent.append(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC))
                silent[-1].connect(folder.short("exec"))

        def sleeps() -> bool:
            return all(psutil.Process(process1).status() == psutil.STATUS_SLEEPING for _ in range(200))

        eventually(sleeps, "process 1's rest")
    finally:
        for each in silent:
            each.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert said(containers, "echo room") == "room\n"
