"""What a session can see and touch of the machine it runs on: nothing that it was not given."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.capabilities import need
from tests.sessions.running import PYTHON, Sandbox, eventually, mark, marked


@pytest.fixture
def secret() -> Iterator[Path]:
    """A file that everybody on the host may read."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as place:
        os.chmod(place, 0o755)
        path = Path(place, "secret")
        path.write_text("a canary's song")
        path.chmod(0o644)
        yield path


def test_the_machines_programs_are_there(either_sandbox: Sandbox) -> None:
    assert either_sandbox.sh("ls /usr/bin >/dev/null; test -x /bin/sh; echo works") == "works\n"


def test_homes_and_the_places_of_data_are_empty(either_sandbox: Sandbox) -> None:
    script = "for each in /home /root /media /srv /run /var/tmp /var/lib /var/log /var/cache /tmp; do ls -A $each; done"
    assert either_sandbox.sh(script) == ""


def test_the_root_holds_known_names_alone(either_sandbox: Sandbox) -> None:
    linked = {"bin", "lib", "lib32", "lib64", "libx32", "sbin"}
    own = {"dev", "home", "media", "mnt", "proc", "root", "run", "srv", "sys", "tmp", "var", "workspace"}
    found = set(either_sandbox.sh("ls -A /").split())
    assert found <= linked | own | {"etc", "opt", "usr"}
    assert {"usr", "etc", "proc", "dev", "workspace"} <= found


def test_a_file_of_the_host_is_seen_only_when_it_is_mounted(either_sandbox: Sandbox, secret: Path) -> None:
    assert either_sandbox.run("--", "cat", str(secret)).code == 1
    assert either_sandbox.sh("cat /given", "--mount", f"{secret}:/given") == "a canary's song"


@pytest.mark.parametrize(
    "path", ["/etc/shadow", "/etc/gshadow", "/etc/sudoers", "/etc/sudoers.d", "/etc/ssh", "/etc/ssl/private"]
)
def test_password_hashes_keys_and_rules_of_the_host_are_not_there(either_sandbox: Sandbox, path: str) -> None:
    assert (
        either_sandbox.sh(f"if test -e {path} || test -L {path}; then echo there; fi; ls /etc >/dev/null")
        == ""
    )


OPEN_FDS = """
import os
for fd in os.listdir('/proc/self/fd'):
    try: print(fd, os.readlink(f'/proc/self/fd/{fd}'))
    except FileNotFoundError: pass
"""

OTHER_IDS = """
import os
open('/tmp/f', 'w')
os.chown('/tmp/f', 1000, 1000)
print(os.stat('/tmp/f').st_uid)
os.setgroups([7])
os.setresgid(65534, 65534, 65534)
os.setresuid(1000, 1000, 1000)
print(os.getuid(), os.getgid())
try: os.setuid(0)
except PermissionError: print('stays')
else: print('may return')
"""


def test_users_are_the_sessions_own(either_sandbox: Sandbox) -> None:
    out = either_sandbox.sh("id; cut -d: -f1 /etc/passwd; hostname; echo $HOME; pwd")
    assert out == "uid=0(root) gid=0(root) groups=0(root)\nroot\ndaemon\nnobody\nsandbox\n/root\n/workspace\n"


def test_changes_to_the_machines_directories_stay_in_the_session(either_sandbox: Sandbox) -> None:
    name = f"made-by-a-test-{os.getpid()}"
    script = f"for d in /usr /etc /opt /usr/local/bin / /tmp; do echo x > $d/{name}; cat $d/{name}; done"
    assert either_sandbox.sh(script) == "x\n" * 6
    assert not any(
        Path(place, name).exists() for place in ("/usr", "/etc", "/opt", "/usr/local/bin", "/", "/tmp")
    )
    assert Path("/usr/bin/env").exists()


def test_no_other_process_of_the_machine_is_seen(either_sandbox: Sandbox) -> None:
    out = either_sandbox.sh("ls /proc | grep -E '^[0-9]+$' | wc -l; echo /proc/[0-9]*; kill -0 $PPID")
    count, listed = out.splitlines()
    assert int(count) <= 6
    assert listed.startswith("/proc/1 /proc/2")


def test_a_process_of_the_host_can_not_be_signalled(either_sandbox: Sandbox) -> None:
    with subprocess.Popen(["sleep", mark()]) as victim:
        script = (
            f"import os\ntry: os.kill({victim.pid}, 9)\nexcept ProcessLookupError: print('no such process')"
        )
        try:
            if victim.pid > 20:
                assert either_sandbox.python(script) == "no such process\n"
            assert victim.poll() is None
        finally:
            victim.kill()


PROCESS_1 = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
def refused(name, work):
    try:
        work()
    except PermissionError:
        print(name, 'refused')
        return
    except OSError:
        pass  # opened, and nothing to be read at that place
    print(name, 'GIVEN')
pid = %s
for name in ('environ', 'mem', 'maps', 'auxv', 'syscall', 'stack'):
    refused(name, lambda: open(f'/proc/{pid}/{name}', 'rb').read(1))
for name in ('root', 'cwd', 'exe', 'fd/3', 'ns/net', 'ns/user', 'ns/mnt'):
    refused(name, lambda: os.readlink(f'/proc/{pid}/{name}'))
refused('fd', lambda: os.listdir(f'/proc/{pid}/fd'))
def attach():
    if libc.ptrace(16, pid, 0, 0) < 0:
        raise OSError(ctypes.get_errno(), 'ptrace')
    libc.ptrace(17, pid, 0, 0)
refused('ptrace', attach)
def getfd():
    pidfd = os.pidfd_open(pid)
    if libc.syscall(438, pidfd, 0, 0) < 0:
        raise OSError(ctypes.get_errno(), 'pidfd_getfd')
refused('pidfd_getfd', getfd)
"""


def test_process_1_can_not_be_looked_into(either_sandbox: Sandbox) -> None:
    verdicts = either_sandbox.python(PROCESS_1 % "1").splitlines()
    assert len(verdicts) == 16
    assert [line for line in verdicts if not line.endswith(" refused")] == []


def test_a_process_of_the_session_can_be_looked_into(either_sandbox: Sandbox) -> None:
    script = "import subprocess\nchild = subprocess.Popen(['sleep', '1000'])\n" + PROCESS_1 % "child.pid"
    verdicts = either_sandbox.python(script + "\nchild.kill()").splitlines()
    assert {"environ GIVEN", "root GIVEN", "fd GIVEN", "maps GIVEN"} <= set(verdicts)


def test_the_command_holds_its_standard_streams_and_nothing_else(either_sandbox: Sandbox) -> None:
    found = dict(line.split(" ", 1) for line in either_sandbox.python(OPEN_FDS).splitlines())
    assert found.pop("0") == "/dev/null"
    assert found.pop("1").startswith("pipe:")
    assert found.pop("2").startswith("pipe:")
    assert found == {}


def test_descriptors_of_the_caller_are_not_passed_on(either_sandbox: Sandbox, secret: Path) -> None:
    with open(secret) as held, socket.socket() as other:
        os.set_inheritable(other.fileno(), True)
        fds = (held.fileno(), other.fileno())
        line = either_sandbox.line("--", "sh", "-c", "ls /proc/self/fd | sort -n | tr '\\n' ' '")
        done = subprocess.run(line, pass_fds=fds, capture_output=True, stdin=subprocess.DEVNULL, text=True)
    assert (done.returncode, done.stdout) == (0, "0 1 2 3 ")


def test_the_callers_variables_are_not_passed_on(either_sandbox: Sandbox) -> None:
    env = {"CANARY_SECRET": "song", "LD_PRELOAD": "", "PYTHONPATH": "/nowhere", "AWS_PROFILE": "song"}
    names = {line.partition("=")[0] for line in either_sandbox.sh("env", env=env).splitlines()}
    assert names.isdisjoint({*env, "SANDBOXSH_DATA", "SSH_AUTH_SOCK", "VIRTUAL_ENV", "MAIL"})
    assert {"PATH", "HOME", "USER", "SHELL", "LANG"} <= names
    known = re.compile(
        r"[A-Z_]*(CA_|CERT|CAINFO)[A-Z_]*|PIP_[A-Z_]+|PATH|HOME|USER|LOGNAME|SHELL|LANG|PWD|OLDPWD|SHLVL|_"
    )
    assert [name for name in names if not known.fullmatch(name)] == []


def test_the_kernels_file_systems_are_read_only_or_hidden(either_sandbox: Sandbox) -> None:
    script = """
    try() { (echo "$2" > $1) 2>/dev/null && echo "wrote $1" || true; }
    try /proc/sys/kernel/core_pattern '|/bin/false'; try /proc/sys/kernel/hostname x
    try /proc/sys/net/ipv4/ip_forward 1; try /proc/sys/user/max_user_namespaces 100
    try /proc/sysrq-trigger h; try /proc/sys/vm/drop_caches 1
    for f in /sys/kernel/mm/transparent_hugepage/enabled /sys/power/state; do try $f x; done
    (mkdir /sys/fs/cgroup/x) 2>/dev/null && echo made a cgroup || true
    wc -c < /proc/keys; (wc -c < /proc/kcore) 2>/dev/null || echo 0; ls -A /proc/acpi 2>/dev/null || true
    echo x > /proc/self/oom_score_adj 2>/dev/null || true; echo 1000 > /proc/self/oom_score_adj; echo done"""
    assert either_sandbox.sh(script) == "0\n0\ndone\n"


def test_nothing_can_be_mounted_or_unmounted(either_sandbox: Sandbox) -> None:
    script = """
    for line in 'mount -t tmpfs none /mnt' 'mount --bind /usr /mnt' 'umount /proc/keys' 'umount -l /proc/sys' \\
        'mount -o remount,rw /sys' 'unshare -U true' 'unshare -n true' 'unshare -m true' 'nsenter -t 1 -n true'; do
        $line 2>/dev/null && echo "$line" || true
    done; unshare --help >/dev/null; echo done"""
    assert either_sandbox.sh(script) == "done\n"


def test_capabilities_are_a_containers_and_can_not_grow(either_sandbox: Sandbox) -> None:
    script = "grep -E '^(Cap(Inh|Prm|Eff|Bnd|Amb)|NoNewPrivs|Seccomp):' /proc/self/status"
    found = dict(line.split(":\t") for line in either_sandbox.sh(script).splitlines())
    assert found == {
        "CapInh": "0" * 16,
        "CapPrm": "00000000a80425fb",
        "CapEff": "00000000a80425fb",
        "CapBnd": "00000000a80425fb",
        "CapAmb": "0" * 16,
        "NoNewPrivs": "1",
        "Seccomp": "2",
    }


DEVICES = """
import os, stat
for folder, _, names in os.walk('/dev'):
    for name in names:
        path = os.path.join(folder, name)
        kind = os.lstat(path).st_mode
        if not stat.S_ISLNK(kind): print(path)
"""


def test_only_harmless_devices_are_there(either_sandbox: Sandbox) -> None:
    found = set(either_sandbox.python(DEVICES).split())
    names = ("null", "zero", "full", "random", "urandom", "tty", "pts/ptmx")
    assert found == {f"/dev/{name}" for name in names}


def test_a_device_that_a_session_makes_can_not_be_opened(either_sandbox: Sandbox) -> None:
    script = """
    for place in /tmp /workspace /dev /dev/shm /mnt/session/outputs /etc; do
        mknod $place/disk b 254 0 2>/dev/null || true; mknod $place/memory c 1 1 2>/dev/null || true
        for f in $place/disk $place/memory; do
            (head -c 1 $f >/dev/null) 2>/dev/null && test -s $f && echo "read $f" || true
        done
    done; head -c 1 /dev/zero | wc -c"""
    assert either_sandbox.sh(script) == "1\n"


def test_the_network_is_a_loopback_of_its_own(either_sandbox: Sandbox) -> None:
    out = either_sandbox.sh(
        "tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d ' '; ls /sys/class/net 2>/dev/null || echo lo"
    )
    assert out == "lo\nlo\n"


@pytest.mark.parametrize("net", ["none", "limited"])
def test_sockets_of_the_host_are_out_of_reach(either_sandbox: Sandbox, net: str) -> None:
    """A listener on the host's loopback, another with an abstract name. The host itself reaches both."""
    name = f"\0canary-{os.getpid()}-{net}"
    with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_UNIX) as abstract:
        abstract.bind(name)
        abstract.listen()
        port = tcp.getsockname()[1]
        script = f"""
import socket
for family, address in ((socket.AF_INET, ('127.0.0.1', {port})), (socket.AF_UNIX, {name!r})):
    with socket.socket(family) as probe:
        try: probe.connect(address)
        except ConnectionRefusedError: print('refused')
"""
        assert either_sandbox.python(script, "--net", net) == "refused\n" * 2
        for listener in (tcp, abstract):
            listener.settimeout(0)
            with pytest.raises(BlockingIOError):
                listener.accept()
        with socket.create_connection(("127.0.0.1", port)), socket.socket(socket.AF_UNIX) as probe:
            probe.connect(name)
            tcp.accept()[0].close()
            abstract.accept()[0].close()


def test_two_sessions_share_nothing(either_sandbox: Sandbox) -> None:
    """A file, an abstract socket, a port, a System V queue of the one are not the other's."""
    make = (
        "import socket, os, sys\n"
        "open('/tmp/mine', 'w').write('x'); open('/dev/shm/mine', 'w').write('x')\n"
        "a = socket.socket(socket.AF_UNIX); a.bind('\\0mine'); a.listen()\n"
        "t = socket.create_server(('127.0.0.1', 7777))\n"
        "print('ready', flush=True); sys.stdin.read()"
    )
    look = (
        "import socket, os\n"
        "print(os.path.exists('/tmp/mine'), os.path.exists('/dev/shm/mine'))\n"
        "for f, a in ((socket.AF_UNIX, '\\0mine'), (socket.AF_INET, ('127.0.0.1', 7777))):\n"
        "    try: socket.socket(f).connect(a); print('reached')\n"
        "    except ConnectionRefusedError: print('refused')\n"
    )
    with either_sandbox.start("--", PYTHON, "-Ic", make, stdin=subprocess.PIPE) as first:
        assert first.stdout is not None and first.stdout.readline() == b"ready\n"
        assert either_sandbox.python(look) == "False False\nrefused\nrefused\n"
        first.communicate()
        assert first.returncode == 0


def test_set_id_programs_of_the_host_give_nothing(either_sandbox: Sandbox) -> None:
    out = either_sandbox.sh(
        "cp /bin/sh /tmp/sh; chmod 4755 /tmp/sh; /tmp/sh -c 'id -u'; grep NoNewPrivs /proc/self/status"
    )
    assert out == "0\nNoNewPrivs:\t1\n"


def test_a_session_in_range_mode_has_the_ids_of_a_whole_machine(sandbox: Sandbox) -> None:
    need("subids")
    assert sandbox.python(OTHER_IDS, "--ids", "range") == "1000\n1000 65534\nstays\n"


def test_a_session_with_a_single_id_answers_as_if_it_had_them_all(sandbox: Sandbox) -> None:
    script = f"{OTHER_IDS}\nprint(open('/proc/self/uid_map').read().split()[2])"
    assert sandbox.python(script, "--ids", "single") == "0\n0 0\nmay return\n1\n"


def test_no_session_ever_has_the_callers_rights_when_root_runs_it(either_sandbox: Sandbox) -> None:
    need("root")
    first = int(either_sandbox.sh("cat /proc/self/uid_map").split()[1])
    assert first > 65535


def test_no_terminal_of_the_host_is_reached(either_sandbox: Sandbox) -> None:
    out = either_sandbox.sh(
        "ls -A /dev/pts; (: < /dev/tty) 2>/dev/null || echo none; test -e /dev/console || echo none"
    )
    assert out == "ptmx\nnone\nnone\n"


def test_processes_that_outlive_the_command_are_ended(either_sandbox: Sandbox) -> None:
    number = mark()
    script = f"setsid sleep {number} >/dev/null 2>&1 & (trap '' TERM HUP; exec setsid sleep {number}) & echo started"
    done = either_sandbox.run("--", "sh", "-c", script)
    assert (done.code, done.out) == (0, "started\n")
    eventually(lambda: not marked(number), "the end of every process")


def test_many_sessions_at_once_do_not_get_into_each_others_way(sandbox: Sandbox) -> None:
    results: list[tuple[int, str]] = []

    def one(number: int) -> None:
        done = sandbox.run(
            "--", "sh", "-c", f"echo {number} > /workspace/x; sleep 0.2; cat /workspace/*; exit {number}"
        )
        results.append((done.code, done.out))

    threads = [threading.Thread(target=one, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == [(number, f"{number}\n") for number in range(20)]
