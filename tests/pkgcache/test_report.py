from __future__ import annotations

import pytest

from pkgcache import report
from pkgcache.records import Locked
from pkgcache.runner import Endpoint


@pytest.mark.parametrize(
    "url, expected",
    [
        ("https://index.test/simple", ("https", "index.test", 443)),
        ("https://Index.TEST./simple/", ("https", "index.test", 443)),
        ("http://mirror.test/debian", ("http", "mirror.test", 80)),
        ("https://index.test", ("https", "index.test", 443)),
        ("https://index.test:8443/x?y#z", ("https", "index.test", 8443)),
        ("https://user:secret@index.test/simple", ("https", "index.test", 443)),
        ("sparse+https://index.test/", ("https", "index.test", 443)),
        (" https://index.test \n", ("https", "index.test", 443)),
    ],
)
def test_a_server_is_read_from_an_address(url: str, expected: tuple[str, str, int]) -> None:
    assert report.endpoint("pip", url, "/etc/pip.conf") == Endpoint("pip", *expected, "/etc/pip.conf")


@pytest.mark.parametrize(
    "url",
    ["", "direct", "off", "file:///srv/mirror", "cdrom:[Debian]/", "ftp://mirror.test/", "https://", "https://a b/",
     "https://index.test:0/", "https://index.test:99999/", "https://[::1]/", "index.test", "https:///x", "http:x"],
)  # fmt: skip
def test_what_names_no_server_is_none(url: str) -> None:
    assert report.endpoint("pip", url, "") is None


def test_a_server_without_a_source_is_built_in() -> None:
    server = report.endpoint("go", "https://proxy.test", "")
    assert server is not None and server.source == "built-in default"


def test_ordinary_lines_are_no_marks() -> None:
    assert report.read_mark("Collecting pytest") is None
    assert report.read_mark(" @sandbox\ttool\tgo\t1") is None
    assert report.read_mark("@sandbox\ttool\tgo\t1.2") == ("tool", "go", "1.2")


def test_marks_are_gathered_by_kind_and_odd_ones_are_passed_over() -> None:
    marks = [
        ("endpoint", "pip", "https://b.test/", "x"),
        ("endpoint", "npm", "https://a.test/", ""),
        ("endpoint", "pip", "https://b.test/other", "y"),
        ("endpoint", "pip"),
        ("tool", "go", "1.2"),
        ("tool", "npm", ""),
        ("tool",),
        ("follow", "pip", "index"),
        ("source", "deb a b c"),
        ("source", "deb a b c"),
        ("unheard",),
    ]
    assert report.endpoints(marks) == (
        Endpoint("npm", "https", "a.test", 443, "built-in default"),
        Endpoint("pip", "https", "b.test", 443, "x"),
    )
    assert report.tools(marks) == {"go": "1.2"}
    assert report.follows(marks) == ("index",)
    assert report.sources(marks) == ("deb a b c",)
    assert report.missing(marks) is None
    assert report.missing([*marks, ("missing", "npm")]) == "npm"
    assert report.phases(marks) == frozenset()
    assert report.phases([*marks, ("phase", "scripts"), ("phase", "a", "b")]) == {"scripts"}


def test_of_two_marks_for_a_package_the_one_with_a_hash_counts() -> None:
    marks = [
        ("package", "b", "1", ""),
        ("package", "b", "1", "sha256:0"),
        ("package", "b", "1", ""),
        ("package", "a", "2", ""),
    ]
    assert report.packages(marks) == (Locked("a", "2", ""), Locked("b", "1", "sha256:0"))


FAILURES = ((r"^late: (?P<package>\w+)", "the cause"), (r"^early: (?P<package>\w+)", "what followed"))


def test_a_cause_is_found_by_the_order_of_patterns_or_of_lines() -> None:
    lines = ("noise", "early: one", "late: two")
    assert report.most_telling(FAILURES, lines) == ("two", "the cause")
    assert report.first_told(FAILURES, lines) == ("one", "what followed")
    for find in (report.most_telling, report.first_told):
        assert find(FAILURES, ("noise",)) is None
