"""Reading the fields of a loaded mapping: each function returns what is usable and adds what is wrong to
`problems`, with the field's path, so that one pass over a file finds all of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from sandbox.document import Path, Problem

Problems = list[Problem]

Check = Callable[[str], tuple[str, str] | None]
"""What is wrong with a text and what to do about it, or None."""

Advice = Callable[[str, Path, tuple[str, ...]], str]
"""What to do about an unknown field, given its name, the path of the mapping and the names known there."""


def mapping(
    problems: Problems, value: object, path: Path, known: tuple[str, ...], example: str, advise: Advice
) -> dict[str, object]:
    """The known fields of a mapping that aren't null."""
    if not isinstance(value, dict):
        problems.append(Problem(path, f"must be a mapping of fields, but is {describe(value)}", example))
        return {}
    result: dict[str, object] = {}
    for key, inner in value.items():
        if not isinstance(key, str):
            hint = "put the name in quotes or remove it"
            problems.append(Problem(path, f"has a field whose name is {describe(key)}", hint))
        elif key not in known:
            problems.append(Problem((*path, key), "is not a known field", advise(key, path, known)))
        elif inner is not None:
            result[key] = inner
    return result


def text(
    problems: Problems, value: object, path: Path, limit: int, *, several_lines: bool = False
) -> str | None:
    """A string of at most `limit` characters, none of them a control character."""
    if not isinstance(value, str):
        hint = "put it in quotes" if is_scalar(value) else "write one piece of text"
        problems.append(Problem(path, f"must be text, but is {describe(value)}", hint))
        return None
    if len(value) > limit:
        problems.append(Problem(path, f"has {len(value)} characters; {limit} are allowed", "shorten it"))
        return None
    if not all(character.isprintable() or (several_lines and character in "\n\t") for character in value):
        message = f"has a control character in it: {describe(value)}"
        problems.append(Problem(path, message, "remove that character"))
        return None
    return value


def boolean(problems: Problems, value: object, path: Path) -> bool:
    """True or false; false for anything else."""
    if isinstance(value, bool):
        return value
    message = f"must be true or false, but is {describe(value)}"
    problems.append(Problem(path, message, "write true or false, without quotes"))
    return False


def one_of(problems: Problems, value: object, path: Path, choices: tuple[str, ...]) -> str | None:
    """One of a few words."""
    if isinstance(value, str) and value in choices:
        return value
    listed = " or ".join(f'"{choice}"' for choice in choices)
    close = nearest(value, choices) if isinstance(value, str) else None
    hint = f'did you mean "{close}"?' if close else f"write {listed}"
    problems.append(Problem(path, f"must be {listed}, but is {describe(value)}", hint))
    return None


def strings(problems: Problems, value: object, path: Path, what: str, check: Check) -> tuple[str, ...]:
    """A list of strings that each pass `check`; `what` says in a word what each stands for."""
    if not isinstance(value, list):
        hint = f"write it as a list: [{_item(value)}]"
        problems.append(Problem(path, f"must be a list, but is {describe(value)}", hint))
        return ()
    good = []
    for index, item in enumerate(value):
        place = (*path, index)
        if isinstance(item, str):
            complaint = check(item)
            if complaint is None:
                good.append(item)
            else:
                problems.append(Problem(place, *complaint))
            continue
        if is_scalar(item):
            hint = "put it in quotes if that is its name, or remove it"
        else:
            hint = f"write each {what} as one text, in quotes if it has a colon or brackets"
        problems.append(Problem(place, f"must be text (one {what}), but is {describe(item)}", hint))
    return tuple(good)


def describe(value: object) -> str:
    """A value as a person reads it in a message: its text when short, and what kind of thing it is."""
    if value is None:
        return "empty"
    if isinstance(value, bool):
        return f"the truth value {str(value).lower()}"
    if isinstance(value, (int, float)):
        return f"the number {value!r}"
    if isinstance(value, str):
        return ascii(value if len(value) <= 60 else value[:57] + "...")
    if isinstance(value, list):
        return "a list"
    if isinstance(value, dict):
        return "a mapping"
    return f"a {type(value).__name__}"


def is_scalar(value: object) -> bool:
    """Neither a list nor a mapping."""
    return not isinstance(value, (list, dict))


def _item(value: object) -> str:
    if isinstance(value, str) and value.isprintable() and 0 < len(value) <= 60:
        return f'"{value}"' if any(mark in value for mark in ",[]{}:#&*!|>'\"%@`= ") else value
    return "..."


def nearest(word: str, words: Iterable[str]) -> str | None:
    """The one of `words` that `word` may be a slip for."""
    import difflib

    close = difflib.get_close_matches(word.lower(), list(words), n=1, cutoff=0.6)
    return close[0] if close else None
