"""A container's way out: refusals that explain themselves, the log, and a proxy that comes when it is needed."""

from __future__ import annotations

import json
from pathlib import Path

from netpolicy.policy import compile_policy
from sandbox.containers import directory
from sandbox.containers.containers import Containers
from sandbox.containers.starting import Starter
from tests.containers.conftest import SPEC, kept
from tests.containers.test_containers import said
from tests.sessions.running import PYTHON, eventually

ASK = """
import socket
with socket.create_connection(("refused.example", 80), timeout=20) as connection:
    connection.sendall(b"GET / HTTP/1.1\\r\\nHost: refused.example\\r\\n\\r\\n")
    print(connection.recv(1000).split(b"\\r\\n")[0].decode())
"""


def records(containers: Containers) -> list[dict[str, object]]:
    return [json.loads(line) for line in Path(containers.egress("one")).read_text().splitlines()]


def test_a_refusal_is_told_and_written_down_and_a_restart_goes_on_with_the_log(
    containers: Containers, container: str
) -> None:
    assert records(containers) == []
    for count in (1, 2):
        done = containers.run(container, [PYTHON, "-Ic", ASK])
        assert done.output.decode().endswith(" 403 Forbidden\n"), done
        eventually(lambda count=count: len(records(containers)) == count, "the record")  # type: ignore[misc]
        containers.stop(container)
    assert {(each["session"], each["host"], each["verdict"]) for each in records(containers)} == {
        (container, "refused.example", "denied")
    }


def test_no_proxy_runs_before_it_is_needed(containers: Containers, container: str, starter: Starter) -> None:
    said(containers, "true")
    process1 = directory.process1_of(directory.place_of(containers.data, containers.ids, container))
    # What the starter forked for a moment may still be there.
    eventually(lambda: kept(starter) == [process1], "process 1 alone")
    containers.run(container, [PYTHON, "-Ic", ASK])
    eventually(lambda: len(kept(starter)) == 2, "the proxy beside it")
    containers.stop(container)
    eventually(lambda: kept(starter) == [], "the end of both")


def test_a_container_without_a_network_has_none(containers: Containers) -> None:
    containers.create("one", SPEC._replace(policy=compile_policy("none")))
    done = containers.run("one", [PYTHON, "-Ic", ASK])
    assert done.ended.code == 1 and b"name resolution" in done.errors
    assert records(containers) == []
