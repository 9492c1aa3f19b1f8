"""Environment bodies: what is accepted means what it says, and all that is wrong is told at once."""

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.environment import (
    MANAGERS,
    NETWORKING_FIELDS,
    Checks,
    Environment,
    Networking,
    Packages,
    known_checks,
    parse,
    read,
)
from sandbox.errors import InputError


def one_word(text: str) -> tuple[str, str] | None:
    return None if text and " " not in text else ("is not one word", "remove the blanks")


CHECKS = Checks(one_word, dict.fromkeys(MANAGERS, one_word))

FULL: dict[str, Any] = {
    "name": "data-analysis",
    "description": "Two\nlines",
    "metadata": {"team": "data"},
    "scope": "organization",
    "config": {
        "type": "cloud",
        "networking": {
            "type": "limited",
            "allowed_hosts": ["api.example.test", "*.example.test"],
            "allow_mcp_servers": True,
            "allow_package_managers": True,
        },
        "packages": {
            "type": "packages",
            "apt": ["jq"],
            "cargo": ["ripgrep@14.1.1"],
            "gem": ["rails:7.1.0"],
            "go": ["tool.example.test/cmd@latest"],
            "npm": ["tsx"],
            "pip": ["pytest==8.3.4"],
        },
    },
}


def complaint(body: object, **options: bool) -> str:
    with pytest.raises(InputError) as caught:
        parse(body, CHECKS, source="env.yaml", **options)
    assert caught.value.exit_code == 2
    assert caught.value.hint
    assert str(caught.value).startswith("env.yaml: ")
    return f"{caught.value} ({caught.value.hint})"


def changed(path: tuple[str | int, ...], value: object) -> dict[str, Any]:
    """The full body with another value at `path`."""
    body = copy.deepcopy(FULL)
    place: Any = body
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    return body


def test_a_full_body_becomes_values() -> None:
    environment = parse(FULL, CHECKS, source="env.yaml")
    assert environment == Environment(
        "data-analysis",
        "Two\nlines",
        {"team": "data"},
        "organization",
        "cloud",
        Networking("limited", ("api.example.test", "*.example.test"), True, True),
        Packages(
            ("jq",),
            ("ripgrep@14.1.1",),
            ("rails:7.1.0",),
            ("tool.example.test/cmd@latest",),
            ("tsx",),
            ("pytest==8.3.4",),
        ),
    )
    assert list(environment.packages.wanted()) == ["apt", "cargo", "gem", "go", "npm", "pip"]


@pytest.mark.parametrize(
    "body",
    [
        FULL["config"],
        {"config": FULL["config"]},
        {key: FULL["config"][key] for key in ("networking", "packages")},
        {"name": "x", **FULL["config"]},
    ],
)
def test_a_configuration_means_the_same_with_and_without_the_body_around_it(body: object) -> None:
    environment = parse(body, CHECKS, source="env.yaml")
    full = parse(FULL, CHECKS, source="env.yaml")
    assert (environment.networking, environment.packages) == (full.networking, full.packages)


def test_a_service_may_demand_the_whole_body() -> None:
    assert 'networking: is not a known field (it belongs below "config")' in complaint(
        {"name": "x", "networking": {"type": "limited"}}, bare=False
    )
    assert "name: must not be empty" in complaint({"config": {}}, named=True)
    assert parse({"name": "x"}, CHECKS, source="the body", bare=False, named=True).name == "x"


@pytest.mark.parametrize(
    "body", [{}, {"config": None}, {"config": {}}, {"packages": None}, {"type": "cloud"}]
)
def test_networking_left_out_is_unrestricted_without_packages(body: object) -> None:
    environment = parse(body, CHECKS, source="env.yaml")
    assert environment.networking == Networking("unrestricted")
    assert environment.packages == Packages()
    assert environment.packages.wanted() == {}


def test_limited_networking_starts_with_nothing_allowed() -> None:
    environment = parse({"networking": {"type": "limited"}}, CHECKS, source="env.yaml")
    assert environment.networking == Networking("limited", (), False, False)


def test_the_old_name_of_limited_networking_allows_package_managers() -> None:
    body = {"networking": {"type": "package_managers_and_custom", "allowed_hosts": ["a.test"]}}
    environment = parse({**body, "packages": {"pip": ["six"]}}, CHECKS, source="env.yaml")
    assert environment.networking == Networking("limited", ("a.test",), False, True)
    body["networking"]["allow_package_managers"] = False  # type: ignore[assignment]
    assert "networking.allow_package_managers: is false" in complaint(body)


def test_a_self_hosted_environment_has_neither_networking_nor_packages() -> None:
    assert parse({"config": {"type": "self_hosted"}}, CHECKS, source="env.yaml").type == "self_hosted"
    told = complaint({"config": {"type": "self_hosted", "networking": {}, "packages": {}}})
    assert "config.networking: means nothing" in told
    assert "config.packages: means nothing" in told


@pytest.mark.parametrize(
    "networking", [{"type": "limited"}, {"type": "limited", "allow_package_managers": False}]
)
def test_packages_under_limited_networking_need_their_registries(networking: dict[str, object]) -> None:
    body = {"config": {"networking": networking, "packages": {"npm": [], "pip": ["six"]}}}
    told = complaint(body)
    assert (
        "config.networking.allow_package_managers: must be true: config.packages.pip names packages" in told
    )
    assert "write `allow_package_managers: true` below networking" in told
    networking["allow_package_managers"] = True
    assert parse(body, CHECKS, source="env.yaml").packages.pip == ("six",)


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ([], "must be a mapping of fields, but is a list"),
        ("x", "must be a mapping of fields, but is 'x'"),
        ({"name": ""}, "name: must not be empty"),
        ({"name": 7}, "name: must be text, but is the number 7 (put it in quotes)"),
        ({"name": "x" * 257}, "name: has 257 characters; 256 are allowed"),
        ({"name": "a\nb"}, r"name: has a control character in it: 'a\nb'"),
        ({"description": "x" * 2049}, "description: has 2049 characters; 2048"),
        ({"scope": "organisation"}, "scope: must be \"organization\", but is 'organisation' (did you mean"),
        ({"metadata": ["a"]}, "metadata: must be a mapping of text to text"),
        ({"metadata": {str(n): "" for n in range(17)}}, "metadata: has 17 pairs; 16 are allowed"),
        ({"metadata": {1: "a"}}, "metadata: has the key the number 1"),
        ({"metadata": {"k" * 65: "a"}}, "metadata: has the key 'kkk"),
        ({"metadata": {"a": 1}}, "metadata.a: must be text, but is the number 1"),
        ({"metadata": {"a": "x" * 513}}, "metadata.a: has 513 characters; 512"),
        ({"descripton": ""}, 'descripton: is not a known field (did you mean "description"?)'),
        ({"id": "env_1"}, "id: is not a known field (the service answers with it and doesn't take it"),
        ({"zzz": 1}, "zzz: is not a known field (remove it; the fields here are name, description,"),
        ({"apt": ["jq"]}, 'apt: is not a known field (it belongs below "packages")'),
        ({"allowed_hosts": []}, 'allowed_hosts: is not a known field (it belongs below "networking")'),
        ({"network": {}}, 'network: is not a known field (did you mean "networking"?)'),
        ({"config": {}, "networking": {}}, 'networking: is not a known field (it belongs below "config")'),
        (
            {"config": {"packages": {"python": []}}},
            'config.packages.python: is not a known field (did you mean "pip"?)',
        ),
        (
            {"type": "cluod"},
            'type: must be "cloud" or "self_hosted", but is \'cluod\' (did you mean "cloud"?)',
        ),
        ({"packages": ["jq"]}, "packages: must be a mapping of fields, but is a list (write a manager"),
        ({"packages": {"type": "list"}}, 'packages.type: must be "packages"'),
        (
            {"packages": {"pip": "pytest"}},
            "packages.pip: must be a list, but is 'pytest' (write it as a list: [pytest])",
        ),
        (
            {"packages": {"pip": ["six", 1.0]}},
            "packages.pip[1]: must be text (one pip package), but is the number 1.0",
        ),
        (
            {"packages": {"pip": [True]}},
            "packages.pip[0]: must be text (one pip package), but is the truth value true",
        ),
        ({"packages": {"pip": [None]}}, "packages.pip[0]: must be text (one pip package), but is empty"),
        (
            {"packages": {"pip": [{"six": "1.0"}]}},
            "packages.pip[0]: must be text (one pip package), but is a mapping",
        ),
        ({"packages": {"pip": [["six"]]}}, "packages.pip[0]: must be text (one pip package), but is a list"),
        ({"packages": {"pip": ["a b"]}}, "packages.pip[0]: is not one word (remove the blanks)"),
        ({"networking": None}, "networking: has nothing below it (write `type: limited` below it"),
        ({"config": {"networking": None}}, "config.networking: has nothing below it"),
        (
            {"networking": "limited"},
            "must be a mapping of fields, but is 'limited' (write `type: limited` below it)",
        ),
        ({"networking": {}}, 'networking.type: is missing (write "limited" or "unrestricted")'),
        ({"networking": {"type": "limitd"}}, "networking.type: must be"),
        (
            {"networking": {"type": "limited", "allowed_hosts": "a.test"}},
            "networking.allowed_hosts: must be a list",
        ),
        (
            {"networking": {"type": "limited", "allowed_hosts": ["a b"]}},
            "networking.allowed_hosts[0]: is not one",
        ),
        (
            {"networking": {"type": "limited", "allow_mcp_servers": "no"}},
            "allow_mcp_servers: must be true or false",
        ),
        (
            {"networking": {"type": "unrestricted", "allowed_hosts": ["a.test"]}},
            "allowed_hosts: limits nothing",
        ),
        (
            {"networking": {"type": "unrestricted", "allow_package_managers": True}},
            "managers: limits nothing",
        ),
    ],
)
def test_what_is_wrong_is_told_with_its_place_and_what_to_do(body: object, told: str) -> None:
    assert told in complaint(body)


def test_all_that_is_wrong_with_a_file_is_told_at_once_in_its_order() -> None:
    text = """\
descripton: x
config:
  networking:
    type: limited
    allowed_host: [a.test]
  packages:
    pip: pytest
    npm:
    - tsx
    - 1.0
    pip: [six]
"""
    with pytest.raises(InputError) as caught:
        read(text, CHECKS, source="env.yaml")
    first, *lines = str(caught.value).splitlines()
    assert first == "env.yaml: 4 things are wrong:"
    assert [line.strip().split(": ")[:2] for line in lines] == [
        ["line 1", "descripton"],
        ["line 5", "config.networking.allowed_host"],
        ["line 10", "config.packages.npm[1]"],
        ["line 11", "config.packages.pip"],
    ]


@pytest.mark.parametrize("text", ["", "[", "{", b"\xff", "a: 1\n---\n", "packages: {pip: [@a]}"])
def test_an_unreadable_file_is_named(text: str | bytes) -> None:
    with pytest.raises(InputError, match=r"^some/env\.yaml: ") as caught:
        read(text, CHECKS, source="some/env.yaml")
    assert caught.value.hint


def test_json_and_yaml_mean_the_same() -> None:
    import yaml

    assert read(json.dumps(FULL), CHECKS, source="env.json") == read(
        yaml.safe_dump(FULL), CHECKS, source="env.yaml"
    )


def test_a_problem_below_an_alias_is_told_too() -> None:
    text = "packages:\n  pip: &same [1.0]\n  npm: *same\n"
    with pytest.raises(InputError) as caught:
        read(text, CHECKS, source="env.yaml")
    assert "packages.pip[0]" in str(caught.value)
    assert "packages.npm[0]" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("packages: {pip: [six, '--index-url=x']}", "packages.pip[1]: '--index-url=x': it starts with '-'"),
        ("packages: {apt: [jq, '']}", "packages.apt[1]: '': it is empty"),
        (
            "networking: {type: limited, allowed_hosts: ['http://a.test']}",
            "networking.allowed_hosts[0]: host 'http",
        ),
        (
            "networking: {type: limited, allowed_hosts: [a.test, '*']}",
            "networking.allowed_hosts[1]: host '*'",
        ),
    ],
)
def test_hosts_and_specs_are_held_to_their_own_syntax(text: str, told: str) -> None:
    with pytest.raises(InputError) as caught:
        read(text, known_checks(), source="env.yaml")
    assert told in str(caught.value)
    good = "networking: {type: limited, allowed_hosts: ['*.a.test', 'https://b.test', 'c.test:80']}"
    assert len(read(good, known_checks(), source="env.yaml").networking.allowed_hosts) == 3


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10) | st.binary(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=6) | st.integers() | st.none(), inner, max_size=3)
    ),
    max_leaves=8,
)


def paths(value: object, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    found = [path] if path else []
    inner: list[tuple[str | int, object]] = []
    if isinstance(value, dict):
        inner = list(value.items())
    elif isinstance(value, list):
        inner = list(enumerate(value))
    for step, child in inner:
        found += paths(child, (*path, step))
    return found


@given(st.sampled_from(paths(FULL)), ANYTHING)
def test_any_value_anywhere_is_read_or_refused_with_a_hint(
    path: tuple[str | int, ...], value: object
) -> None:
    try:
        environment = parse(changed(path, value), CHECKS, source="env.yaml")
    except InputError as error:
        assert error.hint
        assert str(error).isprintable() or "\n" in str(error)
        return
    assert isinstance(environment, Environment)


@given(st.sampled_from([path for path in paths(FULL) if isinstance(path[-1], str)]), st.text(max_size=12))
def test_no_field_is_read_under_another_name(path: tuple[str | int, ...], name: str) -> None:
    body = changed(path, None)
    place: Any = body
    for step in path[:-1]:
        place = place[step]
    if name in place or path[0] == "metadata":
        return
    del place[path[-1]]
    place[name] = None
    with pytest.raises(InputError):
        parse(body, CHECKS, source="env.yaml", bare=False)


@given(
    st.fixed_dictionaries(
        {"type": st.sampled_from(["limited", "package_managers_and_custom"])},
        optional={
            "allowed_hosts": st.lists(st.sampled_from(["a.test", "b.test"])) | st.none(),
            "allow_mcp_servers": st.booleans() | st.none(),
            "allow_package_managers": st.booleans() | st.none(),
        },
    )
)
def test_what_says_limited_is_never_read_as_unrestricted(networking: dict[str, object]) -> None:
    assert set(networking) <= set(NETWORKING_FIELDS)
    try:
        environment = parse({"networking": networking}, CHECKS, source="env.yaml")
    except InputError:
        return
    assert environment.networking.type == "limited"
    assert environment.networking.allowed_hosts == tuple(networking.get("allowed_hosts") or ())  # type: ignore[arg-type]
