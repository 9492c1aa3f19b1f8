"""Class: what lasts is attacked by what runs in it (docs/threats/containers.md)."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
from base64 import b64encode
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from netpolicy.credentials import repository
from sandbox.containers.containers import Containers
from sandbox.containers.execution import Given, pipe
from sandbox.containers.spec import Repository, Size
from sandbox.containers.starting import Starter
from sandbox.errors import SetupError
from sandbox.removal import as_owner
from tests.capabilities import need
from tests.containers.conftest import SPEC
from tests.containers.test_network import ASK
from tests.sessions.running import PYTHON, Sandbox, children, eventually, mark, marked

# What a process can find out about its own walls, and what it can do about them.
WALLS = r"""
import ctypes, json, os, socket, sys
libc = ctypes.CDLL(None, use_errno=True)
def call(*arguments):
    return 'done' if libc.syscall(*arguments) >= 0 else ctypes.get_errno()
with open('/proc/self/status') as file:
    status = dict(line.rstrip('\n').partition(':')[0::2] for line in file)
found = {name: status[name].strip() for name in status if name.startswith(('Cap', 'Seccomp', 'NoNew', 'Groups', 'Uid'))}
for namespace in ('user', 'mnt', 'net', 'pid', 'ipc', 'uts', 'cgroup'):
    found[namespace] = os.stat(f'/proc/self/ns/{namespace}').st_ino
x86 = os.uname().machine == 'x86_64'
found['new user namespace'] = call(272 if x86 else 97, 0x10000000)
found['new network'] = call(272 if x86 else 97, 0x40000000)
pidfd = os.pidfd_open(1)
found['into process 1'] = [call(438, pidfd, fd, 0) for fd in range(3, 10)]
found['namespaces of process 1'] = call(308 if x86 else 268, pidfd, 0x40000000)
found['trace process 1'] = call(101 if x86 else 117, 0x4206, 1, 0, 0)
def looks(name):
    path = f'/proc/1/{name}'
    try:
        if name in ('cwd', 'root', 'exe'): os.readlink(path)
        elif os.path.isdir(path): os.listdir(path)
        else: open(path, 'rb').read(1)
    except OSError: return False
    return True
hidden = ('cwd', 'environ', 'exe', 'fd', 'fdinfo', 'map_files', 'maps', 'mem', 'pagemap', 'root', 'stack', 'syscall')
found['files of process 1'] = [name for name in hidden if looks(name)]
found['names of process 1'] = looks('status')
def opens(*kind):
    try: return socket.socket(*kind).close() is None
    except OSError as error: return error.errno
found['sockets'] = [opens(family, kind) for family in (1, 2, 16, 17, 38, 40) for kind in (1, 3)]
found['interfaces'] = [name for _, name in socket.if_nameindex()]
# The other end is hidden from this process.
found['unix sockets'] = [line.split()[7:] for line in open('/proc/net/unix')][1:]
found['limit of core dumps'] = __import__('resource').getrlimit(4)
with open('/proc/self/mountinfo') as file:
    found['mounts'] = sorted({(line.split()[4], line.split()[5].split(',')[0]) for line in file})
print(json.dumps(found))
"""
# The same for every process of one session, and others for every session.
OWN = ("user", "mnt", "net", "pid", "ipc", "uts", "cgroup")


def walls(containers: Containers, id_: str) -> dict[str, Any]:
    done = containers.run(id_, [PYTHON, "-Ic", WALLS])
    assert (done.ended.code, done.errors) == (0, b""), done
    found: dict[str, Any] = json.loads(done.output)
    return found


def on_a_terminal(containers: Containers, id_: str, script: str) -> str:
    text = b""
    with containers.exec(id_, [PYTHON, "-Ic", script], terminal=Size(24, 4000)) as command:
        while command.poll() is None:
            select.select([command, command.terminal], [], [], 15)
            text += _waiting(command.terminal)
        # What it said last is there when it has ended.
        while piece := _waiting(command.terminal):
            text += piece
    return text.decode()


def _waiting(terminal: int) -> bytes:
    """What can be read of a terminal now."""
    with suppress(OSError):
        return os.read(terminal, 65536)
    return b""


def test_commands_of_a_container_are_behind_the_walls_of_a_session(
    containers: Containers, container: str, sandbox: Sandbox
) -> None:
    """Also on a terminal, and when it was started anew: only the numbers of its own namespaces are others."""
    mode = containers.ids.mode
    alone = json.loads(sandbox.python(WALLS, "--ids", mode))
    first = walls(containers, container)
    terminal = json.loads(on_a_terminal(containers, container, WALLS))
    assert terminal == first
    containers.stop(container)
    again = walls(containers, container)
    for name in OWN:
        numbers = {alone.pop(name), first.pop(name), again.pop(name)}
        assert os.stat(f"/proc/self/ns/{name}").st_ino not in numbers
    assert again == first
    own = sorted(
        {tuple(each) for each in first.pop("mounts")} ^ {tuple(each) for each in alone.pop("mounts")}
    )
    assert own == [("/mnt/session/.attached", "ro")], "the window, which is covered"
    assert first == alone
    assert first["files of process 1"] == [] and first["names of process 1"]
    tried = [first[name] for name in ("new network", "namespaces of process 1", "trace process 1")]
    assert "done" not in (*first["into process 1"], *tried)


DESCRIPTORS = r"""
import os
for name in sorted(os.listdir('/proc/self/fd'), key=int):
    try: print(name, os.readlink(f'/proc/self/fd/{name}').split(':')[0])
    except OSError: pass
"""


def test_a_command_has_no_descriptor_but_what_it_was_given(containers: Containers, container: str) -> None:
    with (
        containers.exec(container, ["sleep", "1000"]),
        containers.exec(container, ["cat"], terminal=Size(9, 9)),
    ):
        done = containers.run(container, [PYTHON, "-Ic", DESCRIPTORS], given=b"x")
        assert done.output.decode().splitlines() == ["0 pipe", "1 pipe", "2 pipe"], done
        said = on_a_terminal(containers, container, DESCRIPTORS).split()
        assert said[0::2] == ["0", "1", "2"] and set(said[1::2]) == {"/dev/pts/1"}, said


# The parent of what is traced is not told of its end before whoever traces it.
TRACED = """
import ctypes, os, sys, time
libc = ctypes.CDLL(None, use_errno=True)
seize = 101 if os.uname().machine == 'x86_64' else 117
command = os.getpid()
read, write = os.pipe()
if os.fork() == 0:
    os.setsid()
    os.write(write, b'traced' if libc.syscall(seize, 0x4206, command, 0, 0) == 0 else b'not traced')
    time.sleep({seconds})
os.write(1, os.read(read, 100))
time.sleep({seconds})
"""


def test_a_command_that_is_traced_does_not_escape_its_time_limit(
    containers: Containers, container: str
) -> None:
    number = mark()
    done = containers.run(container, [PYTHON, "-Ic", TRACED.format(seconds=number), number], timeout_s=3)
    assert (done.timed_out, done.ended.signal, done.output) == (True, 9, b"traced"), done
    assert containers.run(container, ["echo", "works"]).output == b"works\n"
    assert marked(number)
    containers.stop(container)
    eventually(lambda: not marked(number), "the end of whoever traced it")


def test_nor_is_whoever_waits_for_it_by_other_means(containers: Containers, container: str) -> None:
    number = mark()
    line = [PYTHON, "-Ic", TRACED.format(seconds=number), number]
    read, write = pipe()
    with open(read, "rb") as out, open(write, "wb") as end:
        with containers.exec(container, line, given=Given(stdout=write)) as command:
            end.close()
            assert out.read(6) == b"traced"
            command.kill()
            assert command.poll() is None
            eventually(command.poll, "its end")
            assert command.ended is not None and command.ended.signal == 9
        containers.stop(container)
    eventually(lambda: not marked(number), "the end of whoever traced it")


FLOOD = """
import fcntl, os
fcntl.fcntl(1, 1031, 1 << 20)  # F_SETPIPE_SZ
os.write(1, bytes(1 << 20))
os.mkdir('/root/begun')
for _ in range(3): os.fork()
while True: os.write(1, bytes(1 << 20))
"""


def test_what_goes_on_writing_keeps_nobody_who_waited_for_the_command(
    containers: Containers, container: str
) -> None:
    for _ in range(3):
        wait = "until rmdir /root/begun; do sleep 0.01; done 2>/dev/null"
        line = ["sh", "-c", f'{PYTHON} -Ic "$0" & {wait}; echo last >&2', FLOOD]
        done = containers.run(container, line, timeout_s=60, limit=1000)
        assert (done.ended.code, done.errors, len(done.output), done.timed_out) == (0, b"last\n", 1000, False)
    containers.stop(container)


SERVES = """
import os, socket, time
os.open('/tmp/secret', os.O_CREAT | os.O_WRONLY)
tcp = socket.create_server(('127.0.0.1', 7007))
abstract = socket.socket(socket.AF_UNIX); abstract.bind('\\0meet'); abstract.listen()
print('ready', flush=True)
time.sleep({seconds})
"""
VISITS = """
import os, socket, sys
def tried(work, *arguments):
    try: return work(*arguments) is None or True
    except OSError as error: return type(error).__name__
print(tried(socket.create_connection, ('127.0.0.1', 7007)), tried(socket.create_connection, ('127.0.0.1', {port})),
      tried(socket.socket(socket.AF_UNIX).connect, '\\0meet'), tried(os.stat, '/tmp/secret'),
      len([name for name in os.listdir('/proc') if name.isdigit()]))
"""


def test_containers_share_nothing_with_each_other_or_the_host(containers: Containers, container: str) -> None:
    """Nor do they after they were started anew."""
    number = mark()
    containers.create("two", SPEC)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        visits = [PYTHON, "-Ic", VISITS.format(port=listener.getsockname()[1])]
        read, write = pipe()
        with (
            open(read, "rb") as out,
            open(write, "wb") as end,
            containers.exec("two", [PYTHON, "-Ic", SERVES.format(seconds=number)], given=Given(stdout=write)),
        ):
            end.close()
            assert out.readline() == b"ready\n"
            assert containers.run("two", visits).output == b"True ConnectionRefusedError True True 3\n"
            for _ in range(2):
                said = containers.run(container, visits).output.decode()
                refused = "ConnectionRefusedError"
                assert said == f"{refused} {refused} {refused} FileNotFoundError 2\n"
                containers.stop(container)
        with socket.create_connection(listener.getsockname(), timeout=5):
            pass


def test_a_mounted_directory_of_the_hosts_shows_nothing_of_other_sessions(
    containers: Containers, container: str, sandbox: Sandbox
) -> None:
    """A socket can be connected to through a mount that is read-only, and there are those that take commands."""
    containers.start(container)
    data = sandbox.data.resolve()
    there = data / "containers" / containers.ids.name / container
    assert (there / "exec").is_socket() and (there / "keeper").is_socket()
    mounts = ("--mount", f"{data.parent}:/around", "--mount", f"{data}:/itself")
    script = f"ls -A /around | grep -cx '{data.name}'; ls -A '/around/{data.name}' /itself"
    said = sandbox.sh(script, "--ids", containers.ids.mode, *mounts)
    assert said == f"1\n/around/{data.name}:\n\n/itself:\n"
    done = sandbox.run("--workspace", str(data.parent), "--", "true")
    assert (done.code, "data directory" in done.err) == (2, True), done


# renameat2(2), RENAME_EXCHANGE: the name is now a directory and now a link to one of the host's.
SWAP = """
import ctypes, os
libc = ctypes.CDLL(None)
os.chdir({folder!r})
os.mkdir('swapped'); os.mkdir('swapped/own'); os.symlink({secret!r}, 'link'); open('swapped/plain', 'w')
print('ready', flush=True)
exchange = 316 if os.uname().machine == 'x86_64' else 276
while libc.syscall(exchange, -100, b'swapped', -100, b'link', 2) == 0: pass
"""


def test_the_host_is_not_led_astray_while_it_looks_at_what_a_container_left(
    containers: Containers, container: str, data_dir: Path
) -> None:
    secret = data_dir / "astray"
    (secret / "own").mkdir(parents=True, exist_ok=True)
    (secret / "own/canary").write_text("canary")
    seen = {"diff": set[str](), "outputs": set[str]()}
    for folder, places in (("/root", seen["diff"]), ("/mnt/session/outputs", seen["outputs"])):
        script = SWAP.format(folder=folder, secret=str(secret))
        read, write = pipe()
        with (
            open(read, "rb") as out,
            open(write, "wb") as end,
            containers.exec(container, [PYTHON, "-Ic", script], given=Given(stdout=write)),
        ):
            end.close()
            assert out.readline() == b"ready\n"
            for _ in range(60):
                if folder == "/root":
                    places.update(each.path.removeprefix("/root/") for each in containers.diff(container))
                else:
                    places.update(each.path for each in containers.outputs(container))
                    with suppress(FileNotFoundError):
                        os.close(containers.open_output(container, "swapped/own/canary"))
                        places.add("opened")
                assert containers.stats(container).disk < 100_000
    assert "swapped/plain" in seen["diff"] and "swapped/plain" in seen["outputs"]
    found = {path for paths in seen.values() for path in paths if "canary" in path or path == "opened"}
    assert not found


def in_memory(pid: int, text: bytes) -> bool:
    """Whether ``text`` is in what the process ``pid`` may write of its memory."""
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for line in maps:
            extent, rights, *_ = line.split()
            if rights.startswith("rw"):
                start, end = (int(each, 16) for each in extent.split("-"))
                memory.seek(start)
                with suppress(OSError):
                    if text in memory.read(end - start):
                        return True
    return False


def test_a_token_is_in_the_memory_of_its_container_s_proxy_alone(
    containers: Containers, container: str, starter: Starter
) -> None:
    """One process keeps all containers, and what it forks begins as its copy."""
    need("root")
    tokens = [f"song-{mark()}" for _ in range(2)]
    attached = [[repository("https://code.example/me/ours", token)] for token in tokens]
    secrets = [*map(str.encode, tokens), *(b64encode(f"x-access-token:{each}".encode()) for each in tokens)]
    keyed = containers.with_credentials(attached[0])
    keyed.start(container)
    zygote, *before = children(starter.pid)
    # A command that hangs up lets the proxy go on.
    containers.run(container, [PYTHON, "-Ic", ASK], timeout_s=20)
    (proxy,) = set(children(starter.pid)) - {zygote, *before}
    assert in_memory(proxy, secrets[2])
    keyed.set_credentials(container, attached[1])
    assert in_memory(proxy, secrets[3])
    # What comes later: another container with its proxy, and one cloned from what was forked anew.
    for id_ in ("two", "three"):
        containers.create(id_, SPEC)
        containers.run(id_, [PYTHON, "-Ic", ASK], timeout_s=20)
        if id_ == "two":
            os.kill(zygote, signal.SIGKILL)
            eventually(lambda: zygote not in children(starter.pid), "the zygote's end")
    running = [containers.exec(id_, ["sleep", "1000"]) for id_ in (container, "two", "three")]
    alive = [starter.pid, *children(starter.pid)]
    alive += [pid for each in alive[1:] for pid in children(each)]
    assert len(alive) == 1 + 1 + 3 * 3
    assert [pid for pid in alive if any(in_memory(pid, secret) for secret in secrets)] == [proxy]
    for command in running:
        command.close()


RIGHTS = "grep -E '^(Cap|NoNewPrivs|Seccomp)' /proc/self/status; test -e /proc/sys/planted || echo genuine"


@pytest.mark.parametrize("place", ["/proc/sys", "/proc", "/", "/dev", "/dev/pts", "/proc/self/.."])
def test_what_a_container_left_leads_no_mount_over_what_process_1_relies_on(
    containers: Containers, place: str
) -> None:
    """A repository's directory is the container's to fill, and the one above it its to exchange for a link."""
    containers.create("one", SPEC._replace(repositories=(Repository("mine", "/srv/deep/mine"),)))
    before = containers.run("one", ["sh", "-c", RIGHTS]).output
    assert b"genuine" in before
    plant = (
        "cd /srv/deep/mine; mkdir -p kernel sys/kernel proc/sys/kernel; touch planted;"
        "for each in kernel sys/kernel proc/sys/kernel; do echo 0 >$each/cap_last_cap; done;"
        'mv /srv/deep /srv/old; mkdir -p /srv/deep; ln -s "$0" /srv/deep/mine'
    )
    for link, starts in ((place, False), ("/srv/else", True)):
        containers.run("one", ["sh", "-c", f"rm -rf /srv/old; mkdir -p /srv/else; {plant}", link])
        containers.stop("one")
        if starts:
            assert containers.run("one", ["sh", "-c", RIGHTS]).output == before
        else:
            with pytest.raises(SetupError):
                containers.start("one")
            # What stands in its upper directory is undone as its owner would.
            upper = f"{containers.data}/containers/{containers.ids.name}/one/upper/srv"
            as_owner(containers.ids, lambda: _put_back(upper))  # noqa: B023
            assert containers.run("one", ["sh", "-c", RIGHTS]).output == before


def _put_back(upper: str) -> None:
    os.unlink(f"{upper}/deep/mine")
    os.mkdir(f"{upper}/deep/mine")
