"""What files are called, and of which kind they are."""

from __future__ import annotations

import pytest

from sandbox.managed.failures import Refused
from sandbox.managed.filenames import kind, produced, uploaded


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("a.txt", "a.txt"),
        ("/etc/passwd", "passwd"),
        ("..\\..\\a b.txt", "a b.txt"),
        ("../../..ä", "..ä"),
        ("", "unnamed.txt"),
        (None, "unnamed.txt"),
        ("folder/", "unnamed.txt"),
        ("x" * 255, "x" * 255),
    ],
)
def test_the_last_component_is_the_name(given: str | None, name: str) -> None:
    assert uploaded(given, "text/plain") == name


@pytest.mark.parametrize(
    "given", ["x" * 256, "a\0b", "a\nb", "..", ".", "\u202e", "\ud800", *(f"a{each}b" for each in '<>:"|?*')]
)
def test_what_no_file_can_be_called_is_refused(given: str) -> None:
    with pytest.raises(Refused):
        uploaded(given, "text/plain")


@pytest.mark.parametrize(
    ("path", "name"),
    [
        (b"report.csv", "report.csv"),
        (b"deep/er/report.csv", "report.csv"),
        (b"a\nb:c", "a_b_c"),
        (b"\xff\xfe.txt", "__.txt"),
        ("ä\u202e.txt".encode(), "ä_.txt"),
        (b"\\", "_"),
        (b". .", "_"),
    ],
)
def test_what_a_session_calls_its_files_is_made_a_name(path: bytes, name: str) -> None:
    assert produced(path) == name
    uploaded(name, "text/plain")


@pytest.mark.parametrize(
    ("name", "given", "found"),
    [
        ("a.csv", None, "text/csv"),
        ("A.PDF", "application/octet-stream", "application/pdf"),
        ("a.csv", "Text/Plain; charset=utf-8", "text/plain"),
        ("a", "not a type", "application/octet-stream"),
        ("a.txt", "text/plain\r\nX: y", "text/plain"),
        ("notes.md", "", "text/markdown"),
        ("a.tar.gz", "", "application/gzip"),
        ("noending", None, "application/octet-stream"),
    ],
)
def test_the_kind_is_what_is_said_or_what_the_name_says(name: str, given: str | None, found: str) -> None:
    assert kind(name, given) == found
