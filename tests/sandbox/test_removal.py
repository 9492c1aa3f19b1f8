"""Trees are removed whole, whoever owns what is in them, and nothing beside them."""

import os
import signal
from pathlib import Path

import pytest

from sandbox import idmap, removal
from sandbox.errors import SetupError
from sandbox.idmap import IdMap
from sandbox.removal import as_owner, as_session_root, remove_tree
from tests.capabilities import need


@pytest.fixture
def ids() -> IdMap:
    need("user-namespaces")
    return idmap.choose(idmap.read_host_ids())


def test_a_tree_goes_and_what_its_links_lead_to_stays(tmp_path: Path, ids: IdMap) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/kept").write_text("x")
    tree = tmp_path / "tree"
    (tree / "a/b/c").mkdir(parents=True)
    (tree / "a/file").write_text("x")
    (tree / "a/out").symlink_to(tmp_path / "outside")
    (tree / "name\nwith line").mkdir()
    os.mkfifo(tree / "fifo")
    remove_tree(str(tree), ids)
    assert not tree.exists()
    assert (tmp_path / "outside/kept").exists()


def test_what_is_gone_is_no_error(tmp_path: Path, ids: IdMap) -> None:
    remove_tree(str(tmp_path / "gone"), ids)


def test_a_file_and_a_link_can_be_removed_as_well(tmp_path: Path, ids: IdMap) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to("file")
    remove_tree(str(tmp_path / "link"), ids)
    assert (tmp_path / "file").exists()
    remove_tree(str(tmp_path / "file"), ids)
    assert not os.listdir(tmp_path)


def test_closed_directories_are_no_obstacle(tmp_path: Path, ids: IdMap) -> None:
    tree = tmp_path / "tree"
    (tree / "closed/inner").mkdir(parents=True)
    (tree / "closed/inner/file").write_text("x")
    (tree / "closed/inner").chmod(0o000)
    (tree / "closed").chmod(0o500)
    tree.chmod(0o500)
    remove_tree(str(tree), ids)
    assert not tree.exists()


def test_a_deep_tree_goes(tmp_path: Path, ids: IdMap) -> None:
    here = os.open(tmp_path, os.O_PATH)
    os.mkdir("deep", dir_fd=here)
    inner = os.open("deep", os.O_PATH, dir_fd=here)
    for _ in range(3000):
        os.mkdir("d", dir_fd=inner)
        below = os.open("d", os.O_PATH, dir_fd=inner)
        os.close(inner)
        inner = below
    os.close(inner)
    os.close(here)
    remove_tree(str(tmp_path / "deep"), ids)
    assert not os.listdir(tmp_path)


def test_files_of_subordinate_ids_go(empty_data_dir: Path, ids: IdMap) -> None:
    if ids.mode != idmap.RANGE:
        need("subids")
    place = empty_data_dir / "owned"
    place.mkdir(mode=0o755)
    if os.geteuid() == 0:
        os.chown(place, ids.root_uid, ids.root_gid)

    def make() -> None:
        os.makedirs(f"{place}/a/b", 0o700)
        os.chown(f"{place}/a/b", 33, 33)
        os.chown(f"{place}/a", 33, 33)

    as_session_root(ids, make)
    assert os.stat(f"{place}/a").st_uid not in (0, os.geteuid())
    remove_tree(str(place), ids)
    assert not place.exists()


def test_work_as_the_owner_tells_its_failure(ids: IdMap, tmp_path: Path) -> None:
    def fail() -> None:
        raise RuntimeError("what happened")

    with pytest.raises(SetupError, match="what happened"):
        as_owner(ids, fail)
    as_owner(ids, lambda: (tmp_path / "done").write_text("x") and None)
    assert (tmp_path / "done").read_text() == "x"


def test_a_link_in_place_of_a_closed_directory_is_not_opened_up(tmp_path: Path) -> None:
    need("ordinary-user")
    (tmp_path / "outside").mkdir(mode=0o500)
    (tmp_path / "link").symlink_to("outside")
    folder = os.open(tmp_path, os.O_RDONLY)
    try:
        with pytest.raises(OSError, match="Not a directory"):
            removal._enter(folder, "link")
        (tmp_path / "closed").mkdir(mode=0)
        os.close(removal._enter(folder, "closed"))
    finally:
        os.close(folder)
    assert (tmp_path / "outside").stat().st_mode & 0o777 == 0o500


class Interrupted(BaseException):
    """As a signal's handler raises it."""


def test_the_work_ends_with_the_callers_patience(tmp_path: Path, ids: IdMap) -> None:
    """The child is gone when the interruption gets through: this test would otherwise wait for ever."""

    def interrupt(number: int, frame: object) -> None:
        raise Interrupted

    def work() -> None:
        os.kill(os.getppid(), signal.SIGUSR1)
        signal.pause()

    before = signal.signal(signal.SIGUSR1, interrupt)
    try:
        with pytest.raises(Interrupted):
            as_owner(ids, work)
    finally:
        signal.signal(signal.SIGUSR1, before)
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
