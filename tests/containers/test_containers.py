"""Containers from the first command to their removal, with real processes."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from sandbox.containers import directory
from sandbox.containers.containers import Containers
from sandbox.containers.directory import NoContainerError
from sandbox.containers.spec import ContainerSpec
from sandbox.errors import InputError, SetupError
from sandbox.spec import RootFs
from tests.containers.conftest import SPEC, left
from tests.sessions.running import eventually, mark, marked


def said(containers: Containers, script: str) -> str:
    """What a shell script prints in the container ``one``; it must succeed."""
    done = containers.run("one", ["sh", "-ec", script])
    assert (done.ended.code, done.errors) == (0, b""), done
    return done.output.decode()


def test_a_command_runs_and_the_container_is_started_for_it(containers: Containers, container: str) -> None:
    assert containers.running() == ()
    assert said(containers, "id -u; pwd; hostname") == "0\n/workspace\nsandbox\n"
    assert containers.running() == (container,)


def test_how_a_command_ends_is_told(containers: Containers, container: str) -> None:
    done = containers.run(container, ["sh", "-c", "echo out; echo err >&2; exit 3"])
    assert (done.ended.code, done.output, done.errors, done.omitted) == (3, b"out\n", b"err\n", 0)
    killed = containers.run(container, ["sh", "-c", "kill -9 $$"])
    assert (killed.ended.code, killed.ended.signal) == (137, 9)


def test_a_command_that_cannot_be_run_says_why(containers: Containers, container: str) -> None:
    assert containers.run(container, ["nosuch"]).ended[0::5] == (127, "nosuch: not found in the session")
    refused = containers.run(container, ["/etc/hosts"]).ended
    assert (refused.code, refused.message) == (126, "/etc/hosts: can't be run: Permission denied")
    astray = containers.run(container, ["true"], workdir="/nosuch").ended
    assert (astray.code, "working directory" in astray.message) == (126, True)
    with pytest.raises(InputError):
        containers.run(container, [])


def test_variables_and_directory_of_a_command_add_to_the_containers(
    containers: Containers, container: str
) -> None:
    done = containers.run(
        container, ["sh", "-c", 'echo "$A $HOME"; pwd'], environment={"A": "b"}, workdir="/tmp"
    )
    assert done.output == b"b /root\n/tmp\n"


def test_input_reaches_it_and_long_output_is_cut_at_the_beginning(
    containers: Containers, container: str
) -> None:
    text = b"0123456789" * 50_000
    assert containers.run(container, ["cat"], given=text).output == text
    done = containers.run(container, ["cat"], given=text, limit=1000)
    assert (done.output, done.omitted) == (text[-1000:], len(text) - 1000)


def test_files_outlive_the_processes(containers: Containers, container: str) -> None:
    said(containers, "echo kept >/root/file; rm /etc/debian_version; mkfifo /root/pipe; echo >/tmp/other")
    containers.stop(container)
    assert containers.running() == ()
    assert (
        said(containers, "cat /root/file; ls /etc/debian_version 2>/dev/null || echo gone") == "kept\ngone\n"
    )


def test_background_processes_survive_the_command_that_started_them(
    containers: Containers, container: str
) -> None:
    number = mark()
    assert said(containers, f"sleep {number} & echo started") == "started\n"
    eventually(lambda: marked(number), "what runs in the background")
    containers.stop(container)
    assert not marked(number)


def test_at_its_time_limit_a_command_and_its_process_group_are_killed(
    containers: Containers, container: str
) -> None:
    number = mark()
    done = containers.run(
        container, ["sh", "-c", f"echo begun; sleep {number} & sleep {number}"], timeout_s=1.5
    )
    assert (done.timed_out, done.ended.code, done.output) == (True, 137, b"begun\n")
    eventually(lambda: not marked(number), "the end of its children")


def test_two_containers_see_nothing_of_each_other(containers: Containers, container: str) -> None:
    containers.create("two", SPEC)
    said(containers, "echo secret >/root/file; sleep 1000 >/dev/null 2>&1 &")
    done = containers.run("two", ["sh", "-c", "ls /root; cat /proc/[0-9]*/comm"])
    assert "file" not in done.output.decode() and "sleep" not in done.output.decode()
    assert "sleep" in said(containers, "cat /proc/[0-9]*/comm; cat /root/file")


def test_a_deleted_container_is_gone(containers: Containers, container: str) -> None:
    number = mark()
    said(containers, f"sleep {number} & mkdir -p /root/a/b; chmod 0 /root/a; echo >/mnt/session/outputs/x")
    containers.delete(container)
    assert (marked(number), left(containers), containers.ids_of_all()) == ([], [], ())
    for call in (containers.delete, containers.start, containers.stop):
        with pytest.raises(NoContainerError):
            call(container)


def test_an_id_that_is_taken_or_none_is_refused(containers: Containers, container: str) -> None:
    with pytest.raises(InputError, match="one already"):
        containers.create(container, SPEC)
    for id_ in ("", "../one", ".one", "a/b", "a" * 200):
        with pytest.raises(InputError, match="can't be"):
            containers.create(id_, SPEC)
    assert left(containers) == [container]


def test_a_container_that_cannot_be_started_says_why(containers: Containers) -> None:
    containers.create("one", SPEC._replace(root=RootFs("/nosuch")))
    with pytest.raises(SetupError, match="/nosuch"):
        containers.start("one")
    assert containers.running() == ()


def test_many_starts_at_once_are_one(containers: Containers, container: str) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: containers.start(container), range(16)))
        found = set(pool.map(lambda _: said(containers, "readlink /proc/self/ns/pid"), range(16)))
    assert len(found) == 1


def test_starts_stops_and_commands_at_once_leave_it_whole(containers: Containers, container: str) -> None:
    over = threading.Event()

    def disturb() -> None:
        while not over.is_set():
            containers.stop(container)

    disturber = threading.Thread(target=disturb)
    disturber.start()
    try:
        for _ in range(20):
            containers.start(container)
    finally:
        over.set()
        disturber.join()
    assert said(containers, "echo whole") == "whole\n"


def test_a_container_can_be_deleted_while_it_starts(containers: Containers) -> None:
    for number in range(5):
        containers.create(f"n{number}", SPEC)
        with ThreadPoolExecutor(2) as pool:
            starting = pool.submit(containers.start, f"n{number}")
            pool.submit(containers.delete, f"n{number}").result()
            assert starting.exception() is None or isinstance(starting.exception(), NoContainerError)
        assert left(containers) == []


def test_a_sweep_removes_what_is_not_known(containers: Containers, container: str) -> None:
    containers.create("known", SPEC)
    containers.start(container)
    parent = f"{containers.data}/containers/{containers.ids.name}"
    os.mkdir(f"{parent}/.new-0")
    os.mkdir(f"{parent}/.gone-0")
    assert containers.sweep({"known"}) == 3
    assert left(containers) == ["known"]


def test_process_1_of_a_container_cannot_be_looked_into(containers: Containers, container: str) -> None:
    assert said(
        containers, "cat /proc/1/environ 2>/dev/null || echo no; ls /proc/1/fd 2>/dev/null | wc -l"
    ) == ("no\n0\n")
    assert (
        said(containers, "cat /proc/self/environ >/dev/null && echo yes; ls /proc/self/fd | wc -l")
        != "no\n0\n"
    )


def test_the_specification_is_kept(containers: Containers, container: str) -> None:
    spec = directory.read_spec(directory.place_of(containers.data, containers.ids, container))
    assert spec == SPEC
    assert isinstance(spec, ContainerSpec)
