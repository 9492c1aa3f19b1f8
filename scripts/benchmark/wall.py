"""What the wall costs beside bytes: new connections, names, and memory for each connection that is held."""

import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import psutil

from benchmark import nginx
from benchmark.processes import output
from benchmark.relay import greeting, interpreter, listening
from benchmark.rounds import Contender, Failed

DIRECT = "loopback, no session"
TLS = "sandboxsh, TLS by name"
NAMES = "sandboxsh, names over UDP"
HELD = "sandboxsh, a held connection"
_HOST = "bench.test"
_KNOCK = Path(__file__).with_name("knock.py")
_HELD = 500


class Groups(NamedTuple):
    """What each is measured in: ``connections`` in ms and per second, ``names`` per second, ``held`` in KB."""

    connections: list[Contender]
    names: list[Contender]
    held: list[Contender]


def named(name: str) -> tuple[str, str]:
    """The two series of a contender: the latency of a new connection, and how many fit in a second."""
    return f"{name}: latency", f"{name}: rate"


def read_words(text: str, *names: str) -> tuple[float, ...]:
    """The numbers after these names, a line each."""
    found = {name: float(value) for name, value in map(str.split, text.splitlines())}
    return tuple(found[name] for name in names)


@contextmanager
def contenders(sandboxsh: Sequence[str], environment: Mapping[str, str], seconds: float) -> Iterator[Groups]:
    """``seconds``: how long each is asked."""
    with (
        tempfile.TemporaryDirectory(prefix="sandboxsh-bench-") as place,
        listening(_KNOCK, environment) as port,
        nginx.relay({_HOST: port}, environment) as relayed,
    ):
        hello = f"{place}/greeting"
        Path(hello).write_bytes(greeting(_HOST))
        inside = (
            *sandboxsh,
            *("--allow", _HOST, "--connect-to", f"{_HOST}=127.0.0.1:{port}"),
            *("--file", f"{_KNOCK}:/bench/knock.py", "--file", f"{hello}:/bench/greeting"),
            *("--", interpreter(), "-I", "-S", "/bench/knock.py"),
        )
        outside = (interpreter(), "-I", "-S", str(_KNOCK))

        def asked(name: str, command: Sequence[str], *, ours: bool = False) -> Contender:
            run: Callable[[], tuple[float, ...]] = lambda: read_words(  # noqa: E731
                output(command, environment, 60), "latency", "rate"
            )
            return Contender(named(name), run, ours=ours)

        def at(host: str, there: int, file: str) -> tuple[str, ...]:
            return ("connect", host, str(there), str(seconds), file)

        connections = [
            asked(DIRECT, (*outside, *at("127.0.0.1", port, hello)), ours=True),
            asked(TLS, (*inside, *at(_HOST, 443, "/bench/greeting")), ours=True),
            Contender(named(nginx.NAME), None, relayed)
            if isinstance(relayed, str)
            else asked(nginx.NAME, (*outside, *at("127.0.0.1", relayed, hello))),
        ]
        names = Contender(
            (NAMES,),
            lambda: read_words(
                output((*inside, "names", _name_server(inside, environment), str(seconds)), environment),
                "rate",
            ),
            ours=True,
        )
        held = Contender((HELD,), lambda: (_held((*inside, "idle", _HOST, "443"), environment),), ours=True)
        yield Groups(connections, [names], [held])


def _name_server(inside: Sequence[str], environment: Mapping[str, str]) -> str:
    command = (*inside[: inside.index("--")], "--", "cat", "/etc/resolv.conf")
    return next(
        line.split()[1] for line in output(command, environment).splitlines() if line.startswith("nameserver")
    )


def _held(command: Sequence[str], environment: Mapping[str, str]) -> float:
    """KB of the proxy's own memory for each connection, above what it has with one."""
    return (_with(_HELD, command, environment) - _with(1, command, environment)) / (_HELD - 1) / 1000


def _with(count: int, command: Sequence[str], environment: Mapping[str, str]) -> float:
    with subprocess.Popen(
        (*command, str(count), "/bench/greeting"),
        env=dict(environment),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout and process.stdin
        if process.stdout.readline() != b"open\n":
            raise Failed("the connections could not be held")
        size = max(
            float(child.memory_info().rss)
            for child in psutil.Process(process.pid).children()
            if child.cmdline()[:1] != ["init"]
        )
        process.stdin.close()
    return size
