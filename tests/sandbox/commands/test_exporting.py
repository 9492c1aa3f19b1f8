"""Importing and exporting, the real commands. That real systems come back the same is tested in tests/integration."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.capabilities import need
from tests.pkgcache.archives import folder, layout, tar
from tests.sessions.running import SANDBOXCTL, control, eventually

SMALL = tar(folder("etc"), ("etc/name", b"small\n"))


@pytest.fixture
def place(empty_data_dir: Path) -> Path:
    need("user-namespaces")
    return layout(empty_data_dir / "given", SMALL)


@pytest.mark.parametrize("compression", ["gzip", "zstd", "none"])
def test_an_image_goes_in_and_out(empty_data_dir: Path, place: Path, compression: str) -> None:
    data = empty_data_dir / "data"
    imported = control(data, "base", "import", "small", str(place))
    assert imported.code == 0, imported.err
    assert imported.out.startswith("small small-")
    out = empty_data_dir / "out"
    exported = control(data, "base", "export", "small", str(out), "--compression", compression)
    assert exported.code == 0, exported.err
    assert exported.out.startswith(f"{out}:small sha256:")
    again = control(data, "base", "import", "again", str(out), "--tag", "small")
    assert again.code == 0, again.err
    assert control(data, "base", "list").out.count("imported") == 2


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("base", "import", "small", "gone"), "gone"),
        (("base", "import", "host", "given"), "host"),
        (("base", "import", "small", "given", "--tag", "x"), "'x'"),
        (("base", "export", "small", "out"), "small"),
        (("base", "export", "host", "out"), "host"),
        (("base", "export", "debian-minimal", "out"), "base build"),
        (("env", "export", "nobody", "out"), "nobody"),
    ],
)
def test_what_can_not_be_done_is_said_and_leaves_nothing(
    empty_data_dir: Path, place: Path, arguments: tuple[str, ...], word: str
) -> None:
    full = [str(empty_data_dir / one) if one in ("gone", "given", "out") else one for one in arguments]
    done = control(empty_data_dir / "data", *full)
    assert done.code == 2
    assert word in done.err and done.out == ""
    assert not (empty_data_dir / "out").exists()


def test_an_import_that_is_killed_leaves_nothing_that_is_used(empty_data_dir: Path, place: Path) -> None:
    data = empty_data_dir / "data"
    large = empty_data_dir / "large.tar"
    large.write_bytes(tar(*((f"file-{number}", bytes(1 << 20)) for number in range(64))))
    started = subprocess.Popen(
        [SANDBOXCTL, "--data", str(data), "base", "import", "small", str(large)], stderr=subprocess.PIPE
    )
    assert started.stderr is not None
    assert b"unpack" in started.stderr.readline()
    started.kill()
    started.communicate()
    assert control(data, "base", "list").out.count("imported") == 0
    imported = control(data, "base", "import", "small", str(place))
    assert imported.code == 0, imported.err
    (work,) = data.glob("store/*/v1/work")
    # The killed one's process may take a moment to die and let go of its directory.
    eventually(lambda: control(data, "base", "import", "more", str(place)).code == 0 and not os.listdir(work))
