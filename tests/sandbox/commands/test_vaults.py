"""``sandboxctl vault``, the real command."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from sandbox.managed.credentials import reveal
from sandbox.managed.database import Database
from sandbox.managed.secrets import Secrets
from tests.sessions.running import SANDBOXCTL, control

SECRET = "s3cret-that-appears-nowhere"
BODY = (
    "auth:\n  type: environment_variable\n  secret_name: TOKEN\n"
    f"  secret_value: {SECRET}\n  networking: {{type: unrestricted}}\n"
)


@pytest.fixture
def vault(empty_data_dir: Path) -> str:
    done = control(empty_data_dir / "data", "vault", "create", "mine", "--metadata", "k=v", "--json")
    made = json.loads(done.out)
    assert (made["display_name"], made["metadata"]) == ("mine", {"k": "v"})
    return str(made["id"])


def test_a_credential_comes_from_a_file_and_its_secret_is_told_nowhere(
    empty_data_dir: Path, vault: str
) -> None:
    data, file = empty_data_dir / "data", empty_data_dir / "token.yaml"
    file.write_text(BODY)
    made = control(data, "vault", "credential", "create", vault, str(file))
    assert made.code == 0 and made.out.endswith(" TOKEN\n")
    other = subprocess.run(
        [SANDBOXCTL, "--data", str(data), "vault", "credential", "create", vault, "-", "--json"],
        input=BODY.replace("TOKEN", "OTHER"),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    told = [made.out, other.stdout, control(data, "vault", "credential", "list", vault, "--json").out]
    lines = control(data, "vault", "credential", "list", vault).out.splitlines()
    assert [line.split()[1:] for line in lines] == [
        ["OTHER", "environment_variable"],
        ["TOKEN", "environment_variable"],
    ]
    assert not any(SECRET in each for each in told)
    assert not any(SECRET.encode() in path.read_bytes() for path in data.rglob("*") if path.is_file())


def test_what_is_archived_or_deleted(empty_data_dir: Path, vault: str) -> None:
    data, file = empty_data_dir / "data", empty_data_dir / "token.yaml"
    file.write_text(BODY)
    made = control(data, "vault", "credential", "create", vault, str(file)).out.split()[1]
    assert control(data, "vault", "credential", "archive", vault, made).code == 0
    assert control(data, "vault", "credential", "list", vault).out == ""
    assert "archived" in control(data, "vault", "credential", "list", vault, "--archived").out
    assert control(data, "vault", "credential", "delete", vault, made).out.startswith("deleted vcrd_")
    assert control(data, "vault", "archive", vault).code == 0
    assert control(data, "vault", "list").out == ""
    assert vault in control(data, "vault", "list", "--archived").out
    assert control(data, "vault", "delete", vault).code == 0
    assert control(data, "vault", "delete", vault).code == 2


def test_a_vault_is_changed_by_options_and_by_a_file(empty_data_dir: Path, vault: str) -> None:
    data, file = empty_data_dir / "data", empty_data_dir / "change.yaml"
    done = control(data, "vault", "update", vault, "--name", "ours", "--metadata", "team=a")
    assert (done.code, done.out) == (0, f"updated {vault} ours\n")
    file.write_text("metadata: {k: null}\n")
    changed = json.loads(control(data, "vault", "update", vault, str(file), "--json").out)
    assert (changed["display_name"], changed["metadata"]) == ("ours", {"team": "a"})
    assert json.loads(control(data, "vault", "show", vault, "--json").out) == changed
    assert control(data, "vault", "update", vault, str(file)).out == f"unchanged {vault} ours\n"
    for wrong in ([], ["--metadata", "team"], ["--name", ""]):
        assert control(data, "vault", "update", vault, *wrong).code == 2, wrong
    file.write_text("name: other\n")
    done = control(data, "vault", "update", vault, str(file))
    assert (done.code, "name" in done.err) == (2, True)
    assert json.loads(control(data, "vault", "show", vault, "--json").out) == changed
    assert control(data, "vault", "archive", vault).code == 0
    assert control(data, "vault", "update", vault, "--name", "late").code == 2


def test_a_credential_gets_another_secret_and_tells_it_nowhere(empty_data_dir: Path, vault: str) -> None:
    data, file = empty_data_dir / "data", empty_data_dir / "token.yaml"
    file.write_text(BODY)
    made = json.loads(control(data, "vault", "credential", "create", vault, str(file), "--json").out)["id"]
    file.write_text(f"auth: {{type: environment_variable, secret_value: {SECRET}-2}}\n")
    done = control(data, "vault", "credential", "update", vault, made, str(file), "--name", "build", "--json")
    changed = json.loads(done.out)
    assert (done.code, changed["display_name"], changed["auth"]["secret_name"]) == (0, "build", "TOKEN")
    shown = control(data, "vault", "credential", "show", vault, made)
    assert "secret_name: TOKEN" in shown.out
    assert SECRET not in done.out + done.err + shown.out
    database, secrets = Database(f"{data}/managed/state.db"), Secrets(f"{data}/managed/secrets.key")
    assert reveal(database, secrets, made) == {"secret_value": f"{SECRET}-2"}
    database.close()
    file.write_text("auth: {type: static_bearer, token: t}\n")
    refused = control(data, "vault", "credential", "update", vault, made, str(file))
    assert (refused.code, "can't become" in refused.err) == (2, True)
    assert control(data, "vault", "credential", "update", vault, made).code == 2
    assert control(data, "vault", "credential", "update", "vlt_none", made, "--name", "x").code == 2


@pytest.mark.parametrize("body", ["auth: {type: password}\n", "auth: [", BODY.replace("TOKEN", "9")])
def test_a_mistake_is_2_and_tells_no_secret(empty_data_dir: Path, vault: str, body: str) -> None:
    (empty_data_dir / "bad.yaml").write_text(body)
    done = control(
        empty_data_dir / "data", "vault", "credential", "create", vault, str(empty_data_dir / "bad.yaml")
    )
    assert (done.code, done.out) == (2, "")
    assert "bad.yaml" in done.err and SECRET not in done.err
