"""``sandboxctl env list``, ``show`` and ``remove``, the real commands."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.sessions.running import Ran, control

PLAIN = (
    "# mine\nname: plain\nconfig: {type: cloud, networking: {type: limited, allowed_hosts: [example.com]}}\n"
)


@pytest.fixture
def data(empty_data_dir: Path) -> Path:
    """A data directory that knows two environments, one of which a later version can't read any more."""
    (empty_data_dir / "plain.yaml").write_text(PLAIN)
    data = empty_data_dir / "data"
    assert control(data, "env", "build", str(empty_data_dir / "plain.yaml")).code == 0
    (data / "environments" / "old.yaml").write_text("name: old\nconfig: {type: cloud, colour: red}\n")
    (data / "environments" / "tools.yaml").write_text(
        "name: tools\n"
        "config: {type: cloud, packages: {pip: [six, toml], apt: [jq]}, networking: {type: unrestricted}}\n"
    )
    return data


def test_none_are_listed_where_there_are_none(empty_data_dir: Path) -> None:
    assert control(empty_data_dir, "env", "list") == Ran(0, "", "")


def test_the_list_has_packages_and_network_and_tells_what_is_unusable(data: Path) -> None:
    lines = control(data, "env", "list").out.splitlines()
    assert [line.split()[0] for line in lines] == ["old", "plain", "tools"]
    assert "colour" in lines[0]
    assert lines[1].split() == ["plain", "limited", "-"]
    assert lines[2].endswith("unrestricted  apt: jq; pip: six, toml")
    rows = json.loads(control(data, "env", "list", "--json").out)
    assert rows[2] == {
        "name": "tools",
        "packages": {"apt": ["jq"], "pip": ["six", "toml"]},
        "networking": "unrestricted",
        "problem": "",
    }


def test_an_environment_is_shown_as_it_was_written(data: Path) -> None:
    assert control(data, "env", "show", "plain").out == PLAIN


def test_a_removed_environment_is_known_no_more_and_the_others_are(data: Path) -> None:
    assert control(data, "env", "remove", "plain").out == "removed plain\n"
    assert control(data, "env", "show", "plain").code == 2
    assert control(data, "env", "show", "tools").code == 0


@pytest.mark.parametrize("command", ["show", "remove"])
@pytest.mark.parametrize("name", ["nobody", "../environments/plain", "", ".", "a/b"])
def test_what_is_not_there_is_refused_with_what_is(data: Path, command: str, name: str) -> None:
    done = control(data, "env", command, name)
    assert done.code == 2 and done.out == ""
    assert "plain, tools" in done.err
    assert control(data, "env", "show", "plain").code == 0


def test_show_prints_the_policy_that_an_environment_comes_to(data: Path) -> None:
    shown = control(data, "env", "show", "--policy", "plain")
    assert shown == control(data, "policy", "plain")
    assert shown.code == 0
    assert "example.com" in shown.out
    assert "allowed_hosts" in shown.out
    assert control(data, "env", "show", "plain").out == PLAIN
