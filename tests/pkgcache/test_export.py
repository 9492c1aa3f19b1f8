"""Exporting: whole or not at all, the same each time, and what was exported can be imported again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pkgcache.build import build
from pkgcache.errors import HostError, InputError
from pkgcache.export import Exported, export_image
from pkgcache.image import Image
from pkgcache.imported import import_base
from pkgcache.runner import Job
from pkgcache.store import Store, open_store
from sandbox import idmap
from sandbox.confined import inside
from sandbox.removal import remove_tree
from tests.capabilities import need
from tests.pkgcache.archives import folder, hard, layout, link, member, tar, tree
from tests.pkgcache.scripted import Scripted, installs_files

Export = Callable[..., Exported]

ROOT = tar(
    folder("./"),
    folder("usr/bin"),
    (member("usr/bin/sh", mode=0o4755), b"#!"),
    hard("usr/bin/dash", "usr/bin/sh"),
    link("bin", "usr/bin"),
    ("etc/old", b"old"),
)


def confined(root: str, work: Callable[[], str]) -> str:
    return inside(idmap.choose(idmap.read_host_ids(), idmap.SINGLE), root, work)


def removed(path: str) -> None:
    remove_tree(path, idmap.choose(idmap.read_host_ids(), idmap.SINGLE))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    need("user-namespaces")
    return open_store(str(tmp_path / "store"))


def imported(store: Store, place: Path, name: str) -> Image:
    import_base(store, name, str(place), inside=confined, runner=Scripted(), remove=removed)
    return build(store, name, {}, runner=Scripted(), remove=removed)


@pytest.fixture
def image(store: Store, tmp_path: Path) -> Image:
    return imported(store, layout(tmp_path / "given", ROOT), "base")


def export(store: Store, image: Image, target: Path, **options: Any) -> Exported:
    values = {"tag": "mine", "environment": {"PATH": "/bin"}, "inside": confined, **options}
    return export_image(store, image, str(target), **values)


@pytest.mark.parametrize("compression", ["gzip", "zstd", "none"])
def test_what_is_exported_comes_back_the_same(
    store: Store, image: Image, tmp_path: Path, compression: str
) -> None:
    export(store, image, tmp_path / "out", compression=compression)
    again = imported(store, tmp_path / "out", "again")
    assert image.base is not None and again.base is not None
    assert tree(Path(again.base)) == tree(Path(image.base))
    assert again.environment["PATH"] == "/bin"


def test_the_same_image_gives_the_same_digests(store: Store, image: Image, tmp_path: Path) -> None:
    first = export(store, image, tmp_path / "1")
    assert export(store, image, tmp_path / "2") == first
    assert tree(tmp_path / "1") == tree(tmp_path / "2")
    assert export(store, image, tmp_path / "3", compression="none").digest != first.digest


def test_each_layer_of_packages_is_a_blob(store: Store, image: Image, tmp_path: Path) -> None:
    def act(job: Job) -> int:
        if job.scratch is not None:
            upper = Path(job.scratch, "upper/etc")
            upper.mkdir(exist_ok=True)
            # As overlayfs notes it, in an attribute: this test can't make the device everywhere.
            (upper / "old").touch()
            os.setxattr(upper / "old", "user.overlay.whiteout", b"")
        return installs_files(job)

    built = build(store, "base", {"pip": ["six"]}, runner=Scripted(act), remove=removed)
    assert export(store, built, tmp_path / "out").layers == 2
    again = imported(store, tmp_path / "out", "again")
    assert again.base is not None
    assert os.listdir(f"{again.base}/etc") == [] and os.path.exists(f"{again.base}/six")
    history = json.loads(_config(tmp_path / "out"))["history"]
    assert [step["created_by"] for step in history] == ["base base", "pip: six"]


def _config(place: Path) -> str:
    for blob in (place / "blobs/sha256").iterdir():
        if b'"history"' in blob.read_bytes()[:4096]:
            return blob.read_text()
    raise AssertionError("no configuration")


KILLED = """
import os, signal, sys
from pathlib import Path
from pkgcache import export
from pkgcache.build import build
from pkgcache.store import open_store
from tests.pkgcache.scripted import Scripted
from tests.pkgcache.test_export import confined, removed

store = open_store(sys.argv[1])
image = build(store, "base", {}, runner=Scripted(), remove=removed)
if sys.argv[3] == "killed":
    export._documents = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
else:
    def wait(*_):
        print("at work", flush=True)
        sys.stdin.read()
        raise OSError(28, "as if the disk were full")
    export._documents = wait
export.export_image(store, image, sys.argv[2], tag="t", environment={}, inside=confined)
"""


def exporter(store: Store, target: Path, how: str) -> subprocess.Popen[bytes]:
    root = Path(__file__).resolve().parents[2]
    line = [sys.executable, "-c", KILLED, store.path.removesuffix("/v1"), str(target), how]
    env = {**os.environ, "PYTHONPATH": str(root)}
    pipe = subprocess.PIPE
    return subprocess.Popen(line, stdin=pipe, stdout=pipe, stderr=pipe, env=env, cwd=root)


def test_what_a_killed_export_left_goes_with_the_next_and_another_s_stays(
    store: Store, image: Image, tmp_path: Path
) -> None:
    target = tmp_path / "out"

    def beside() -> list[str]:
        return sorted(name for name in os.listdir(tmp_path) if name.startswith("out"))

    with exporter(store, target, "killed") as killed:
        assert killed.wait(60) == -signal.SIGKILL, killed.stderr and killed.stderr.read()
    (left,) = beside()
    assert left.startswith("out.partial-")
    with exporter(store, target, "slow") as slow:
        assert slow.stdout is not None and slow.stdin is not None
        assert slow.stdout.readline() == b"at work\n"
        (at_work,) = beside()
        assert at_work != left
        (tmp_path / "out.partial-0123abcd").mkdir()
        (tmp_path / "out.partial-0123abcd/mine").touch()
        (tmp_path / "out.partial-mine").mkdir()
        export(store, image, target)
        assert beside() == sorted(("out", at_work, "out.partial-0123abcd", "out.partial-mine"))
        slow.stdin.close()
        assert slow.wait(60) == 1
    assert at_work not in beside()


def test_a_directory_with_something_in_it_is_left_alone(store: Store, image: Image, tmp_path: Path) -> None:
    target = tmp_path / "out"
    target.mkdir()
    (target / "mine").touch()
    with pytest.raises(InputError, match="not empty"):
        export(store, image, target)
    assert os.listdir(target) == ["mine"]
    (target / "mine").unlink()
    export(store, image, target)
    assert "index.json" in os.listdir(target)


def test_an_export_that_fails_leaves_nothing(store: Store, image: Image, tmp_path: Path) -> None:
    assert image.base is not None
    marked = Path(image.base, "etc/.wh.odd")
    confined(f"{image.base}/etc", lambda: str(os.close(os.open("/.wh.odd", os.O_CREAT | os.O_WRONLY))))
    before = sorted(os.listdir(tmp_path))
    with pytest.raises(InputError, match="begin with"):
        export(store, image, tmp_path / "out")
    assert sorted(os.listdir(tmp_path)) == before
    removed(str(marked))
    export(store, image, tmp_path / "out")


def test_where_nothing_can_be_written_the_directory_is_named(store: Store, image: Image) -> None:
    with pytest.raises((HostError, InputError), match="/proc/nowhere"):
        export(store, image, Path("/proc/nowhere"))


def test_the_machine_itself_is_not_exported(store: Store, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="'host' is the machine itself"):
        export(store, Image(None, ()), tmp_path / "out")
