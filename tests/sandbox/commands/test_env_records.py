"""``sandboxctl env create``, ``list``, ``show`` and the like, the real commands."""

from __future__ import annotations

import json
from pathlib import Path

import anthropic
import pytest
import yaml

from sandbox import environments, idmap, images
from sandbox.emulator.embedded import Emulator
from sandbox.managed import environments as managed
from sandbox.managed.database import Database
from tests.pkgcache.scripted import add_base
from tests.sessions.running import Ran, Sandbox, control

PLAIN = (
    "# mine\nname: plain\nconfig: {type: cloud, networking: {type: limited, allowed_hosts: [example.com]}}\n"
)
TOOLS = (
    "name: tools\n"
    "config: {type: cloud, packages: {pip: [six, toml], apt: [jq]}, networking: {type: unrestricted}}\n"
)


@pytest.fixture
def data(empty_data_dir: Path) -> Path:
    """A data directory that knows three environments, one of which a later version can't read any more."""
    data = empty_data_dir / "data"
    for name, text in (("plain", PLAIN), ("tools", TOOLS), ("old", "name: old\nconfig: {type: cloud}\n")):
        (empty_data_dir / f"{name}.yaml").write_text(text)
        done = control(data, "env", "create", "--no-build", str(empty_data_dir / f"{name}.yaml"))
        assert done.code == 0, done
        assert done.out.startswith("created env_") and done.out.endswith(f" {name}\n")
    database = Database(environments.records(str(data)))
    old = managed.find(database, "old")
    old["config"]["colour"] = "red"
    database.replace("environments", old)
    database.close()
    return data


def test_none_are_listed_where_there_are_none(empty_data_dir: Path) -> None:
    assert control(empty_data_dir, "env", "list") == Ran(0, "", "")


def test_the_list_has_packages_and_network_and_tells_what_is_unusable(data: Path) -> None:
    lines = control(data, "env", "list").out.splitlines()
    assert [line.split()[0] for line in lines] == ["old", "tools", "plain"]
    assert "colour" in lines[0]
    assert lines[1].endswith("unrestricted  apt: jq; pip: six, toml")
    assert lines[2].split()[2:] == ["limited", "-"]
    rows = json.loads(control(data, "env", "list", "--json").out)
    assert rows[1]["config"]["packages"]["pip"] == ["six", "toml"]
    assert [row["type"] for row in rows] == ["environment"] * 3


def test_an_environment_is_shown_as_a_file_that_makes_it(data: Path, tmp_path: Path) -> None:
    shown = control(data, "env", "show", "plain").out
    assert "# build: ready" in shown.splitlines()
    assert yaml.safe_load(shown)["config"]["networking"]["allowed_hosts"] == ["example.com"]
    (tmp_path / "again.yaml").write_text(shown)
    again = control(data, "env", "create", str(tmp_path / "again.yaml"), "--name", "again", "--json")
    assert (
        json.loads(again.out)["config"]
        == json.loads(control(data, "env", "show", "plain", "--json").out)["config"]
    )


def test_a_deleted_environment_is_known_no_more_and_the_others_are(data: Path) -> None:
    assert control(data, "env", "delete", "plain").out.startswith("deleted env_")
    assert control(data, "env", "show", "plain").code == 2
    assert control(data, "env", "show", "tools").code == 0


@pytest.mark.parametrize("command", ["show", "delete", "archive", "history", "update"])
@pytest.mark.parametrize("name", ["nobody", "../environments/plain", "", ".", "a/b"])
def test_what_is_not_there_is_refused(data: Path, command: str, name: str) -> None:
    done = control(data, "env", command, name)
    assert done.code == 2 and done.out == ""
    assert f"no environment {name!r}" in done.err
    assert len(control(data, "env", "list").out.splitlines()) == 3


def test_show_prints_the_policy_that_an_environment_comes_to(data: Path) -> None:
    shown = control(data, "env", "show", "--policy", "plain")
    assert shown == control(data, "policy", "plain")
    assert shown.code == 0
    assert "example.com" in shown.out
    assert "allowed_hosts" in shown.out


def test_an_environment_of_options_alone(empty_data_dir: Path) -> None:
    done = control(
        empty_data_dir, "env", "create", "--name", "o", "--allow", "a.example", "--allow", "*.b.example",
        "--allow-package-managers", "--pip", "six", "--npm", "tsx", "--metadata", "team=a=b", "--no-build", "--json",
    )  # fmt: skip
    made = json.loads(done.out)
    assert made["metadata"] == {"team": "a=b"}
    assert made["config"]["networking"] == {
        "type": "limited",
        "allowed_hosts": ["a.example", "*.b.example"],
        "allow_mcp_servers": False,
        "allow_package_managers": True,
    }
    assert (made["config"]["packages"]["pip"], made["config"]["packages"]["npm"]) == (["six"], ["tsx"])
    own = json.loads(control(empty_data_dir, "env", "create", "--name", "s", "--self-hosted", "--json").out)
    assert own["config"] == {"type": "self_hosted"}


def test_a_change_is_merged_and_the_history_tells_it(data: Path, tmp_path: Path) -> None:
    (tmp_path / "more.yaml").write_text(
        "description: d\nnetworking: {type: limited, allow_mcp_servers: true}\n"
    )
    done = control(data, "env", "update", "plain", str(tmp_path / "more.yaml"), "--metadata", "k=v", "--json")
    new = json.loads(done.out)
    assert (new["description"], new["metadata"]) == ("d", {"k": "v"})
    assert new["config"]["networking"]["allowed_hosts"] == ["example.com"]
    assert new["config"]["networking"]["allow_mcp_servers"] is True
    assert control(data, "env", "update", new["id"], "--metadata", "k=").out.startswith("updated env_")
    assert control(data, "env", "update", "plain").out.startswith("unchanged env_")
    lines = [line.split(maxsplit=2) for line in control(data, "env", "history", "plain").out.splitlines()]
    assert [(line[0], line[2]) for line in lines] == [
        ("3", "metadata.k"),
        ("2", "description, config.networking.allow_mcp_servers, metadata.k"),
        ("1", "created"),
    ]
    rows = json.loads(control(data, "env", "history", "plain", "--json").out)
    assert [row["revision"] for row in rows] == [3, 2, 1]


def test_an_archived_environment_frees_its_name(data: Path) -> None:
    assert control(data, "env", "archive", "plain").out.startswith("archived env_")
    assert "plain" not in control(data, "env", "list").out
    assert "archived" in control(data, "env", "list", "--archived").out
    done = control(data, "env", "create", "--name", "plain")
    assert done.code == 0, done
    again = control(data, "env", "create", "--name", "plain")
    assert again.code == 2 and "has the name" in again.err and again.out == ""


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--name", "x", "--metadata", "k"], "KEY=VALUE"),
        (["--name", "x", "--metadata", "anthropic=1"], "reserved"),
        (["--name", "x", "--allow", "http://a.example"], "allowed_hosts[0]"),
        (["--name", "x", "--net", "unrestricted", "--allow", "a.example"], "allowed_hosts"),
        (["--name", "x", "--pip=-r"], "packages.pip[0]"),
        ([], "name: is required"),
        (["none.yaml"], "none.yaml"),
    ],
)
def test_a_mistake_is_2_and_nothing_is_made(empty_data_dir: Path, words: list[str], told: str) -> None:
    done = control(empty_data_dir, "env", "create", *words)
    assert (done.code, done.out) == (2, ""), done
    assert told in done.err
    assert control(empty_data_dir, "env", "list").out == ""


def test_a_failed_build_is_shown(empty_data_dir: Path) -> None:
    add_base(images.store(str(empty_data_dir), idmap.choose(idmap.read_host_ids())))
    done = control(empty_data_dir, "env", "create", "--name", "x", "--pip", "six")
    assert (done.code, done.out) == (125, "")
    shown = control(empty_data_dir, "env", "show", "x").out
    told = done.err.strip().splitlines()[-1].removeprefix("sandboxctl: ")
    assert "# build: failed: " in shown
    assert "# log: " in shown
    assert told, shown
    build = json.loads(control(empty_data_dir, "env", "show", "x", "--json").out)["build"]
    assert (build["state"], build["problem"]["manager"]) == ("failed", "pip")


def test_commands_and_a_server_beside_them_work_on_the_same_records(empty_data_dir: Path) -> None:
    with (
        Emulator(str(empty_data_dir), keep=True) as emulator,
        anthropic.Anthropic(base_url=emulator.base_url, api_key="k") as client,
    ):
        by_client = client.beta.environments.create(name="by-client")
        assert by_client.id in control(empty_data_dir, "env", "list").out
        control(empty_data_dir, "env", "create", "--name", "by-command")
        assert [each.name for each in client.beta.environments.list()] == ["by-command", "by-client"]
        sandbox = Sandbox(empty_data_dir)
        for given in ("by-client", by_client.id):
            assert sandbox.ok("--env", given, "--", "echo", "ran") == "ran\n"
    assert sandbox.ok("--env", "by-command", "--", "echo", "ran") == "ran\n"
