"""How fast bytes go into and out of a session: one TCP stream each way, in GB/s, as the client at its end counts them.

The server is the same for all, on the host's loopback.
"""

import os
import shutil
import ssl
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmark import nginx
from benchmark.processes import output
from benchmark.rounds import Contender
from benchmark.world import ADDRESS

DIRECT = "loopback, no session"
TCP = "sandboxsh, TCP"
TLS = "sandboxsh, TLS by name"
LINK = "a link between namespaces, no session"
UNRESTRICTED = "sandboxsh, unrestricted, over that link"
_HOST = "bench.test"
_TCP_PORT = 5001
_ENDPOINT = Path(__file__).with_name("endpoint.py")
_WORLD = Path(__file__).with_name("world.py")


def named(name: str) -> tuple[str, str]:
    """The two series of a contender: from the server into the session, and out of it."""
    return f"{name}: in", f"{name}: out"


def greeting(host: str) -> bytes:
    """The first bytes that a TLS client sends to ``host``: the records of its ClientHello."""
    outgoing = ssl.MemoryBIO()
    client = ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=host)
    try:
        client.do_handshake()
    except ssl.SSLWantReadError:
        return outgoing.read()
    raise AssertionError("a handshake can't end without an answer")


def read_speeds(text: str) -> tuple[float, float]:
    """GB/s down and up from the lines ``down BYTES SECONDS`` and ``up BYTES SECONDS``."""
    found = {name: int(count) / float(took) / 1e9 for name, count, took in map(str.split, text.splitlines())}
    return found["down"], found["up"]


@contextmanager
def contenders(
    sandboxsh: Sequence[str], environment: Mapping[str, str], seconds: float
) -> Iterator[list[Contender]]:
    """``seconds``: how long each stream flows."""
    with (
        tempfile.TemporaryDirectory(prefix="sandboxsh-bench-") as place,
        listening(_ENDPOINT, environment) as port,
        nginx.relay({_HOST: port}, environment) as relayed,
        _beside(sandboxsh, seconds, environment) as unrestricted,
    ):
        hello = f"{place}/greeting"
        Path(hello).write_bytes(greeting(_HOST))
        yield [
            _direct(port, seconds, environment),
            *_sessions(sandboxsh, port, seconds, environment, hello),
            _nginx(relayed, seconds, environment, hello),
            *_pasta(port, seconds, environment),
            *unrestricted,
        ]


@contextmanager
def listening(script: Path, environment: Mapping[str, str]) -> Iterator[int]:
    """The port of a server: what ``script`` is when it is told to serve."""
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", str(script), "serve"],
        env=dict(environment),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with process:
        assert process.stdout and process.stdin
        try:
            yield int(process.stdout.readline())
        finally:
            process.stdin.close()


@contextmanager
def _beside(
    sandboxsh: Sequence[str], seconds: float, environment: Mapping[str, str]
) -> Iterator[list[Contender]]:
    """Unrestricted sessions reach neither loopback nor the machine: a machine of namespaces, with a world beside it."""

    def skipped(why: str) -> list[Contender]:
        return [Contender(named(name), None, why) for name in (LINK, UNRESTRICTED)]

    for program in ("ip", "nsenter"):
        if not shutil.which(program):
            yield skipped(f"{program} is not installed")
            return
    if not interpreter().startswith(("/usr/", "/opt/")):
        yield skipped(f"sessions don't see {interpreter()}")
        return
    process = subprocess.Popen(
        ["unshare", "--user", "--map-root-user", "--net", interpreter(), "-I", "-S", _WORLD, _ENDPOINT],
        env=dict(environment),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    with process:
        assert process.stdout and process.stdin
        port = process.stdout.readline().strip()
        if not port:
            yield skipped("this kernel makes no such namespaces")
            return
        there = ("nsenter", "--preserve-credentials", "--user", "--net", "--target", str(process.pid))
        client = _client(interpreter(), str(_ENDPOINT), ADDRESS, int(port), seconds)
        inside = (
            *(*sandboxsh, "--net", "unrestricted", "--file", f"{_ENDPOINT}:/bench/endpoint.py", "--"),
            *_client(interpreter(), "/bench/endpoint.py", ADDRESS, int(port), seconds),
        )
        try:
            yield [
                _contender(LINK, (*there, *client), environment),
                _contender(UNRESTRICTED, (*there, *inside), environment),
            ]
        finally:
            process.stdin.close()


def _contender(
    name: str, argv: Sequence[str], environment: Mapping[str, str], *, ours: bool = False
) -> Contender:
    run: Callable[[], tuple[float, float]] = lambda: read_speeds(output(argv, environment, 30))  # noqa: E731
    return Contender(named(name), run, ours=ours)


def _client(interpreter: str, script: str, host: str, port: int, seconds: float) -> tuple[str, ...]:
    return (interpreter, "-I", "-S", script, host, str(port), str(seconds))


def interpreter() -> str:
    """The Python that clients run with."""
    return os.path.realpath(sys.executable)


def _direct(port: int, seconds: float, environment: Mapping[str, str]) -> Contender:
    client = _client(interpreter(), str(_ENDPOINT), "127.0.0.1", port, seconds)
    return _contender(DIRECT, client, environment, ours=True)


def _nginx(relayed: int | str, seconds: float, environment: Mapping[str, str], hello: str) -> Contender:
    if isinstance(relayed, str):
        return Contender(named(nginx.NAME), None, relayed)
    client = (*_client(interpreter(), str(_ENDPOINT), "127.0.0.1", relayed, seconds), hello)
    return _contender(nginx.NAME, client, environment)


def _sessions(
    sandboxsh: Sequence[str], port: int, seconds: float, environment: Mapping[str, str], hello: str
) -> list[Contender]:
    inside = interpreter()
    if not inside.startswith(("/usr/", "/opt/")):
        why = f"sessions don't see {inside}"
        return [Contender(named(name), None, why, ours=True) for name in (TCP, TLS)]

    def session(target: int, allowed: str, *more: str) -> tuple[str, ...]:
        return (
            *sandboxsh,
            *("--allow", allowed),
            *("--connect-to", f"{_HOST}:{target}=127.0.0.1:{port}"),
            *("--file", f"{_ENDPOINT}:/bench/endpoint.py", "--file", f"{hello}:/bench/greeting"),
            "--",
            *_client(inside, "/bench/endpoint.py", _HOST, target, seconds),
            *more,
        )

    return [
        _contender(TCP, session(_TCP_PORT, f"{_HOST}:{_TCP_PORT}"), environment, ours=True),
        _contender(TLS, session(443, _HOST, "/bench/greeting"), environment, ours=True),
    ]


def _pasta(port: int, seconds: float, environment: Mapping[str, str]) -> list[Contender]:
    """Spliced: the namespace's own loopback is passed on. By its tap: the way that other addresses take."""
    names = ("pasta, spliced", "pasta, tap")
    if not shutil.which("pasta"):
        return [Contender(named(name), None, "not installed") for name in names]
    # As root, pasta becomes nobody unless told otherwise, and nobody may not map ids.
    pasta = ("pasta", "--config-net", *(() if os.geteuid() else ("--runas", "0")))
    spliced = (*pasta, "-T", str(port), "--")
    by_tap = (*pasta, "-t", "none", "-T", "none", "--")
    # pasta gives the host's loopback the gateway's address.
    to_gateway = (
        "sh",
        "-c",
        'gateway=$(ip route show default | sed -n "s/.*via \\([^ ]*\\).*/\\1/p" | head -n 1);'
        ' [ -n "$gateway" ] || { echo "no default gateway to go through" >&2; exit 1; };'
        ' exec "$1" -I -S "$2" "$gateway" "$3" "$4"',
        "sh",
        *(interpreter(), str(_ENDPOINT), str(port), str(seconds)),
    )
    return [
        _contender(
            names[0],
            (*spliced, *_client(interpreter(), str(_ENDPOINT), "127.0.0.1", port, seconds)),
            environment,
        ),
        _contender(names[1], (*by_tap, *to_gateway), environment),
    ]
