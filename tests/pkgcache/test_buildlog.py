from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pkgcache import buildlog
from pkgcache.buildlog import TAIL, BuildLog, printable

OUTPUT = b"first\n@sandbox\ttool\tgo\t1.2\nsecond\r\n\x1b[31mred\x1b[0m\nlast"


def told(path: Path, pieces: list[bytes]) -> tuple[list[str], list[tuple[str, ...]], str]:
    lines: list[str] = []
    with BuildLog(str(path), lines.append) as log:
        for piece in pieces:
            log.feed(piece)
    return lines, log.marks, path.read_text()


def test_lines_are_told_and_kept_and_marks_are_set_apart(tmp_path: Path) -> None:
    lines, marks, kept = told(tmp_path / "log", [OUTPUT])
    assert lines == ["first", "second", " [31mred [0m", "last"]
    assert marks == [("tool", "go", "1.2")]
    assert kept.splitlines() == lines


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=st.lists(st.integers(0, len(OUTPUT)), max_size=6))
def test_the_size_of_the_pieces_makes_no_difference(tmp_path: Path, cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(OUTPUT)]
    pieces = [OUTPUT[start:end] for start, end in pairwise(edges)]
    assert told(tmp_path / "log", pieces) == told(tmp_path / "other", [OUTPUT])


def test_one_byte_at_a_time_is_the_same(tmp_path: Path) -> None:
    pieces = [OUTPUT[at : at + 1] for at in range(len(OUTPUT))]
    assert told(tmp_path / "log", pieces) == told(tmp_path / "other", [OUTPUT])


def test_output_without_an_end_of_line_is_bounded(tmp_path: Path) -> None:
    lines, _, kept = told(tmp_path / "log", [b"x" * 10_000])
    assert max(map(len, lines)) <= 4096
    assert kept.replace("\n", "") == "x" * 10_000


@pytest.mark.parametrize(
    "said",
    [
        b"deprecated: \r@sandbox\tseal\r\n",
        b"deprecated: " + b"x" * (4096 - 12) + b"@sandbox\tseal\n",
        b"deprecated: " + b"x" * (4096 - 12) + b"@sandbox\tseal" + b" " * 4083 + b"\n",
        b"@sandbox\tpackage\ta\t1\t" + b"x" * 60_000 + b"\n",
    ],
    ids=["carriage return", "cut", "cut twice", "too long"],
)
@pytest.mark.parametrize("at_once", [False, True])
def test_only_a_whole_line_is_a_mark(tmp_path: Path, said: bytes, at_once: bool) -> None:
    """Programs of ours begin a line; what they quote of packages does not."""
    pieces = [said] if at_once else [said[i : i + 1] for i in range(len(said))]
    assert told(tmp_path / "log", pieces)[1] == []


def test_the_tail_holds_the_last_lines(tmp_path: Path) -> None:
    with BuildLog(str(tmp_path / "log"), lambda _: None) as log:
        for number in range(100):
            log.feed(b"%d\n" % number)
        assert list(log.tail) == [str(number) for number in range(100 - TAIL, 100)]


def test_a_saved_log_goes_on_at_its_new_place(tmp_path: Path) -> None:
    with BuildLog(str(tmp_path / "log"), lambda _: None) as log:
        log.note("before")
        log.save(str(tmp_path / "kept"))
        log.note("after")
    assert (tmp_path / "kept").read_text() == "before\nafter\n"
    assert not (tmp_path / "log").exists()


def test_a_log_that_grows_too_large_keeps_its_beginning_and_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(buildlog, "_HEAD", 1000)
    monkeypatch.setattr(buildlog, "_END", 2000)
    path, told = tmp_path / "log", 0
    with BuildLog(str(path), lambda _: None) as log:
        for number in range(5000):
            log.note(f"line {number} grün")
            log.finish_line()
            if number % 100 == 0:
                log._file.flush()
                assert path.stat().st_size <= 1000 + 2 * 2000 + 200
        told = number + 1
    first, between, last = re.fullmatch(
        r"((?:line \d+ grün\n)+)(\[.*\]\n)((?:line \d+ grün\n)+)", path.read_text()
    ).groups()  # type: ignore[union-attr]
    begin, end = ([int(line.split()[1]) for line in part.splitlines()] for part in (first, last))
    assert begin == list(range(len(begin))) and 900 < len(first.encode()) <= 1000
    assert end == list(range(told - len(end), told)) and len(last.encode()) >= 1900
    left_out = range(len(begin), told - len(end))
    octets = sum(len(f"line {number} grün\n".encode()) for number in left_out)
    assert between == (
        f"[{len(left_out)} lines of {octets} bytes are left out here: the log was too large]\n"
    )


def test_a_log_of_an_ordinary_size_is_whole(tmp_path: Path) -> None:
    with BuildLog(str(tmp_path / "log"), lambda _: None) as log:
        for number in range(20_000):
            log.feed(b"line %d\n" % number)
    assert (tmp_path / "log").read_text() == "".join(f"line {number}\n" for number in range(20_000))


@pytest.mark.parametrize("text", ["plain", "grün"])
def test_printable_text_stays_as_it_is(text: str) -> None:
    assert printable(text) == text


def test_control_characters_become_spaces() -> None:
    assert printable("a\x1b]0;title\x07b\u202ec") == "a ]0;title b c"
