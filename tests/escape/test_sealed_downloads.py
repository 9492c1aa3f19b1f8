"""Class: package code against the downloads that builds share (docs/threats/builds.md).

A build may close its downloads to a session that runs: what was opened there before is no way around that.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pkgcache.buildlog import BuildLog
from pkgcache.runner import Job, Mount, Result, Root
from sandbox import paths
from sandbox.build_runner import make_runner
from sandbox.errors import SetupError
from sandbox.idmap import IdMap
from tests.capabilities import need
from tests.sessions.running import PYTHON

# Every way to change something there, by each of the ways to get there. `took` names those that the kernel let through.
ATTACK = r"""
import ctypes, mmap, os, sys, time
kept = '/var/cache/kept'
libc = ctypes.CDLL(None, use_errno=True)
folder = os.open(kept, os.O_RDONLY | os.O_DIRECTORY)
path = os.open(kept, os.O_PATH)
reading = os.open(f'{kept}/file', os.O_RDONLY)
mapped = mmap.mmap(reading, 4, prot=mmap.PROT_READ)
os.chdir(kept)

def call(number):
    if number < 0:
        raise OSError(ctypes.get_errno(), 'refused')

def replace(name, **by):
    os.rename('second', name, dst_dir_fd=by.get('dir_fd'))
    os.rename(name, 'second', src_dir_fd=by.get('dir_fd'))

WAYS = {
    'new file': lambda: os.close(os.open(f'{kept}/new', os.O_WRONLY | os.O_CREAT)),
    'new file, relative': lambda: os.close(os.open('newer', os.O_WRONLY | os.O_CREAT)),
    'new file by directory': lambda: os.close(os.open('newest', os.O_WRONLY | os.O_CREAT, dir_fd=folder)),
    'new file by path': lambda: os.close(os.open('latest', os.O_WRONLY | os.O_CREAT, dir_fd=path)),
    'new file of another root': lambda: os.close(os.open(f'/proc/self/root{kept}/new', os.O_WRONLY | os.O_CREAT)),
    'nameless file': lambda: os.close(os.open(kept, os.O_WRONLY | os.O_TMPFILE)),
    'write': lambda: os.close(os.open('file', os.O_WRONLY)),
    'write again': lambda: os.close(os.open(f'/proc/self/fd/{reading}', os.O_RDWR)),
    'truncate': lambda: os.truncate('file', 4),
    'rename': lambda: replace('third'),
    'rename by directory': lambda: replace('third', dir_fd=folder),
    'link': lambda: (os.link('file', 'linked'), os.unlink('linked')),
    'directory': lambda: (os.mkdir('below'), os.rmdir('below')),
    'mode by descriptor': lambda: os.fchmod(reading, 0o644),
    'times by descriptor': lambda: os.utime(reading, (0, 0)),
    'attribute': lambda: os.setxattr('file', 'user.mark', b'x'),
}
ALWAYS_REFUSED = {
    'mapping written': lambda: mmap.mmap(reading, 4, prot=mmap.PROT_READ | mmap.PROT_WRITE),
    'made writable': lambda: call(libc.mount(None, kept.encode(), None, 0x1000 | 0x20, None)),
    'made writable anew': lambda: call(libc.syscall(442, folder, b'', 0x1000, (ctypes.c_ulong * 4)(0, 1, 0, 0), 32)),
    'taken away': lambda: call(libc.umount2(kept.encode(), 2)),
    'copied tree': lambda: call(libc.syscall(428, -100, kept.encode(), 1)),
    'namespace of mounts': lambda: call(libc.unshare(0x20000)),
    'namespace of users': lambda: call(libc.unshare(0x10000000 | 0x20000)),
}

def took(ways):
    found = []
    for name, way in ways.items():
        try:
            way()
        except (OSError, ValueError):
            continue
        found.append(name)
    return found

assert took(WAYS) == list(WAYS), set(WAYS) - set(took(WAYS))
print('before:', len(took(WAYS)), flush=True)
print('@sandbox\tseal', flush=True)
while os.access(kept, os.W_OK):
    time.sleep(0.005)
print('after:', took(WAYS), took(ALWAYS_REFUSED), open('file').read(), flush=True)
"""

# Something is open for writing there; it is given up once the session was told that closing failed.
BUSY = r"""
import mmap, os, sys, time
kept = '/var/cache/kept'
writing = os.open(f'{kept}/file', os.O_RDWR)
if sys.argv[1] == 'mapped':
    mapped = mmap.mmap(writing, 4)
    os.close(writing)
    writing = None
print('@sandbox\tseal', flush=True)
while not os.path.exists('/var/cache/told/refused'):
    assert os.access(kept, os.W_OK), 'closed while it was written to'
    time.sleep(0.01)
print('still:', os.access(kept, os.W_OK))
"""


@pytest.fixture
def build(ids: IdMap, data_dir: Path, tmp_path: Path) -> Callable[..., str]:
    """Runs a script that has the downloads at /var/cache/kept and may have them closed; returns what it printed."""
    need("user-namespaces", "overlay")
    paths.prepare(str(data_dir), ids)
    kept, told = tmp_path / "kept", tmp_path / "told"
    kept.mkdir()
    told.mkdir()
    for name in ("file", "second"):
        (kept / name).write_text("kept")

    def run(script: str, *arguments: str) -> str:
        lines: list[str] = []
        with BuildLog(str(tmp_path / "log"), lines.append) as log:

            def sealing(close: Callable[[], None]) -> None:
                def hear(_mark: tuple[str, ...]) -> None:
                    try:
                        close()
                    except SetupError as error:
                        log.note(str(error))
                        (told / "refused").touch()

                log.heard = hear

            job = Job(
                Root(None),
                (PYTHON, "-Ic", script, *arguments),
                mounts=(Mount(str(kept), "/var/cache/kept", True), Mount(str(told), "/var/cache/told")),
                timeout_s=60,
                output=log.feed,
                sealing=sealing,
            )
            result: Result = make_runner(ids, str(data_dir), {})(job)
        assert result.exit_code == 0, lines
        return "\n".join(lines)

    return run


def test_nothing_can_be_written_once_the_downloads_are_closed(build: Callable[..., str]) -> None:
    said = build(ATTACK)
    assert "before: 16" in said
    assert "after: [] [] kept" in said


@pytest.mark.parametrize("how", ["open", "mapped"])
def test_they_are_not_said_to_be_closed_while_something_is_written_there(
    build: Callable[..., str], how: str
) -> None:
    said = build(BUSY, how)
    assert "/var/cache/kept can't be closed to the session: mount_setattr: Device or resource busy" in said
    assert "still: True" in said
