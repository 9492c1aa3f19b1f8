"""Class: what a session is given of the host's files, as a way to the rest (docs/threats/files.md)."""

from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path

import pytest

from tests.sessions.running import PYTHON, Sandbox

FORGE = r"""
import os
os.chdir('/given')
for name in ('absolute', 'relative', 'opaque', 'origin'):
    os.mkdir(name)
    open(f'{name}/own', 'w').write('own')
forged = {'absolute': ('redirect', b'%(secret)s'), 'relative': ('redirect', b'../secret'),
          'opaque': ('opaque', b'y'), 'origin': ('origin', bytes.fromhex('00fb1d0001') + bytes(24))}
for name, (key, value) in forged.items():
    os.setxattr(name, f'user.overlay.{key}', value)
open('whiteout', 'w'); os.setxattr('whiteout', 'user.overlay.whiteout', b'y')
open('copied', 'w').truncate(100)
os.setxattr('copied', 'user.overlay.metacopy', b'')
os.setxattr('copied', 'user.overlay.redirect', b'%(secret)s/song')
print('forged')
"""


def test_marks_of_overlayfs_that_a_session_forged_lead_nowhere_when_its_files_are_used_again(
    either_sandbox: Sandbox, tmp_path: Path
) -> None:
    """One session writes a directory through; the next one gets it copied on write, as a layer."""
    given, secret = tmp_path / "given", tmp_path / "secret"
    given.mkdir()
    secret.mkdir()
    (secret / "song").write_text("a canary's song")
    (given / "plain").write_text("seen")
    done = either_sandbox.run(
        "--mount", f"{given}:/given:rw", "--", PYTHON, "-Ic", FORGE % {"secret": str(secret)}
    )
    if done.code != 0:
        pytest.skip(f"needs extended attributes of users on {tmp_path}: {done.err}")
    # The kernel itself refuses what is marked as if its content stood elsewhere.
    script = "cat plain; grep -rs canary . && echo FOUND; ls -R . 2>&1; rm -rf * 2>/dev/null; ls; true"
    out = either_sandbox.run("--workspace", str(given), "--", "sh", "-c", script).out
    assert out.startswith("seen")
    assert "FOUND" not in out
    assert "song" not in out
    assert (secret / "song").read_text() == "a canary's song"
    assert (given / "plain").read_text() == "seen"


CHROOT = """
import os
top = os.open('/', os.O_RDONLY)
os.makedirs('/tmp/jail', exist_ok=True)
os.chroot('/tmp/jail')
os.fchdir(top)
for _ in range(40): os.chdir('..')
os.chroot('.')
print(sorted(os.listdir('/')) == %r, os.path.exists(%r))
"""


def test_changing_the_root_twice_leads_to_the_sessions_own_root(
    either_sandbox: Sandbox, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_text("a canary's song")
    names = either_sandbox.python("import os; print(sorted(os.listdir('/')))").strip()
    script = CHROOT.replace("%r", names, 1) % str(tmp_path / "secret")
    assert either_sandbox.python(script) == "True False\n"


def test_a_directory_that_the_host_moves_away_takes_nobody_along(
    either_sandbox: Sandbox, tmp_path: Path
) -> None:
    """The session stands in it, and goes up from there once it is no longer below what was given."""
    (tmp_path / "given/inner/deep").mkdir(parents=True)
    (tmp_path / "secret").write_text("a canary's song")
    script = """
import os, sys
os.chdir('/given/inner/deep')
os.chdir('..'); os.chdir('deep')
print('ready', flush=True); sys.stdin.readline()
for steps in ('..', '../..', '../../..', '../../../..'):
    for name in ('secret', '.'):
        try: print(os.path.exists(f'{steps}/secret'), end=' ')
        except OSError: pass
try: os.chdir('../..'); print(sorted(os.listdir('.')))
except OSError: print('refused')
"""
    options = ("--mount", f"{tmp_path / 'given'}:/given:rw")
    with either_sandbox.start(*options, "--", PYTHON, "-Ic", script, stdin=subprocess.PIPE) as running:
        assert running.stdout is not None and running.stdout.readline() == b"ready\n"
        (tmp_path / "given/inner").rename(tmp_path / "moved")
        out, _ = running.communicate(b"\n", timeout=60)
    assert out.decode().split() == ["False"] * 8 + ["refused"]


def test_a_socket_of_the_host_answers_where_it_was_mounted_and_not_in_a_copy(
    either_sandbox: Sandbox, tmp_path: Path
) -> None:
    """A mounted directory is the host's own; SECURITY.md says so."""
    (tmp_path / "d").mkdir()
    script = """
import socket
with socket.socket(socket.AF_UNIX) as probe:
    try: probe.connect('/%s/s'); print('connected')
    except OSError as error: print(type(error).__name__)
"""
    with socket.socket(socket.AF_UNIX) as canary:
        here = os.getcwd()
        os.chdir(tmp_path / "d")  # a socket's path has 107 bytes at most
        try:
            canary.bind("s")
        finally:
            os.chdir(here)
        os.chmod(tmp_path / "d/s", 0o777)
        canary.listen()
        canary.settimeout(0)
        copied = either_sandbox.python(script % "workspace", "--workspace", str(tmp_path / "d"))
        assert copied == "ConnectionRefusedError\n"
        with pytest.raises(BlockingIOError):
            canary.accept()
        assert either_sandbox.python(script % "given", "--mount", f"{tmp_path / 'd'}:/given") == "connected\n"
        canary.accept()[0].close()


LINKS = r"""
import os
for source in ('/usr/bin/env', '/etc/passwd', '/proc/self/exe', '/given/file', '/proc/self/fd/0'):
    for place in ('/mnt/session/outputs', '/workspace', '/other'):
        for follow in (False, True):
            try: os.link(source, f'{place}/link', follow_symlinks=follow); print('LINKED', source, place)
            except OSError: pass
os.link('/other/mine', '/other/again'); print('linked its own')
"""


def test_no_file_is_linked_from_one_place_to_another(either_sandbox: Sandbox, tmp_path: Path) -> None:
    """A second name of a read-only file, in a place that can be written, would make it writable."""
    for name in ("given", "other", "out"):
        (tmp_path / name).mkdir()
    (tmp_path / "given/file").write_text("x")
    (tmp_path / "other/mine").write_text("x")
    options = ("--mount", f"{tmp_path / 'given'}:/given", "--mount", f"{tmp_path / 'other'}:/other:rw")
    out = either_sandbox.python(LINKS, *options, "--outputs", str(tmp_path / "out"))
    assert out == "linked its own\n"
