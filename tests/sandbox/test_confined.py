"""Work on a tree in a process that sees nothing else."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from sandbox import idmap
from sandbox.confined import inside
from sandbox.errors import SetupError
from sandbox.idmap import IdMap
from tests.capabilities import need


@pytest.fixture(params=["range", "single"])
def ids(request: pytest.FixtureRequest) -> IdMap:
    need("user-namespaces")
    if request.param == "range":
        need("subids")
    return idmap.choose(idmap.read_host_ids(), request.param)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "root").mkdir()
    (tmp_path / "beside").write_text("outside")
    return tmp_path / "root"


def test_the_directory_is_all_there_is(ids: IdMap, root: Path) -> None:
    def work() -> str:
        os.symlink("/../beside", "/link")
        with open("/made", "w") as file:
            file.write("x")
        return repr(
            (sorted(os.listdir("/")), os.path.exists("/link"), os.path.exists("/../beside"), os.getcwd())
        )

    assert inside(ids, str(root), work) == "(['link', 'made'], False, False, '/')"
    assert (root / "made").stat().st_uid == ids.root_uid
    assert (root / "beside").exists() is False and (root.parent / "beside").read_text() == "outside"


def test_what_was_opened_before_stays_open(ids: IdMap, root: Path) -> None:
    with open(root.parent / "beside", "rb") as file:
        assert inside(ids, str(root), lambda: file.read().decode()) == "outside"


def test_it_is_the_sessions_root_and_nobody_on_the_host(ids: IdMap, root: Path) -> None:
    said = inside(ids, str(root), lambda: f"{os.getuid()} {os.getgid()}")
    assert said == "0 0"


def test_there_is_no_network(ids: IdMap, root: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

        def dial() -> str:
            with socket.socket() as client:
                return "refused" if client.connect_ex(("127.0.0.1", port)) else "reached"

        assert dial() == "reached"
        assert inside(ids, str(root), dial) == "refused"


def test_modules_of_the_tree_are_never_imported(ids: IdMap, root: Path) -> None:
    (root / "sandbox_trap.py").write_text("raise SystemExit('ran')")

    def work() -> str:
        try:
            __import__("sandbox_trap")
        except ImportError:
            return "not found"
        return "imported"

    assert inside(ids, str(root), work) == "not found"


def fails() -> str:
    raise OSError("broken in there")


def test_what_is_raised_there_is_told_here_and_nothing_stays_open(ids: IdMap, root: Path) -> None:
    before = sorted(os.listdir("/proc/self/fd"))
    with pytest.raises(SetupError, match="broken in there"):
        inside(ids, str(root), fails)
    assert inside(ids, str(root), lambda: "fine") == "fine"
    assert sorted(os.listdir("/proc/self/fd")) == before


def test_memory_is_limited(ids: IdMap, root: Path) -> None:
    def takes(size: int) -> Callable[[], str]:
        def work() -> str:
            try:
                return str(len(bytes(size)))
            except MemoryError:
                return "refused"

        return work

    assert inside(ids, str(root), takes(1 << 20)) == str(1 << 20)
    assert inside(ids, str(root), takes(4 << 30)) == "refused"


def test_a_link_is_no_tree(ids: IdMap, root: Path) -> None:
    (root.parent / "link").symlink_to(root)
    with pytest.raises(OSError):
        inside(ids, str(root.parent / "link"), lambda: "")
