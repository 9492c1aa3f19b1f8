"""What commands load, since who runs one waits for it: no figure is judged, for machines differ."""

import subprocess
import sys
from pathlib import Path

import pytest

from pkgcache.build import build
from sandbox import idmap, images
from tests.pkgcache.scripted import Scripted, add_base, installs_files, remove
from tests.sessions.running import control

RUN = """
import sys
from sandbox.commands.sandboxctl import main
try:
    main()
finally:
    print(*sys.modules, file=sys.stderr)
"""
HEAVY = {
    "asyncio", "cryptography", "dataclasses", "email", "fastapi", "hashlib", "importlib.metadata", "logging", "prctl",
    "psutil", "pydantic", "pyroute2", "socket", "ssl", "subprocess", "tempfile", "urllib.parse", "uvicorn",
    "pkgcache.build", "pkgcache.layers", "pkgcache.phases",
    "sandbox.build_runner", "sandbox.plan", "sandbox.session",
}  # fmt: skip
BODY = "name: some\nconfig: {type: cloud, packages: {npm: [tsx], pip: [six]}}\n"


def loaded(data: Path, *words: str, code: int = 0) -> set[str]:
    """The modules that ``sandboxctl`` with ``words`` has loaded at its end, which comes with ``code``."""
    done = subprocess.run(
        [sys.executable, "-c", RUN, "--data", str(data), *words],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == code, done.stderr
    return set(done.stderr.split())


@pytest.fixture
def file(empty_data_dir: Path) -> Path:
    """An environment of which all layers are there, in a data directory of its own."""
    file = empty_data_dir / "some.yaml"
    file.write_text(BODY)
    store = images.store(str(empty_data_dir / "data"), idmap.choose(idmap.read_host_ids()))
    add_base(store)
    build(store, "debian", {"npm": ["tsx"], "pip": ["six"]}, runner=Scripted(installs_files), remove=remove)
    return file


def test_building_what_is_built_loads_nothing_heavy_and_leaves_no_record_of_a_build(file: Path) -> None:
    data = file.parent / "data"
    first = control(data, "env", "build", "-q", str(file))
    assert (first.code, first.out) == (0, "some: ready (npm, pip; 2 layers)\n")
    assert loaded(data, "env", "build", "-q", str(file)) & HEAVY == set()
    assert loaded(data, "env", "build", "-q", "some") & HEAVY == set()
    shown = control(data, "env", "show", "--json", "some").out
    assert '"state": "ready"' in shown and '"started_at": null' in shown


def test_looking_at_environments_loads_nothing_heavy(file: Path) -> None:
    data = file.parent / "data"
    # Reading the body of a request takes what looking does not.
    assert "pydantic" in loaded(data, "env", "create", "--no-build", str(file))
    for words in (["list"], ["show", "some"], ["history", "some"], ["archive", "some"]):
        # The record of a build is found by a hash of what it was for.
        assert loaded(data, "env", *words) & HEAVY <= {"hashlib"}, words


def test_looking_at_sessions_reads_no_bodies_of_requests(file: Path) -> None:
    data = file.parent / "data"
    for words in (["agent", "list"], ["file", "list"], ["session", "list"], ["vault", "list"]):
        assert loaded(data, *words) & {"asyncio", "cryptography", "fastapi", "psutil", "pydantic"} == set(), (
            words
        )


def test_building_what_is_missing_loads_only_what_builds(file: Path) -> None:
    words = ("env", "build", "--offline", str(file))
    # The first build makes an authority, of which later ones need nothing but the certificate.
    loaded(file.parent / "empty", *words, code=125)
    found = loaded(file.parent / "empty", *words, code=125)
    own = {name for name in HEAVY if name.startswith(("pkgcache.", "sandbox."))}
    assert own <= found
    # Sockets carry a session's output; what builds are known by is hashed.
    assert found & (HEAVY - own) <= {"hashlib", "prctl", "socket"}
    assert not found & {"pkgcache.debian", "pkgcache.imported", "pkgcache.unpack"}


def test_a_command_loads_no_other_group(file: Path) -> None:
    groups = {f"sandbox.commands.{name}" for name in ("agents", "envs", "network", "sessions", "vaults")}
    found = loaded(file.parent / "data", "base", "list")
    assert found & groups == set() and "sandbox.commands.bases" in found
    assert groups <= loaded(file.parent / "data", "--help")
