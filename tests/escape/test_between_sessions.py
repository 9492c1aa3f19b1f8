"""Class: one session against another, and against what all of them stand on (docs/threats/between-sessions.md)."""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path

from tests.sessions.running import PYTHON, Sandbox

SPOIL = r"""
import os, ctypes
for top in ('/etc', '/usr', '/opt', '/tmp', '/root', '/home', '/var', '/'):
    for name in ('shadow', 'passwd', 'hosts', 'ssh', 'local', 'bin', 'resolv.conf'):
        path = os.path.join(top, name)
        for work in (lambda: os.chmod(path, 0o777), lambda: open(path, 'ab').write(b'spoiled'),
                     lambda: os.setxattr(path, 'user.spoiled', b'1'), lambda: os.unlink(path),
                     lambda: os.rename(path, path + '.old'), lambda: os.setxattr(path, 'user.overlay.opaque', b'y')):
            try: work()
            except OSError: pass
open('/tmp/mine', 'w').write('mine')
open('/etc/mine', 'w').write('mine')
print(open('/tmp/mine').read(), open('/etc/mine').read())
"""


def fingerprint(place: Path) -> dict[str, str]:
    """Every name below ``place`` with its owner, mode, marks and content."""
    found = {}
    for folder, folders, files in os.walk(place):
        for name in (*folders, *files):
            path = os.path.join(folder, name)
            status = os.lstat(path)
            content = b""
            if os.path.isfile(path) and not os.path.islink(path):
                content = Path(path).read_bytes()
            marks = sorted(os.listxattr(path, follow_symlinks=False))
            found[path] = f"{status.st_mode:o} {status.st_uid} {marks} {hashlib.sha256(content).hexdigest()}"
    return found


def test_what_sessions_stand_on_is_the_same_after_one_that_spoiled_all_it_could(
    either_sandbox: Sandbox,
) -> None:
    either_sandbox.sh("true")
    before = fingerprint(either_sandbox.data / "ground")
    assert before
    assert either_sandbox.python(SPOIL) == "mine mine\n"
    assert fingerprint(either_sandbox.data / "ground") == before
    assert either_sandbox.sh("ls -A /tmp; test -e /etc/mine || echo clean; hostname") == "clean\nsandbox\n"


PASS = """
import array, os, socket, sys
path = '/shared/meeting'
if sys.argv[1] == 'give':
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path); os.chmod(path, 0o777); listening.listen(); print('ready', flush=True)
        client, _ = listening.accept()
        open('/tmp/mine', 'w').write('of the first session')
        fds = array.array('i', [os.open('/tmp/mine', os.O_RDONLY), os.open('/', os.O_RDONLY)])
        client.sendmsg([b'x'], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)])
        client.recv(1)
else:
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
        fds = socket.recv_fds(client, 1, 2)[1]
        print(os.read(fds[0], 100).decode())
        for name in (%r, '../..' + %r):
            try: os.open(name.lstrip('/') if name[0] == '/' else name, os.O_RDONLY, dir_fd=fds[1]); print('FOUND')
            except OSError: pass
        client.send(b'x')
"""


def test_descriptors_that_two_sessions_pass_each_other_lead_to_their_own_files_alone(
    either_sandbox: Sandbox, tmp_path: Path
) -> None:
    """They can meet only where both were given the same directory to write to."""
    (tmp_path / "d").mkdir(mode=0o777)
    (tmp_path / "secret").write_text("a canary's song")
    secret = str(tmp_path / "secret")
    options = ("--mount", f"{tmp_path / 'd'}:/shared:rw", "--", PYTHON, "-Ic", PASS % (secret, secret))
    with either_sandbox.start(*options, "give") as first:
        assert first.stdout is not None and first.stdout.readline() == b"ready\n"
        assert either_sandbox.run(*options, "take").out == "of the first session\n"
        assert first.wait(60) == 0
        assert first.stdout.read() == b""


def test_sessions_that_end_together_with_full_disks_of_links_remove_only_their_own(
    either_sandbox: Sandbox, tmp_path: Path
) -> None:
    """What a session leaves points everywhere; nothing that it points to is removed or opened up with it."""
    (tmp_path / "precious").mkdir(mode=0o500)
    script = f"""
    mkdir -p /tmp/a/b/c /root/x; chmod 0 /tmp/a/b
    for d in /tmp /root /workspace /var/tmp; do for i in 1 2 3; do ln -s {tmp_path}/precious $d/l$i; done; done
    ln -s /tmp /tmp/a/up; ln -s . /tmp/self; mkfifo /tmp/fifo; echo made"""
    running = [either_sandbox.start("--", "sh", "-c", script, stdout=subprocess.PIPE) for _ in range(4)]
    assert [each.communicate(timeout=30)[0] for each in running] == [b"made\n"] * 4
    assert (tmp_path / "precious").stat().st_mode & 0o777 == 0o500
