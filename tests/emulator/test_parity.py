"""docs/parity.md against the official SDK and the routes that there are: nothing is claimed, nothing left out."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import anthropic
import httpx

from sandbox.emulator.embedded import Emulator

ROOT = Path(__file__).resolve().parents[2]
RESOURCES = Path(anthropic.__file__).parent / "resources"
SOURCES = ("agents", "environments", "sessions", "vaults", "files.py")
VERBS = {
    "_get": "GET",
    "_get_api_list": "GET",
    "_post": "POST",
    "_delete": "DELETE",
    "_put": "PUT",
    "_patch": "PATCH",
}
NOT_SENT = {
    "self",
    "betas",
    "workspace_id",
    "extra_headers",
    "extra_query",
    "extra_body",
    "timeout",
    # Headers of the work queue.
    "anthropic_worker_id",
}

NOT_ANSWERED: dict[str, set[str]] = {}
"""Fields of the SDK's objects that are left out here, by the name of its type."""


class Row(NamedTuple):
    """One line of the table: ``state`` is same, differs or not yet; ``missing`` are the fields not taken yet."""

    state: str
    missing: frozenset[str]


def _sources() -> Iterator[Path]:
    for name in SOURCES:
        found = RESOURCES / "beta" / name
        yield from [found] if found.suffix else sorted(found.rglob("*.py"))


def _calls_of_the_sdk() -> dict[str, set[str]]:
    """``METHOD /path`` → the names of what the SDK sends, for every call of the synchronous resources."""
    found: dict[str, set[str]] = {}
    for source in _sources():
        for kind in ast.parse(source.read_text(encoding="utf-8")).body:
            if not isinstance(kind, ast.ClassDef) or kind.name.startswith("Async") or "With" in kind.name:
                continue
            for method in kind.body:
                if isinstance(method, ast.FunctionDef):
                    for call, path in _requests(method):
                        sent = {argument.arg for argument in (*method.args.args, *method.args.kwonlyargs)}
                        sent -= NOT_SENT | set(re.findall(r"{(\w+)}", path))
                        found.setdefault(f"{call} {path}", set()).update(sent)
    return found


def _requests(method: ast.FunctionDef) -> Iterator[tuple[str, str]]:
    for node in ast.walk(method):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        verb = VERBS.get(node.func.attr)
        if verb is None or not node.args:
            continue
        first: ast.AST = node.args[0]
        if isinstance(first, ast.Call) and first.args:
            first = first.args[0]
        if isinstance(first, ast.Constant) and str(first.value).startswith("/v1/"):
            yield verb, str(first.value).partition("?")[0]


SDK = _calls_of_the_sdk()


def _table() -> dict[str, Row]:
    rows = {}
    text = (ROOT / "docs/parity.md").read_text(encoding="utf-8")
    for line in text.splitlines():
        found = re.fullmatch(r"\| `([A-Z]+ /v1/\S*)` \| (same|differs|not yet) \| ?(.*?) \| ?(.*?) ?\|", line)
        if found:
            rows[found[1]] = Row(found[2], frozenset(re.findall(r"`([\w.]+)`", found[3])))
    return rows


TABLE = _table()


def _unnamed(path: str) -> str:
    return re.sub(r"{\w+}", "{}", path)


def _taken(document: dict[str, Any]) -> dict[str, set[str]]:
    """``METHOD /path`` without the names of its parameters → the names of what the emulator takes."""
    found: dict[str, set[str]] = {}
    for path, operations in document["paths"].items():
        for verb, operation in operations.items():
            names = {one["name"] for one in operation.get("parameters", ()) if one["in"] != "path"}
            for content in operation.get("requestBody", {}).get("content", {}).values():
                names |= _fields(document, content["schema"])
            cleaned = {name.replace("[]", "").replace("[", "_").replace("]", "") for name in names}
            found[f"{verb.upper()} {_unnamed(path)}"] = cleaned
    return found


def _fields(document: dict[str, Any], schema: dict[str, Any]) -> set[str]:
    if "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    names = set(schema.get("properties", ()))
    for kind in ("anyOf", "oneOf", "allOf"):
        for part in schema.get(kind, ()):
            names |= _fields(document, part)
    return names


def test_the_sdk_was_read() -> None:
    assert "POST /v1/sessions/{session_id}/events" in SDK
    assert {"agent", "environment_id", "resources"} <= SDK["POST /v1/sessions"]
    assert len(SDK) > 40


def test_every_call_of_the_sdk_has_its_line_and_no_other_has() -> None:
    assert set(TABLE) == set(SDK)


def test_the_lines_say_what_is_there(emulator: Emulator) -> None:
    taken = _taken(httpx.get(f"{emulator.base_url}/openapi.json").json())
    wrong = []
    for call, row in TABLE.items():
        verb, path = call.split()
        found = taken.get(f"{verb} {_unnamed(path)}")
        if (found is not None) != (row.state != "not yet"):
            wrong.append(f"{call} is not {row.state}")
        if found is not None and SDK[call] - found != row.missing:
            wrong.append(f"{call}: what the SDK sends and the emulator doesn't take is {SDK[call] - found}")
    assert wrong == []


def test_a_difference_is_told_and_only_what_is_there_differs() -> None:
    for line in (ROOT / "docs/parity.md").read_text(encoding="utf-8").splitlines():
        if line.startswith("| `"):
            call, state, missing, how = (part.strip() for part in line.strip("|").split("|"))
            assert (state == "same") == (not missing and not how), f"{call}: {state}"


def test_answers_have_the_fields_that_the_sdk_knows_and_no_others(
    emulator: Emulator, client: anthropic.Anthropic
) -> None:
    """The kinds of objects, compared as they are on the wire: a field that is missing reads as None in the SDK."""
    agent = client.beta.agents.create(name="a", model="claude-opus-5-5")
    environment = client.beta.environments.create(name="e")
    session = client.beta.sessions.create(agent=agent.id, environment_id=environment.id)
    vault = client.beta.vaults.create(display_name="v")
    file = client.beta.files.upload(file=("a.txt", b"text", "text/plain"))
    for made in (agent, environment, session, vault, file):
        known, sent = set(type(made).model_fields), set(made.model_fields_set)
        extra = {name for name in sent - known if not name.startswith("_")}
        assert extra == set(), f"{type(made).__name__}: the SDK doesn't know {extra}"
        lacking = known - sent - NOT_ANSWERED.get(type(made).__name__, set())
        assert lacking == set(), f"{type(made).__name__}: {lacking} is not answered"
