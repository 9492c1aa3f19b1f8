"""The emulator over HTTP: what a client waits for, how much it does at once, what an idle session weighs."""

import http.client
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import psutil

from benchmark.rounds import Contender, Failed

CREATE = "create a session, ms"
EXEC = "exec true in a running session, ms"
GET = "get a session, ms"
LIST = "list 100 sessions, ms"
RATE = "sessions created and deleted, per s"
IDLE = "an idle session, MB"
_HEADERS = {
    "x-api-key": "bench",
    "anthropic-beta": "managed-agents-2026-04-01",
    "content-type": "application/json",
}
_AT_ONCE = 8


class _Client:
    """One connection that stays open."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    def ask(self, method: str, path: str, body: object = None) -> Any:
        """The answer's JSON. Raises Failed for any status but 200."""
        text = None if body is None else json.dumps(body)
        self._connection.request(method, path, text, _HEADERS)
        answer = self._connection.getresponse()
        content = answer.read()
        if answer.status != 200:
            raise Failed(f"{method} {path}: {answer.status} {content.decode(errors='replace')[:200]}")
        return json.loads(content)


def _timed(work: Callable[[], object]) -> float:
    begun = perf_counter()
    work()
    return (perf_counter() - begun) * 1000


@contextmanager
def contenders(environment: Mapping[str, str], repeated: int) -> Iterator[list[Contender]]:
    """``repeated``: how often each request is made in a round."""
    command = str(Path(sys.executable).with_name("sandboxctl"))
    with tempfile.TemporaryDirectory(prefix="sandboxsh-bench-", dir="/var/tmp") as data:
        # The ids of root's sessions have to pass through.
        Path(data).chmod(0o711)
        with subprocess.Popen(
            [command, "--data", data, "serve", "--port", "0"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=dict(environment),
            text=True,
        ) as server:
            assert server.stdout
            line = server.stdout.readline().strip()
            try:
                if not line:
                    raise Failed("sandboxctl serve did not start")
                port = int(line.rpartition(":")[2])
                yield _contenders(server.pid, port, repeated)
            finally:
                server.terminate()
                server.wait(30)


def _contenders(server: int, port: int, repeated: int) -> list[Contender]:
    client = _Client(port)
    agent = client.ask("POST", "/v1/agents", {"name": "bench", "model": "none"})["id"]
    environment = client.ask(
        "POST",
        "/v1/environments",
        {"name": "bench", "config": {"type": "cloud", "networking": {"type": "limited"}}},
    )["id"]
    body = {"agent": agent, "environment_id": environment}

    def create(by: _Client = client) -> str:
        made: str = by.ask("POST", "/v1/sessions", body)["id"]
        return made

    def run() -> tuple[float, ...]:
        made: list[str] = []
        created = median(_timed(lambda: made.append(create())) for _ in range(repeated))
        first = f"/sandbox/sessions/{made[0]}/exec"
        client.ask("POST", first, {"command": ["true"]})
        executed = median(
            _timed(lambda: client.ask("POST", first, {"command": ["true"]})) for _ in range(repeated)
        )
        got = median(_timed(lambda: client.ask("GET", f"/v1/sessions/{made[0]}")) for _ in range(repeated))
        made += [create() for _ in range(100 - len(made))]
        listed = median(_timed(lambda: client.ask("GET", "/v1/sessions?limit=100")) for _ in range(repeated))
        for one in made:
            client.ask("DELETE", f"/v1/sessions/{one}")
        return created, executed, got, listed, _rate(port, create, repeated)

    def weigh() -> tuple[float, ...]:
        """What each of some sessions adds, beside one that there is already."""
        made = [create() for _ in range(11)]
        before = 0.0
        for one in made:
            client.ask("POST", f"/sandbox/sessions/{one}/exec", {"command": ["true"]})
            before = before or _weight(server)
        idle = (_weight(server) - before) / (len(made) - 1) / 1e6
        for one in made:
            client.ask("DELETE", f"/v1/sessions/{one}")
        return (idle,)

    return [
        Contender((CREATE, EXEC, GET, LIST, RATE), run, ours=True),
        Contender((IDLE,), weigh, ours=True)
        if os.geteuid() == 0
        else Contender((IDLE,), None, "what runs in sessions lets only root look"),
    ]


def _rate(port: int, create: Callable[[_Client], str], repeated: int) -> float:
    """Sessions a second, each created and deleted again, several clients at once."""

    def work(_: int) -> None:
        client = _Client(port)
        for _ in range(repeated):
            client.ask("DELETE", f"/v1/sessions/{create(client)}")

    begun = perf_counter()
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        list(pool.map(work, range(_AT_ONCE)))
    return _AT_ONCE * repeated / (perf_counter() - begun)


def _weight(server: int) -> float:
    """Bytes of all of the server's processes; what several share counts once."""
    processes = [psutil.Process(server), *psutil.Process(server).children(recursive=True)]
    return float(sum(process.memory_full_info().pss for process in processes))
