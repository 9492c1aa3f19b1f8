"""``sandboxctl agent``, the real command."""

from __future__ import annotations

import json
from pathlib import Path

import anthropic
import pytest

from sandbox.emulator.embedded import Emulator
from tests.sessions.running import control

FILE = """\
name: reviewer
model: some-model
system: |
  Read.
  Then write.
tools:
  - type: agent_toolset_20260401
    configs: [{name: bash, enabled: false}]
"""


@pytest.fixture
def made(empty_data_dir: Path, tmp_path: Path) -> str:
    (tmp_path / "agent.yaml").write_text(FILE)
    done = control(empty_data_dir, "agent", "create", str(tmp_path / "agent.yaml"), "--metadata", "team=a")
    assert done.code == 0, done
    what, identifier, *rest = done.out.split()
    assert (what, rest) == ("created", ["reviewer", "version", "1"])
    return identifier


def test_an_agent_of_a_file_is_the_api_s(empty_data_dir: Path, made: str) -> None:
    with (
        Emulator(str(empty_data_dir), keep=True) as emulator,
        anthropic.Anthropic(base_url=emulator.base_url, api_key="k") as client,
    ):
        found = client.beta.agents.retrieve(made)
        assert (found.name, found.system, found.metadata) == (
            "reviewer",
            "Read.\nThen write.\n",
            {"team": "a"},
        )
        other = client.beta.agents.create(name="other", model="m")
        lines = control(empty_data_dir, "agent", "list").out.splitlines()
        assert [line.split()[:3] for line in lines] == [["other", other.id, "v1"], ["reviewer", made, "v1"]]


def test_a_change_makes_a_version(empty_data_dir: Path, made: str) -> None:
    done = control(
        empty_data_dir, "agent", "update", made, "--system", "Write.", "--if-version", "1", "--json"
    )
    new = json.loads(done.out)
    assert (new["version"], new["system"], new["name"]) == (2, "Write.", "reviewer")
    assert new["tools"][0]["configs"][0]["enabled"] is False
    again = control(empty_data_dir, "agent", "update", made, "--system", "Write.")
    assert again.out == f"unchanged {made} reviewer version 2\n"
    late = control(empty_data_dir, "agent", "update", made, "--system", "x", "--if-version", "1")
    assert late.code == 2 and "has version 2" in late.err
    assert len(control(empty_data_dir, "agent", "versions", made).out.splitlines()) == 2
    assert "Then write." in control(empty_data_dir, "agent", "show", made, "--version", "1").out
    assert "Then write." not in control(empty_data_dir, "agent", "show", made).out


def test_an_archived_agent_is_listed_on_request(empty_data_dir: Path, made: str) -> None:
    assert control(empty_data_dir, "agent", "archive", made).out.startswith("archived ")
    assert control(empty_data_dir, "agent", "list").out == ""
    assert json.loads(control(empty_data_dir, "agent", "list", "--archived", "--json").out)[0]["id"] == made


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["create", "--name", "a"], "model: is required"),
        (["create", "--name", "a", "--model", "m", "--metadata", "k"], "KEY=VALUE"),
        (["create", "gone.yaml"], "gone.yaml"),
        (["show", "agent_nobody"], "agent_nobody"),
        (["update", "agent_nobody", "--name", "x"], "agent_nobody"),
    ],
)
def test_a_mistake_is_2(empty_data_dir: Path, words: list[str], told: str) -> None:
    done = control(empty_data_dir, "agent", *words)
    assert (done.code, done.out) == (2, "")
    assert told in done.err


def test_a_file_s_mistake_names_the_line(empty_data_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "twice.yaml").write_text("name: a\nmodel: m\nname: b\n")
    done = control(empty_data_dir, "agent", "create", str(tmp_path / "twice.yaml"))
    assert done.code == 2 and "line 3" in done.err and "stands twice" in done.err
