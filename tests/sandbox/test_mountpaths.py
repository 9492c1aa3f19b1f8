"""Where a session's files and repositories may stand."""

from __future__ import annotations

import pytest

from sandbox.managed.mountpaths import collision, default_repository, nothing, problem, take

FILES_MAY = (
    "/mnt/session/uploads/file_1",
    "/workspace/data/input.csv",
    "/root/.netrc",
    "/etc/app/config.toml",
    "/usr/local/bin/tool",
    "/a",
    "/with blank/ä.txt",
)
FILES_MAY_NOT = (
    "",
    "/",
    "relative",
    "workspace/../x",
    "/workspace/../etc/passwd",
    "/workspace/./x",
    "/workspace//x",
    "/workspace/x/",
    "/a\0b",
    "/a\nb",
    "/\u202eb",
    "/\ud800",
    "/" + "x" * 256,
    "/x" * 600,
    "/proc/self/mem",
    "/proc",
    "/sys/x",
    "/dev/null",
    "/mnt/session/outputs",
    "/mnt/session/outputs/x",
    "/mnt/session/.attached/x",
    "/mnt/session/remotes/x",
    "/mnt/session/uploads",
    "/mnt/session",
    "/mnt",
    "/workspace",
    "/usr",
    "/etc/passwd",
    "/etc/resolv.conf",
    "/etc/ld.so.preload",
    "/etc/ssl/certs/ca-certificates.crt",
)
REPOSITORIES_MAY = (
    "/workspace/app",
    "/workspace",
    "/repo",
    "/root/src",
    "/usr/src/linux",
    "/usr/local/src/x",
    "/mnt/code",
)
REPOSITORIES_MAY_NOT = (
    *(path for path in FILES_MAY_NOT if path != "/workspace"),
    "/etc",
    "/etc/app",
    "/usr/local/bin",
    "/lib/x",
    "/root",
    "/tmp",
    "/var",
    "/mnt/session/uploads/repo",
)


@pytest.mark.parametrize("path", FILES_MAY)
def test_a_file_may_stand_there(path: str) -> None:
    assert problem(path, directory=False) is None


@pytest.mark.parametrize("path", FILES_MAY_NOT)
def test_a_file_may_not_stand_there(path: str) -> None:
    assert problem(path, directory=False)


@pytest.mark.parametrize("path", REPOSITORIES_MAY)
def test_a_repository_may_stand_there(path: str) -> None:
    assert problem(path, directory=True) is None


@pytest.mark.parametrize("path", REPOSITORIES_MAY_NOT)
def test_a_repository_may_not_stand_there(path: str) -> None:
    assert problem(path, directory=True)


@pytest.mark.parametrize(
    ("path", "directory", "other", "in_the_way"),
    [
        ("/a", False, ("/a", False), True),
        ("/a", True, ("/a", False), True),
        ("/a/b", False, ("/a", False), True),
        ("/a", False, ("/a/b", False), True),
        ("/a/b", True, ("/a", True), True),
        ("/a", True, ("/a/b", True), True),
        ("/a", False, ("/a/b", True), True),
        ("/a/b", True, ("/a", False), True),
        ("/a/b", False, ("/a", True), False),
        ("/a", True, ("/a/b", False), False),
        ("/ab", False, ("/a", False), False),
        ("/a", False, ("/ab", True), False),
    ],
)
def test_two_things_that_exclude_each_other(
    path: str, directory: bool, other: tuple[str, bool], in_the_way: bool
) -> None:
    taken = nothing()
    take(taken, other[0], directory=other[1])
    assert collision(path, directory=directory, taken=taken) == (other[0] if in_the_way else None)


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("https://git.example/acme/app", "/workspace/app"),
        ("https://git.example/acme/app.git/", "/workspace/app"),
        ("https://git.example/acme/.git", "/workspace/repository"),
        ("https://git.example/acme/a!b", "/workspace/a_b"),
        ("https://git.example/acme/-rf", "/workspace/rf"),
    ],
)
def test_a_repository_stands_below_the_workspace(url: str, path: str) -> None:
    assert default_repository(url) == path
    assert problem(path, directory=True) is None
