"""Single fields: what is usable comes back, what is wrong is added with its path, a reason and an advice."""

import datetime
from collections.abc import Callable

import pytest

from sandbox import fields
from sandbox.document import Problem


def no_advice(key: str, path: tuple[str | int, ...], known: tuple[str, ...]) -> str:
    return "advice"


def shorter_than_five(text: str) -> tuple[str, str] | None:
    return None if len(text) < 5 else ("is too long", "shorten it")


@pytest.mark.parametrize(
    ("read", "good", "result"),
    [
        (lambda p, v: fields.text(p, v, ("f",), 5), "ab cd", "ab cd"),
        (lambda p, v: fields.text(p, v, ("f",), 5, several_lines=True), "a\n\tb", "a\n\tb"),
        (lambda p, v: fields.boolean(p, v, ("f",)), True, True),
        (lambda p, v: fields.one_of(p, v, ("f",), ("red", "blue")), "red", "red"),
        (lambda p, v: fields.strings(p, v, ("f",), "word", shorter_than_five), ["a", "a"], ("a", "a")),
        (lambda p, v: fields.strings(p, v, ("f",), "word", shorter_than_five), [], ()),
        (lambda p, v: fields.mapping(p, v, ("f",), ("a", "b"), "", no_advice), {"a": 1, "b": None}, {"a": 1}),
    ],
)
def test_good_values_come_back_without_a_problem(
    read: Callable[[list[Problem], object], object], good: object, result: object
) -> None:
    problems: list[Problem] = []
    assert read(problems, good) == result
    assert problems == []


@pytest.mark.parametrize(
    ("read", "bad", "path", "message", "hint"),
    [
        (lambda p, v: fields.text(p, v, ("f",), 5), 1.5, ("f",), "the number 1.5", "quotes"),
        (lambda p, v: fields.text(p, v, ("f",), 5), ["a"], ("f",), "a list", "one piece"),
        (lambda p, v: fields.text(p, v, ("f",), 5), "abcdef", ("f",), "6 characters; 5", "shorten"),
        (lambda p, v: fields.text(p, v, ("f",), 5), "a\nb", ("f",), r"'a\nb'", "remove"),
        (lambda p, v: fields.text(p, v, ("f",), 5), "\ud800", ("f",), r"'\ud800'", "remove"),
        (lambda p, v: fields.boolean(p, v, ("f",)), "yes", ("f",), "'yes'", "without quotes"),
        (lambda p, v: fields.boolean(p, v, ("f",)), 1, ("f",), "the number 1", "without quotes"),
        (lambda p, v: fields.one_of(p, v, ("f",), ("red", "blue")), "bleu", ("f",), "'bleu'", '"blue"?'),
        (lambda p, v: fields.one_of(p, v, ("f",), ("red", "blue")), None, ("f",), "empty", '"red" or "blue"'),
        (lambda p, v: fields.strings(p, v, ("f",), "word", shorter_than_five), "ab", ("f",), "'ab'", "[ab]"),
        (lambda p, v: fields.strings(p, v, ("f",), "word", shorter_than_five), "a b", ("f",), "", '["a b"]'),
        (
            lambda p, v: fields.strings(p, v, ("f",), "word", shorter_than_five),
            {},
            ("f",),
            "a mapping",
            "[...]",
        ),
        (
            lambda p, v: fields.strings(p, v, ("f",), "word", shorter_than_five),
            ["a", 1.0],
            ("f", 1),
            "the number 1.0",
            "quotes",
        ),
        (
            lambda p, v: fields.strings(p, v, ("f",), "word", shorter_than_five),
            ["a", {"b": "c"}],
            ("f", 1),
            "a mapping",
            "colon",
        ),
        (
            lambda p, v: fields.strings(p, v, ("f",), "word", shorter_than_five),
            ["abcdef", "a"],
            ("f", 0),
            "is too long",
            "shorten it",
        ),
        (
            lambda p, v: fields.mapping(p, v, ("f",), ("a",), "write a", no_advice),
            [],
            ("f",),
            "a list",
            "write a",
        ),
        (
            lambda p, v: fields.mapping(p, v, ("f",), ("a",), "", no_advice),
            {"x": 1},
            ("f", "x"),
            "known",
            "advice",
        ),
        (
            lambda p, v: fields.mapping(p, v, ("f",), ("a",), "", no_advice),
            {False: 1},
            ("f",),
            "false",
            "quotes",
        ),
    ],
)
def test_bad_values_are_told_with_path_reason_and_advice(
    read: Callable[[list[Problem], object], object],
    bad: object,
    path: tuple[str | int, ...],
    message: str,
    hint: str,
) -> None:
    problems: list[Problem] = []
    read(problems, bad)
    (problem,) = problems
    assert problem.path == path
    assert message in problem.message
    assert hint in problem.hint


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("x" * 61, "'" + "x" * 57 + "...'"),
        ("\x1b[2J", r"'\x1b[2J'"),
        (datetime.date(2024, 1, 1), "a date"),
        (b"", "a bytes"),
    ],
)
def test_values_are_shown_short_and_harmless_to_a_terminal(value: object, shown: str) -> None:
    assert fields.describe(value) == shown
