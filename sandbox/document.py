"""From the text of a YAML or JSON file to plain values, refusing what a reader would misjudge.

Both formats let a key stand twice in one mapping and keep the last value without a word. Here that is an
error, so that a second `allowed_hosts` further down can't replace the one a reviewer saw.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import yaml

MAX_CHARACTERS = 1 << 18

Path = tuple[str | int, ...]


class Problem(NamedTuple):
    """One thing wrong at one place: where it stands, what is wrong with it, what to do about it."""

    path: Path
    message: str
    hint: str = ""
    line: int | None = None


class Document(NamedTuple):
    """The plain value of a text (dict, list, str, int, float, bool, None, date), what is wrong with the text,
    and the line, counted from 1, on which each path's value starts where the format tells."""

    value: object
    problems: tuple[Problem, ...] = ()
    lines: Mapping[Path, int] = MappingProxyType({})


def show_path(path: Path) -> str:
    """`("config", "packages", "pip", 1)` as `config.packages.pip[1]`."""
    shown = ""
    for step in path:
        if isinstance(step, int):
            shown += f"[{step}]"
            continue
        plain = step.replace("_", "").replace("-", "").isalnum() and step.isascii() and len(step) <= 40
        word = step if plain else ascii(step if len(step) <= 40 else step[:37] + "...")
        shown += f".{word}" if shown else word
    return shown


def load(text: str | bytes, longest: int = MAX_CHARACTERS) -> Document:
    """The value of one YAML or JSON document. What makes the text unreadable is told in `problems`; the value
    is then None. A text that starts with a brace is read as JSON first, as YAML when it isn't JSON."""
    if isinstance(text, bytes):
        try:
            text = text.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            return _unreadable(f"byte {error.start} is not UTF-8", "save the file as UTF-8 text")
    if len(text) > longest:
        return _unreadable(f"more than {longest} characters", "is this the right file?")
    if not text.strip():
        return _unreadable("the file is empty", "write at least `packages:` or `networking:` with its fields")
    try:
        if text.lstrip().startswith("{"):
            found = _load_json(text)
            if found is not None:
                return found
        return _load_yaml(text)
    except RecursionError:
        return _unreadable("nested too deeply to be read", "an environment needs four levels")


def _unreadable(message: str, hint: str, line: int | None = None) -> Document:
    return Document(None, (Problem((), message, hint, line),))


class _Pairs(list[tuple[str, object]]):
    """A JSON object before its keys are known to differ."""


def _load_json(text: str) -> Document | None:
    import json

    try:
        raw = json.loads(text, object_pairs_hook=_Pairs)
    except ValueError:
        return None
    problems: list[Problem] = []
    value = _from_pairs(raw, (), problems)
    return Document(value, tuple(problems))


def _from_pairs(raw: object, path: Path, problems: list[Problem]) -> object:
    if isinstance(raw, _Pairs):
        result: dict[str, object] = {}
        for key, inner in raw:
            if key in result:
                problems.append(_twice((*path, key)))
            result[key] = _from_pairs(inner, (*path, key), problems)
        return result
    if isinstance(raw, list):
        return [_from_pairs(inner, (*path, index), problems) for index, inner in enumerate(raw)]
    return raw


def _twice(path: Path, line: int | None = None, first: int | None = None) -> Problem:
    where = f" (first on line {first})" if first is not None else ""
    return Problem(path, f"stands twice{where}", "keep one of them: only the last would count", line)


def _load_yaml(text: str) -> Document:
    import yaml

    loader = None
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        problems: list[Problem] = []
        lines: dict[Path, int] = {}
        if node is not None and not _survey(node, (), problems, lines, set()):
            return Document(None, tuple(problems), lines)
        value = None if node is None else loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        return _unreadable(
            f"not readable as YAML: {error.problem or error.context}",
            "check the indentation there, and put names with *, @, [ or : in quotes",
            None if mark is None else mark.line + 1,
        )
    except yaml.YAMLError as error:
        return _unreadable(f"not readable as YAML: {str(error).splitlines()[0]}", "remove that character")
    except ValueError as error:
        # A plain scalar that has the shape of a date or a number and isn't one, such as 2024-13-01.
        return _unreadable(f"not readable as YAML: {error}", "put values that are meant as text in quotes")
    finally:
        if loader is not None:
            loader.dispose()
    if value is None and not problems:
        return _unreadable(
            "the file holds no fields", "write at least `packages:` or `networking:` with its fields"
        )
    return Document(value, tuple(problems), lines)


def _survey(
    node: yaml.Node, path: Path, problems: list[Problem], lines: dict[Path, int], seen: set[int]
) -> bool:
    """Notes the line of each value and complains about keys that stand twice. False when there is something
    that must not be built at all: a key that is no text, or a merge, whose size can double with each line.
    A node reached again through an alias is looked at once, so that nested aliases cost nothing."""
    import yaml

    lines[path] = node.start_mark.line + 1
    if id(node) in seen:
        return True
    seen.add(id(node))
    good = True
    if isinstance(node, yaml.SequenceNode):
        for index, inner in enumerate(node.value):
            good &= _survey(inner, (*path, index), problems, lines, seen)
    if not isinstance(node, yaml.MappingNode):
        return good
    first: dict[str, int] = {}
    for key, inner in node.value:
        line = key.start_mark.line + 1
        if not isinstance(key, yaml.ScalarNode):
            problems.append(Problem(path, "a field's name must be plain text", "write `name: value`", line))
            good = False
            continue
        name = str(key.value)
        if key.tag == "tag:yaml.org,2002:merge":
            problems.append(Problem((*path, name), "merging is not read", "write the fields out", line))
            good = False
            continue
        if name in first:
            problems.append(_twice((*path, name), line, first[name]))
        first.setdefault(name, line)
        good &= _survey(inner, (*path, name), problems, lines, seen)
        lines[(*path, name)] = line
    return good
