"""``sandboxctl vault``, the real command."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

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


@pytest.mark.parametrize("body", ["auth: {type: password}\n", "auth: [", BODY.replace("TOKEN", "9")])
def test_a_mistake_is_2_and_tells_no_secret(empty_data_dir: Path, vault: str, body: str) -> None:
    (empty_data_dir / "bad.yaml").write_text(body)
    done = control(
        empty_data_dir / "data", "vault", "credential", "create", vault, str(empty_data_dir / "bad.yaml")
    )
    assert (done.code, done.out) == (2, "")
    assert "bad.yaml" in done.err and SECRET not in done.err
