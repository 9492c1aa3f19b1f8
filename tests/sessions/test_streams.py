"""Standard input, output and error: whatever the caller has there, the command can use it, and nothing leads out."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
from pathlib import Path

import pytest

from tests.sessions.running import PYTHON, Sandbox, eventually

MIB = 1 << 20


def test_input_and_both_outputs_are_carried(either_sandbox: Sandbox) -> None:
    done = either_sandbox.run("--", "sh", "-c", "cat; echo error >&2", stdin=b"in\0\xff\n")
    assert (done.code, done.out.encode(errors="surrogateescape"), done.err) == (0, b"in\0\xff\n", "error\n")


def test_much_data_passes_through_files_both_ways(either_sandbox: Sandbox, tmp_path: Path) -> None:
    data = os.urandom(1 << 16) * 512
    (tmp_path / "in").write_bytes(data)
    with open(tmp_path / "in", "rb") as read, open(tmp_path / "out", "wb") as write:
        subprocess.run(either_sandbox.line("--", "cat"), stdin=read, stdout=write, check=True)
    assert (tmp_path / "out").read_bytes() == data


def test_much_data_passes_through_pipes_both_ways(sandbox: Sandbox) -> None:
    data = os.urandom(1 << 16) * 256
    done = subprocess.run(sandbox.line("--", "cat"), input=data, capture_output=True, check=True)
    assert done.stdout == data


def test_much_data_passes_through_sockets_both_ways(sandbox: Sandbox) -> None:
    data = os.urandom(1 << 16) * 64
    ours, theirs = socket.socketpair()
    with ours, subprocess.Popen(sandbox.line("--", "cat"), stdin=theirs, stdout=theirs) as running:
        theirs.close()

        def send() -> None:
            ours.sendall(data)
            ours.shutdown(socket.SHUT_WR)

        sender = threading.Thread(target=send)
        sender.start()
        got = bytearray()
        while piece := ours.recv(65536):
            got += piece
        sender.join()
        assert running.wait(60) == 0
    assert bytes(got) == data


def test_output_and_errors_in_one_file_stay_in_their_order(sandbox: Sandbox, tmp_path: Path) -> None:
    script = "for i in 1 2 3 4 5 6 7 8 9; do echo out $i; echo error $i >&2; done"
    with open(tmp_path / "both", "wb") as both:
        subprocess.run(sandbox.line("--", "sh", "-c", script), stdout=both, stderr=both, check=True)
    wanted = "".join(f"out {number}\nerror {number}\n" for number in range(1, 10))
    assert (tmp_path / "both").read_text() == wanted


def test_output_appends_where_the_caller_appends(sandbox: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "log").write_text("before\n")
    with open(tmp_path / "log", "ab") as log:
        subprocess.run(sandbox.line("--", "echo", "after"), stdout=log, check=True)
    assert (tmp_path / "log").read_text() == "before\nafter\n"


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_closed_stream_is_null_inside(sandbox: Sandbox, closed: str, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    line = sandbox.line(
        "--outputs",
        str(tmp_path / "out"),
        "--",
        "sh",
        "-c",
        "ls -l /proc/$$/fd > /mnt/session/outputs/fds; echo x; exit 7",
    )
    done = subprocess.run(
        ["sh", "-c", f'"$@" {closed}', "sh", *line], capture_output=True, stdin=subprocess.PIPE
    )
    assert done.returncode == 7
    links = [text.split(" -> ") for text in (tmp_path / "out/fds").read_text().splitlines() if " -> " in text]
    found = {name.split()[-1]: target for name, target in links}
    assert set(found) <= {"0", "1", "2", "3", "10"}
    for name, operator in (("0", "<&-"), ("2", "2>&-")):
        if operator in closed.split():
            assert found[name] == "/dev/null"
        else:
            assert found[name].startswith("pipe:")


def test_the_hosts_null_device_is_null_inside(sandbox: Sandbox) -> None:
    with open(os.devnull, "r+b") as null:
        done = subprocess.run(
            sandbox.line("--", "sh", "-c", "cat; echo x; exit 6"), stdin=null, stdout=null, stderr=null
        )
    assert done.returncode == 6


@pytest.mark.parametrize("stream", ["stdin", "stdout", "stderr"])
def test_a_directory_as_a_stream_is_refused(sandbox: Sandbox, stream: str, tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        ends = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, stream: fd}
        done = subprocess.run(sandbox.line("--", "echo", "ran"), **ends)  # type: ignore[call-overload]
    finally:
        os.close(fd)
    # Python itself refuses to start with a directory there: 1. Otherwise this project does.
    assert done.returncode in (1, 2)
    assert not done.stdout


REOPEN = """
import os
for fd, flags in ((0, os.O_RDWR), (1, os.O_RDWR), (2, os.O_RDWR)):
    try:
        again = os.open(f'/proc/self/fd/{fd}', flags)
        kind = os.readlink(f'/proc/self/fd/{again}')
        with open('/mnt/session/outputs/kinds', 'a') as file: file.write(kind.split(':')[0] + '\\n')
    except OSError as error:
        with open('/mnt/session/outputs/kinds', 'a') as file: file.write('refused\\n')
"""


def test_a_file_of_the_caller_can_not_be_opened_anew_with_other_rights(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    """Opened for reading outside, it can't be written inside; opened for writing, it can't be read."""
    (tmp_path / "in").write_text("given")
    (tmp_path / "out").write_text("hidden from inside\n")
    line = sandbox.line("--outputs", str(tmp_path / "outputs"), "--", PYTHON, "-Ic", REOPEN)
    with open(tmp_path / "in", "rb") as read, open(tmp_path / "out", "ab") as write:
        subprocess.run(line, stdin=read, stdout=write, stderr=write, check=True)
    assert set((tmp_path / "outputs/kinds").read_text().split()) <= {"pipe", "refused"}
    assert (tmp_path / "in").read_text() == "given"
    assert (tmp_path / "out").read_text() == "hidden from inside\n"


def test_a_reader_that_stops_reading_ends_the_command_as_in_a_pipeline(sandbox: Sandbox) -> None:
    for line in (sandbox.line("--", "yes"), sandbox.line("--", "sh", "-c", "yes | cat")):
        done = subprocess.run(
            ["bash", "-c", '"$@" | head -n 1; echo "${PIPESTATUS[0]}"', "bash", *line],
            capture_output=True,
            timeout=60,
        )
        assert done.stdout == b"y\n141\n"


def test_a_command_that_does_not_read_its_input_is_not_held_up_by_it(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    (tmp_path / "in").write_bytes(b"x" * 8 * MIB)
    with open(tmp_path / "in", "rb") as read:
        done = subprocess.run(sandbox.line("--", "true"), stdin=read, capture_output=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, b"")
    read_end, write_end = os.pipe()
    try:
        done = subprocess.run(sandbox.line("--", "true"), stdin=read_end, capture_output=True, timeout=60)
    finally:
        os.close(read_end)
        os.close(write_end)
    assert done.returncode == 0


def test_the_end_of_input_is_seen_while_the_writer_lives_on(sandbox: Sandbox) -> None:
    with sandbox.start("--", "sh", "-c", "cat; echo over", stdin=subprocess.PIPE) as running:
        out, _ = running.communicate(b"x\n", timeout=60)
    assert out == b"x\nover\n"


def test_output_comes_as_it_is_written(sandbox: Sandbox, tmp_path: Path) -> None:
    """Through a file, which is carried, as through a pipe: not held back until the end."""
    with (
        open(tmp_path / "out", "wb") as out,
        sandbox.start(
            "--", "sh", "-c", "echo first; read x; echo second", stdin=subprocess.PIPE, stdout=out
        ) as running,
    ):
        eventually(lambda: (tmp_path / "out").read_text() == "first\n", "the first line")
        running.communicate(b"\n", timeout=60)
    assert (tmp_path / "out").read_text() == "first\nsecond\n"


def test_a_full_disk_behind_the_output_is_the_commands_broken_pipe(sandbox: Sandbox) -> None:
    with open("/dev/full", "wb", buffering=0) as full:
        done = subprocess.run(sandbox.line("--", "yes"), stdout=full, stderr=subprocess.PIPE, timeout=60)
    assert done.returncode != 0


def test_standard_output_carries_the_commands_words_alone(sandbox: Sandbox) -> None:
    done = sandbox.run("-v", "--json", "--", "echo", "mine")
    assert done.out == "mine\n"
    assert "sandboxsh: exit code 0" in done.err


def test_quiet_says_nothing(sandbox: Sandbox) -> None:
    done = sandbox.run("-q", "--", "sh", "-c", "getent hosts x.test; exit 4")
    assert (done.code, done.err) == (4, "")
