from __future__ import annotations

import pytest

from pkgcache.errors import InputError
from pkgcache.sources import Target, addresses, check, choose

DEFAULT = (
    "deb http://archive.test/debian trixie main",
    "deb http://archive.test/debian trixie-updates main",
    'deb [signed-by="/usr/share/keyrings/k.gpg"] http://security.test/debian-security trixie-security main',
)


def test_the_bootstrap_tools_own_lines_serve_where_the_host_is_another_system() -> None:
    assert choose("trixie", None, DEFAULT, [Target("http://ubuntu.test/", "noble", "main")], "") == DEFAULT


def test_a_debian_hosts_mirrors_take_the_place_of_the_archives_that_they_mirror() -> None:
    host = [
        Target("https://mirror.corp.test/debian/", "bookworm", "main"),
        Target("http://extra.test/docker", "bookworm", "stable"),
        Target("http://second.test/debian", "bookworm", "main"),
        Target("https://mirror.corp.test/security", "bookworm-security", "main"),
        Target("cdrom:disk", "bookworm-updates", "main"),
    ]
    assert choose("trixie", None, DEFAULT, host, "bookworm") == (
        "deb https://mirror.corp.test/debian/ trixie main",
        "deb http://archive.test/debian trixie-updates main",
        'deb [signed-by="/usr/share/keyrings/k.gpg"] https://mirror.corp.test/security trixie-security main',
    )


def test_a_mirror_of_the_users_is_the_only_server() -> None:
    lines = choose("trixie", "http://mine.test/debian", DEFAULT, [], "bookworm")
    assert lines == ("deb http://mine.test/debian trixie main",)
    assert addresses(lines) == ("http://mine.test/debian",)


def test_lines_that_are_no_sources_are_passed_over() -> None:
    assert choose("trixie", None, ["# a comment", "", "deb-src http://a.test b c"], [], "") == ()


def test_addresses_are_those_of_the_lines() -> None:
    assert addresses(DEFAULT) == (
        "http://archive.test/debian", "http://archive.test/debian", "http://security.test/debian-security",
    )  # fmt: skip


@pytest.mark.parametrize("suite", ["trixie", "bookworm", "sid"])
def test_code_names_are_suites(suite: str) -> None:
    check(suite, None)


@pytest.mark.parametrize("suite", ["", "Trixie", "-x", "trixie main", "../x", "trixie\n"])
def test_other_words_are_not(suite: str) -> None:
    with pytest.raises(InputError, match="suite"):
        check(suite, None)


@pytest.mark.parametrize("mirror", ["http://a.test/debian", "https://a.test:8080/x/y/"])
def test_http_addresses_are_mirrors(mirror: str) -> None:
    check("trixie", mirror)


@pytest.mark.parametrize(
    "mirror",
    [
        "",
        "a.test",
        "file:///srv",
        "http://u:p@a.test/",
        "http://a.test/x y",
        "http://a.test/?x",
        "http://a.test/'",
    ],
)
def test_other_addresses_are_not(mirror: str) -> None:
    with pytest.raises(InputError, match="mirror"):
        check("trixie", mirror)
