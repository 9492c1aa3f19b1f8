"""Paths are found and made inside a root, whatever its links say."""

import os
from pathlib import Path

import pytest

from sandbox.inroot import Opened, make_directory, make_file, open_in


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root full of links that lead outside, beside something worth reaching."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("secret")
    place = tmp_path / "root"
    (place / "etc").mkdir(parents=True)
    (place / "etc/own").write_text("own")
    (place / "absolute").symlink_to(outside)
    (place / "climbing").symlink_to("../../outside")
    (place / "inside").symlink_to("/etc")
    (place / "dangling").symlink_to("/nowhere/at/all")
    (place / "magic").symlink_to("/proc/self/root")
    return place


def path_of(opened: Opened) -> str:
    return os.readlink(f"/proc/self/fd/{opened.fd}")


@pytest.mark.parametrize(
    "way", ["/absolute/secret", "/climbing/secret", "/../outside/secret", "/magic/etc/passwd"]
)
def test_no_link_leads_outside(root: Path, way: str) -> None:
    with pytest.raises(OSError):
        open_in(str(root), way, os.O_RDONLY)


def test_a_link_inside_is_followed_inside(root: Path) -> None:
    with Opened(open_in(str(root), "/inside/own", os.O_RDONLY)) as found:
        assert os.read(found.fd, 10) == b"own"


def test_directories_are_made_inside_only(root: Path) -> None:
    with make_directory(str(root), "/a/b/c") as made:
        assert path_of(made) == f"{root}/a/b/c"
    with make_directory(str(root), "/inside/new") as made:
        assert path_of(made) == f"{root}/etc/new"
    for way in ("/climbing/new", "/absolute/new"):
        with pytest.raises(OSError):
            make_directory(str(root), way)
    assert sorted(os.listdir(root.parent / "outside")) == ["secret"]


def test_a_dangling_link_is_no_way_to_make_something(root: Path) -> None:
    with pytest.raises(OSError):
        make_directory(str(root), "/dangling/x")
    assert not os.path.lexists("/nowhere")


def test_a_mode_is_set_on_what_is_there_and_on_what_is_made(root: Path) -> None:
    for path in ("/etc", "/made"):
        with make_directory(str(root), path, 0o1777):
            assert (root / path[1:]).stat().st_mode & 0o7777 == 0o1777
    with make_directory(str(root), "/etc"):
        assert (root / "etc").stat().st_mode & 0o7777 == 0o1777


def test_a_file_is_made_once_and_found_again(root: Path) -> None:
    with make_file(str(root), "/x/y") as made:
        assert path_of(made) == f"{root}/x/y"
    with make_file(str(root), "/etc/own") as found:
        assert path_of(found) == f"{root}/etc/own"
    assert (root / "etc/own").read_text() == "own"


def test_names_with_anything_in_them(root: Path) -> None:
    name = "/a\nb/ c:,\\\udcff"
    with make_directory(str(root), name):
        assert os.path.isdir(f"{root}{name}")
