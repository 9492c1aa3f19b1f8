"""``sandboxctl base``, the real command."""

import json
from pathlib import Path

import pytest

from tests.sessions.running import control


def test_the_machine_itself_is_always_listed(empty_data_dir: Path) -> None:
    done = control(empty_data_dir, "base", "list")
    assert done.code == 0
    assert [line.split()[0] for line in done.out.splitlines()] == ["NAME", "host"]


def test_the_list_as_json_has_what_was_made(empty_data_dir: Path) -> None:
    done = control(empty_data_dir, "base", "list", "--json")
    assert json.loads(done.out) == []


@pytest.mark.parametrize("name", ["nobody", "../etc", ""])
def test_removing_what_is_not_there_says_so(name: str, empty_data_dir: Path) -> None:
    done = control(empty_data_dir, "base", "remove", name)
    assert done.code == 2
    assert done.out == ""
    assert "base" in done.err


@pytest.mark.parametrize("name", ["host", "../etc", "UPPER case"])
def test_a_base_that_can_not_be_built_is_refused_before_anything_is_made(
    name: str, empty_data_dir: Path
) -> None:
    done = control(empty_data_dir, "base", "build", name)
    assert done.code == 2
    assert "base" in done.err
