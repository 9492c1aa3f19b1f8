"""A link in what a session is given does not choose what else it gets."""

from pathlib import Path

import pytest

from sandbox.errors import InputError
from sandbox.given import check_links, holds


def test_what_a_directory_holds(tmp_path: Path) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "ab").mkdir()
    (tmp_path / "link").symlink_to("a")
    assert holds(str(tmp_path / "a"), str(tmp_path / "a"))
    assert holds(str(tmp_path / "a"), str(tmp_path / "link/b"))
    assert holds(str(tmp_path / "link"), str(tmp_path / "a/b/missing"))
    assert holds("/", str(tmp_path))
    assert not holds(str(tmp_path / "a"), str(tmp_path / "ab"))
    assert not holds(str(tmp_path / "a/b"), str(tmp_path / "a"))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A directory with links that lead out, and one that stays inside; and a link to that directory."""
    (tmp_path / "tree/real/deep").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "tree/out").symlink_to("../elsewhere")
    (tmp_path / "tree/real/far").symlink_to("/etc")
    (tmp_path / "tree/dangling").symlink_to("../not-there-yet")
    (tmp_path / "tree/inside").symlink_to("real")
    (tmp_path / "outside").symlink_to("elsewhere")
    (tmp_path / "other").symlink_to("tree")
    return tmp_path


@pytest.mark.parametrize("given", ["tree", "other"])
@pytest.mark.parametrize("prefix", ["tree", "other"])
@pytest.mark.parametrize(
    "name", ["out", "out/new", "real/far/passwd", "inside/far", "dangling", "dangling/x"]
)
def test_a_link_that_leads_out_of_it_is_refused(tree: Path, given: str, prefix: str, name: str) -> None:
    with pytest.raises(InputError, match="symbolic link") as caught:
        check_links([("--outputs", str(tree / prefix / name))], [str(tree / given)])
    assert str(caught.value).startswith(f"--outputs {tree / prefix / name}: ")


@pytest.mark.parametrize(
    "path",
    ["tree", "tree/new", "tree/inside/new", "tree/real/deep", "elsewhere", "outside", "outside/new", "other"],
)
def test_every_other_path_is_the_users_own_word(tree: Path, path: str) -> None:
    check_links([("--outputs", str(tree / path))], [str(tree / "tree")])
    check_links([("--outputs", str(tree / "tree/out"))], [])
