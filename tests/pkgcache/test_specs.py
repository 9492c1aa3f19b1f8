"""What is asked of all managers together; each manager's own syntax has a file of its own."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pkgcache.errors import InputError
from pkgcache.specs import MANAGERS, MAX_LENGTH, MAX_SPECS, parse, parse_packages

HOSTILE = (
    "",
    " ",
    "-y",
    "--index-url=https://evil.test",
    "-o APT::Update::Pre-Invoke::=id",
    "../../etc/passwd",
    "./package",
    "/etc/passwd",
    "~/package",
    "file:///etc/passwd",
    "https://evil.test/package.tar.gz",
    "git+https://evil.test/repository",
    "git+ssh://git@evil.test/repository",
    "name;id",
    "name`id`",
    "name$(id)",
    "name|id",
    "name&id",
    "name>file",
    "name\nother",
    "name\x00",
    "name\x1b[2J",
    "námě",
    "name @ https://evil.test/name.whl",
    "name --install-option=x",
    "a" * (MAX_LENGTH + 1),
    "'name'",
    '"name"',
    "*",
    "@",
    "@/",
)


@pytest.mark.parametrize("manager", MANAGERS)
@pytest.mark.parametrize("text", HOSTILE)
def test_nothing_hostile_passes_for_a_spec(manager: str, text: str) -> None:
    with pytest.raises(InputError) as refused:
        parse(manager, text)
    assert refused.value.exit_code == 2
    assert str(refused.value)


@pytest.mark.parametrize("manager", MANAGERS)
@given(text=st.text(max_size=60))
def test_whatever_passes_can_not_be_an_option_a_path_or_shell_text(manager: str, text: str) -> None:
    try:
        spec = parse(manager, text)
    except InputError:
        return
    assert spec.text.isascii() and spec.text.isprintable()
    assert spec.text[0] not in "-./~"
    assert not set(spec.text) & set("\n\r\t\0;&`$\"'\\(){}?#%!")
    assert "://" not in spec.text and ".." not in spec.text.split("/")


@pytest.mark.parametrize("manager", MANAGERS)
@given(text=st.text(alphabet="ab1.-_@/:=<>~^[], *|+", max_size=20))
def test_a_canonical_spec_reads_as_itself(manager: str, text: str) -> None:
    try:
        spec = parse(manager, text)
    except InputError:
        return
    assert parse(manager, spec.text) == spec


def test_managers_come_in_the_order_of_installation_whatever_order_they_are_given_in() -> None:
    given_packages = {"pip": ["b", "a"], "apt": ["jq"], "npm": ["tsx"], "gem": []}
    assert parse_packages(given_packages) == (("apt", ("jq",)), ("npm", ("tsx",)), ("pip", ("a", "b")))


def test_repetitions_fold() -> None:
    assert parse_packages({"pip": ["Foo.Bar", "foo-bar", "foo_bar "]}) == (("pip", ("foo-bar",)),)


def test_a_message_names_the_place_the_spec_and_the_reason() -> None:
    with pytest.raises(InputError, match=r"packages\.npm\[1\] 'no such': .*not an npm package name"):
        parse_packages({"npm": ["fine", "no such"]})


@pytest.mark.parametrize("manager", [manager for manager in MANAGERS if manager != "pip"])
def test_two_versions_of_one_package_are_refused(manager: str) -> None:
    separator = {"apt": "=", "cargo": "@", "gem": ":", "go": "@", "npm": "@"}[manager]
    name = "host.test/tool" if manager == "go" else "tool"
    with pytest.raises(InputError, match="asked for twice"):
        parse_packages({manager: [f"{name}{separator}1.0", f"{name}{separator}2.0"]})


def test_pip_takes_several_constraints_on_one_name() -> None:
    assert parse_packages({"pip": ["a>=1", "a<2"]}) == (("pip", ("a<2", "a>=1")),)


def test_an_unknown_manager_is_refused_by_name() -> None:
    with pytest.raises(InputError, match=r"packages\.brew: there is no package manager 'brew'"):
        parse_packages({"brew": ["jq"]})
    with pytest.raises(InputError, match="no package manager"):
        parse("brew", "jq")


@pytest.mark.parametrize("value", ["jq", 7, {"jq": 1}])
def test_a_list_of_packages_must_be_a_list(value: object) -> None:
    with pytest.raises(InputError, match=r"packages\.apt: must be a list"):
        parse_packages({"apt": value})  # type: ignore[dict-item]


def test_a_package_must_be_text() -> None:
    with pytest.raises(InputError, match=r"packages\.pip\[0\] 7: a package is text, not int"):
        parse_packages({"pip": [7]})  # type: ignore[list-item]


def test_the_number_of_packages_is_bounded() -> None:
    names = [f"package-{number}" for number in range(MAX_SPECS + 1)]
    assert parse_packages({"pip": names[:-1]})
    with pytest.raises(InputError, match="more than"):
        parse_packages({"pip": names})
