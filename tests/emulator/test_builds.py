"""Builds in the background: real ones, of what needs no network. Those of packages are in tests/integration.

An environment that lets the package managers' servers in needs to know them, which takes asking the machine's own
package managers in a session; one with packages on a base that holds nothing fails at its first step.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import anthropic
import httpx
import psutil
import pytest

from pkgcache import buildlog
from pkgcache.phases import Event
from sandbox import idmap, images
from sandbox.emulator.embedded import Emulator
from sandbox.managed import builds, environments
from sandbox.managed.environments import Changes, NewEnvironment
from sandbox.managed.failures import Refused
from sandbox.managed.service import Service, open_service
from tests.pkgcache.scripted import add_base
from tests.sessions.running import SANDBOXCTL

PATIENCE_S = 60.0
NEEDS_A_LOOK: Any = {"type": "cloud", "networking": {"type": "limited", "allow_package_managers": True}}
FAILS: Any = {"type": "cloud", "packages": {"pip": ["six"]}}


@pytest.fixture
def service(empty_data_dir: Path) -> Iterator[Service]:
    opened = open_service(str(empty_data_dir), idmap.choose(idmap.read_host_ids()))
    yield opened
    opened.close()


def made(service: Service, config: Any, name: str = "a") -> dict[str, Any]:
    return environments.create(service.database, NewEnvironment(name, config))


def read_build(url: str, identifier: str) -> dict[str, Any]:
    answer = httpx.get(f"{url}/sandbox/environments/{identifier}/build", headers={"x-api-key": "k"})
    found: dict[str, Any] = answer.json()
    return found


def until(read: Callable[[], dict[str, Any]], *states: str) -> dict[str, Any]:
    deadline = time.monotonic() + PATIENCE_S
    while (found := read())["state"] not in states:
        assert time.monotonic() < deadline, found
        time.sleep(0.02)
    return found


def test_a_build_begins_at_create_and_is_told(emulator: Emulator, client: anthropic.Anthropic) -> None:
    environment = client.beta.environments.create(name="a", config=NEEDS_A_LOOK)
    assert read_build(emulator.base_url, environment.id)["state"] in ("queued", "building")
    found = until(lambda: read_build(emulator.base_url, environment.id), "ready", "failed")
    assert found["state"] == "ready", found
    assert found["manager"] == "base"
    assert found["lines"] and found["finished_at"] > found["started_at"]
    assert found["lines"][0] in Path(found["log"]).read_text()
    url = f"{emulator.base_url}/sandbox/environments/{environment.id}/build"
    assert httpx.post(url, headers={"x-api-key": "k"}).json()["state"] == "ready"


def test_what_is_ready_has_an_end_though_its_record_has_none_yet(service: Service) -> None:
    environment = made(service, NEEDS_A_LOOK)
    assert service.builder.image(environment).endpoints
    place, need = builds.Place(service.data, service.ids, service.folder), builds.need_of(environment)
    assert need is not None
    recorder = builds.Recorder(service.database, place, environment["id"], need)
    assert recorder.claim("building")
    found = service.builder.state(environment)
    assert (found["state"], found["finished_at"] > found["started_at"]) == ("ready", True)


def test_what_needs_nothing_is_ready(emulator: Emulator, client: anthropic.Anthropic) -> None:
    for name, config in (("plain", {"type": "cloud"}), ("own", {"type": "self_hosted"})):
        environment = client.beta.environments.create(name=name, extra_body={"config": config})
        assert read_build(emulator.base_url, environment.id)["state"] == "ready"


def test_all_who_wait_share_one_build(service: Service) -> None:
    environment = made(service, NEEDS_A_LOOK)
    assert service.builder.state(environment)["state"] == "not_built"
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: service.builder.image(environment), range(4)))
    assert all(image == found[0] for image in found)
    assert found[0].endpoints
    state = service.builder.state(environment)
    assert state["state"] == "ready"
    assert Path(state["log"]).read_text().count("== probe") == 1
    shutil.rmtree(f"{images.store(service.data, service.ids).path}/memo")
    assert service.builder.state(environment)["state"] == "not_built"


def test_a_failed_build_tells_the_manager_and_the_next_need_builds_again(service: Service) -> None:
    add_base(images.store(service.data, service.ids))
    environment = made(service, FAILS)
    for _ in range(2):
        with pytest.raises(builds.BuildFailed) as caught:
            service.builder.image(environment)
        assert caught.value.details["error_code"] == "environment_build_failed"
        assert caught.value.details["manager"] == "pip"
        assert "The environment a could not be built" in str(caught.value)
        state = service.builder.state(environment)
        assert state["state"] == "failed"
        assert state["problem"]["manager"] == "pip"
        assert str(caught.value).endswith(state["problem"]["message"])
    fixed = environments.update(
        service.database,
        environment["id"],
        Changes(config={"type": "cloud", "packages": {"pip": []}}),
    )
    assert service.builder.state(fixed)["state"] == "ready"
    assert service.builder.image(fixed).layers == ()


def test_a_build_whose_process_is_killed_fails_for_those_who_wait_and_is_done_again(service: Service) -> None:
    environment = made(service, NEEDS_A_LOOK)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(service.builder.image, environment)
        until(lambda: service.builder.state(environment), "building")
        row = service.database.get("environment_builds", environment["id"])
        assert row is not None and row["process"][0] != os.getpid()
        os.kill(row["process"][0], signal.SIGKILL)
        with pytest.raises(builds.BuildFailed, match="ended with -9"):
            waiting.result(PATIENCE_S)
    assert service.builder.state(environment)["state"] == "failed"
    assert service.builder.image(environment).endpoints


def test_who_waits_may_give_up_and_the_build_goes_on(service: Service) -> None:
    environment = made(service, NEEDS_A_LOOK)
    with pytest.raises(Refused, match="goes on") as caught:
        service.builder.image(environment, timeout_s=0.01)
    assert caught.value.status == 504
    nobody = threading.Event()
    nobody.set()
    with pytest.raises(Refused, match="Nobody waits"):
        service.builder.image(environment, cancelled=nobody)
    assert service.builder.image(environment).endpoints


def test_the_end_of_the_server_and_of_the_environment_end_a_build(service: Service) -> None:
    first, second = made(service, NEEDS_A_LOOK, "a"), made(service, NEEDS_A_LOOK, "b")
    for environment in (first, second):
        service.builder.begin(environment)
        until(lambda environment=environment: service.builder.state(environment), "building")  # type: ignore[misc]
    below = psutil.Process().children(recursive=True)
    assert below
    service.builder.cancel(first["id"])
    assert until(lambda: service.builder.state(first), "interrupted", "ready")["state"] == "interrupted"
    service.builder.close()
    assert service.builder.state(second)["state"] == "interrupted"
    _, alive = psutil.wait_procs(below, timeout=PATIENCE_S)
    assert alive == []
    again = open_service(service.data, service.ids)
    try:
        assert again.builder.image(first).endpoints
    finally:
        again.close()


def test_a_killed_server_leaves_no_build_and_the_state_says_so(empty_data_dir: Path) -> None:
    server = subprocess.Popen(
        [SANDBOXCTL, "--data", str(empty_data_dir), "serve", "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert server.stdout is not None
        url = server.stdout.readline().strip().partition("=")[2]
        with anthropic.Anthropic(base_url=url, api_key="k") as client:
            made = client.beta.environments.create(name="a", config=NEEDS_A_LOOK)
        until(lambda: read_build(url, made.id), "building")
        below = psutil.Process(server.pid).children(recursive=True)
        assert below
    finally:
        server.kill()
        server.communicate()
    _, alive = psutil.wait_procs(below, timeout=PATIENCE_S)
    assert alive == []
    service = open_service(str(empty_data_dir), idmap.choose(idmap.read_host_ids()))
    try:
        environment = environments.find(service.database, "a")
        assert service.builder.state(environment)["state"] == "interrupted"
        assert service.builder.image(environment).endpoints
        assert service.builder.state(environment)["state"] == "ready"
    finally:
        service.close()
    assert not list(empty_data_dir.glob("sessions/*/*")), os.listdir(empty_data_dir)


def test_the_log_of_an_environment_begins_anew_and_does_not_grow_for_ever(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(buildlog, "_HEAD", 1000)
    monkeypatch.setattr(buildlog, "_END", 1000)
    environment = made(service, NEEDS_A_LOOK)
    place, need = builds.Place(service.data, service.ids, service.folder), builds.need_of(environment)
    assert need is not None
    for turn in range(2):
        recorder = builds.Recorder(service.database, place, environment["id"], need)
        assert recorder.claim("building")
        for number in range(500):
            recorder.show(Event("pip", "install", f"turn {turn} line {number}", 0.0))
        recorder.done()
        log = Path(place.log(environment["id"])).read_text()
        assert len(log) < 4000
        assert f"turn {turn} line 0\n" in log and log.endswith(f"turn {turn} line 499\n")
        assert "are left out here" in log
    assert "turn 0" not in log
