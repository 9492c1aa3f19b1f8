"""What a text of YAML or JSON becomes, and what is told about texts that can't be read."""

import json

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from sandbox.document import MAX_CHARACTERS, Document, load, show_path

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(st.text(max_size=8), PLAIN, max_size=5))
def test_json_objects_load_as_they_were_written(value: object) -> None:
    assert load(json.dumps(value)).value == value


@given(PLAIN.filter(lambda value: value is not None))
def test_yaml_loads_as_it_was_written_with_a_line_for_each_value(value: object) -> None:
    # The explicit start keeps an empty mapping, {}, from being read as JSON.
    document = load(yaml.safe_dump(value, explicit_start=True))
    assert document.value == value
    assert document.problems == ()
    assert document.lines[()] in (1, 2)


@given(st.text(max_size=200) | st.binary(max_size=200))
def test_any_text_loads_or_tells_why_not(text: str | bytes) -> None:
    document = load(text)
    assert document.value is not None or document.problems
    for problem in document.problems:
        assert problem.message
        assert problem.hint


@pytest.mark.parametrize(
    ("text", "message", "line"),
    [
        ("", "empty", None),
        (" \n", "empty", None),
        ("# only a comment\n", "no fields", None),
        ("null", "no fields", None),
        (b"\xff\xfe", "UTF-8", None),
        ("a: b: c", "mapping values are not allowed", 1),
        ("a: 1\n\tb: 2", "cannot start any token", 2),
        ("hosts:\n- *.example.test", "found '.'", 2),
        ("npm:\n- @scope/name", "'@'", 2),
        ("a: [1", "expected", 1),
        ("a: 1\n---\nb: 2", "another document", 2),
        ("a: 2024-13-01", "month", None),
        ("a: !!python/object:os.system {}", "constructor", 1),
        ("a: \x01", "YAML", None),
        ("? [1]\n: 2", "plain text", 1),
        ("a: &a {b: 1}\nc:\n  <<: *a", "merging", 3),
        ("[" * 5000, "deeply", None),
        ('{"a":' * 50_000, "deeply", None),
        ("x" * (MAX_CHARACTERS + 1), "characters", None),
    ],
)
def test_unreadable_texts_are_told_with_their_line(text: str | bytes, message: str, line: int | None) -> None:
    document = load(text)
    assert document.value is None
    (problem,) = document.problems
    assert message in problem.message
    assert problem.line == line
    assert problem.hint


def test_nested_aliases_cost_no_more_than_their_text() -> None:
    levels = "\n".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 30))
    assert load(f"a0: &a0 [x]\n{levels}").problems == ()


@pytest.mark.parametrize(
    ("text", "path", "lines"),
    [
        ("a: 1\na: 2", ("a",), (1, 2)),
        ("a:\n  b: 1\n  c: 2\n  b: 3", ("a", "b"), (2, 4)),
        ("a:\n- b: 1\n  'b': 3", ("a", 0, "b"), (2, 3)),
    ],
)
def test_a_key_that_stands_twice_in_yaml_is_told_with_both_lines(
    text: str, path: tuple[str | int, ...], lines: tuple[int, int]
) -> None:
    (problem,) = load(text).problems
    assert problem.path == path
    assert f"first on line {lines[0]}" in problem.message
    assert problem.line == lines[1]


def test_a_key_that_stands_twice_in_json_is_told_with_its_path() -> None:
    (problem,) = load('{"a": [{"b": 1, "b": 1}]}').problems
    assert problem.path == ("a", 0, "b")
    assert load('{"a": [{"b": 1}, {"b": 1}]}') == Document({"a": [{"b": 1}, {"b": 1}]})


def test_a_brace_may_open_yaml_too() -> None:
    assert load("{packages: {pip: [pytest]}}").value == {"packages": {"pip": ["pytest"]}}


def test_a_byte_order_mark_is_no_part_of_the_text() -> None:
    assert load(b"\xef\xbb\xbfa: b").value == {"a": "b"}


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ((), ""),
        (("config", "packages", "pip", 1), "config.packages.pip[1]"),
        ((0, "a-b_c"), "[0].a-b_c"),
        (("a", "b.c"), "a.'b.c'"),
        (("a\x1b[31m",), r"'a\x1b[31m'"),
        (("",), "''"),
    ],
)
def test_paths_read_as_people_write_them(path: tuple[str | int, ...], shown: str) -> None:
    assert show_path(path) == shown
