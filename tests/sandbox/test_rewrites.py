"""Where the user says that repositories are."""

from __future__ import annotations

from pathlib import Path

import pytest

from sandbox.errors import InputError
from sandbox.managed.rewrites import Rewrite, directory, find, parse, read


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("https://git.example/=/srv/git", Rewrite("https://git.example", "/srv/git")),
        ("https://git.example/a/b.git = file:///srv/b.git", Rewrite("https://git.example/a/b", "/srv/b")),
        (
            "https://git.example/a=http://127.0.0.1:8080/b/",
            Rewrite("https://git.example/a", "http://127.0.0.1:8080/b"),
        ),
    ],
)
def test_a_rewrite_is_read(text: str, found: Rewrite) -> None:
    assert parse(text) == found


@pytest.mark.parametrize(
    "text",
    [
        "",
        "https://git.example",
        "http://git.example=/srv",
        "https://git.example=srv/git",
        "https://git.example=ssh://x/y",
        "https://git.example=https://u:p@x/y",
        "git.example=/srv",
        "https://=/srv",
    ],
)
def test_what_is_no_rewrite_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="rewrite"):
        parse(text)


def test_the_rewrite_that_says_most_counts() -> None:
    rewrites = [
        parse("https://git.example=https://mirror.example/all"),
        parse("https://git.example/a/app=/srv/app"),
    ]
    assert find(rewrites, "https://git.example/a/app.git") == Rewrite("https://git.example/a/app", "/srv/app")
    other = find(rewrites, "https://git.example/a/apple")
    assert other == Rewrite("https://git.example/a/apple", "https://mirror.example/all/a/apple")
    assert find(rewrites, "https://git.example.com/a/app") is None


def test_the_records_folder_has_rewrites_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "rewrites").write_text("# mirrors\n\nhttps://git.example=https://mirror.example\n")
    (tmp_path / "rewrites.pem").write_bytes(b"PEM")
    given = read(str(tmp_path), ["https://other.example=/srv"], b"CA")
    assert [(each.url, each.ca) for each in given] == [
        ("https://other.example", b"CA"),
        ("https://git.example", b"PEM"),
    ]
    (tmp_path / "rewrites").write_text("nonsense\n")
    with pytest.raises(InputError, match="nonsense"):
        read(str(tmp_path))


def test_a_directory_is_found_with_and_without_git_at_its_end(tmp_path: Path) -> None:
    (tmp_path / "app.git").mkdir()
    assert directory(Rewrite("", f"{tmp_path}/app")) == f"{tmp_path}/app.git"
    assert directory(Rewrite("", f"{tmp_path}/gone")) == f"{tmp_path}/gone"
