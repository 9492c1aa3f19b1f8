"""``sandboxctl why`` and ``policy``, the real command."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import anthropic
import pytest

from netpolicy.policy import Request, compile_policy, decide
from sandbox.emulator.embedded import Emulator
from tests.capabilities import need
from tests.sessions.running import Ran, control

LIMITED = """
networking:
  type: limited
  allowed_hosts: [api.test, "*.wild.test", "db.test:5432", "plain.test:80"]
"""


@pytest.fixture
def limited(empty_data_dir: Path) -> tuple[Path, str]:
    file = empty_data_dir / "limited.yaml"
    file.write_text(LIMITED)
    return empty_data_dir / "data", str(file)


@pytest.mark.parametrize(
    ("target", "rule"),
    [
        ("api.test", "TLS to api.test on port 443"),
        ("https://API.test.", "TLS to api.test on port 443"),
        ("a.b.wild.test:443", "TLS to *.wild.test on port 443"),
        ("db.test:5432", "TCP to db.test on port 5432"),
        ("plain.test:80", "plain HTTP to plain.test on port 80"),
    ],
)
def test_what_is_allowed_is_told_with_its_rule_and_origin(
    target: str, rule: str, limited: tuple[Path, str]
) -> None:
    data, file = limited
    done = control(data, "why", target, "--env", file)
    assert (done.code, done.err) == (0, "")
    assert f"rule: {rule}  (allowed_hosts)" in done.out


@pytest.mark.parametrize(
    ("target", "entry"),
    [
        ("other.test", "other.test"),
        ("wild.test", "wild.test"),
        ("api.test:80", "api.test:80"),
        ("api.test:8443", "api.test:8443"),
        ("api.test:22", "api.test:22"),
    ],
)
def test_what_is_denied_is_told_with_what_to_add_and_adding_it_helps(
    target: str, entry: str, limited: tuple[Path, str]
) -> None:
    data, file = limited
    done = control(data, "why", target, "--env", file)
    assert done.code == 1
    assert done.out.startswith("denied: ")
    assert f'allowed_hosts: ["{entry}"]' in done.out
    assert control(data, "why", target, "--env", file, "--allow", entry).code == 0


def test_the_verdict_in_json_is_the_deciding_function_s(limited: tuple[Path, str]) -> None:
    data, file = limited
    done = control(data, "why", "other.test:5432", "--env", file, "--json")
    assert done.code == 1
    told = json.loads(done.out)
    hosts = ["api.test", "*.wild.test", "db.test:5432", "plain.test:80"]
    verdict = decide(compile_policy("limited", hosts), Request("tcp", "other.test", 5432))
    assert (told["allow"], told["reason"], told["code"]) == (False, verdict.reason, verdict.code)
    assert (told["option"], told["rule"], told["allowed_hosts_entry"]) == (
        verdict.hint,
        None,
        "other.test:5432",
    )
    allowed = json.loads(control(data, "why", "db.test:5432", "--env", file, "--json").out)
    assert allowed["rule"] == {
        "hosts": "db.test",
        "protocol": "tcp",
        "port": 5432,
        "private_addresses": False,
        "origin": "allowed_hosts",
    }


def test_without_an_environment_nothing_is_allowed(empty_data_dir: Path) -> None:
    assert control(empty_data_dir, "why", "api.test").code == 1
    assert control(empty_data_dir, "why", "api.test", "--allow", "api.test").code == 0


def test_an_address_is_denied_without_a_promise_that_naming_it_would_help(empty_data_dir: Path) -> None:
    done = control(empty_data_dir, "why", "192.0.2.1")
    assert done.code == 1
    assert "only names can be allowed" in done.out
    assert "to allow it" not in done.out


@pytest.mark.parametrize("target", ["*.api.test", "a b", "http://api.test", "api.test:53"])
def test_what_is_no_target_is_a_usage_error(target: str, empty_data_dir: Path) -> None:
    done = control(empty_data_dir, "why", target)
    assert (done.code, done.out) == (2, "")
    assert target in done.err


def test_the_policy_is_shown_with_origins(limited: tuple[Path, str]) -> None:
    data, file = limited
    done = control(data, "policy", file)
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines()[2] == "  allow TLS to api.test on port 443  (allowed_hosts)"
    told = json.loads(control(data, "policy", file, "--json").out)
    assert told["mode"] == "limited"
    assert [rule["origin"] for rule in told["rules"]] == ["allowed_hosts"] * 4


def test_servers_that_are_not_known_yet_are_told_as_such(empty_data_dir: Path) -> None:
    """Until the environment is built: an empty answer would look like a refusal for good."""
    file = empty_data_dir / "managers.yaml"
    file.write_text("networking: {type: limited, allow_package_managers: true}\n")
    done = control(empty_data_dir / "data", "policy", str(file))
    assert done.code == 0
    assert "allow_package_managers: code host" in done.out
    assert "sandboxctl env build" in done.err


def test_a_block_is_told_with_the_line_of_the_file(limited: tuple[Path, str]) -> None:
    data, file = limited
    listed = data.parent / "listed"
    listed.write_text("# kept out\napi.test\n203.0.113.0/24\n")
    done = control(data, "why", "api.test", "--env", file, "--blocklist", str(listed))
    assert done.code == 1
    assert f"blocklist: {listed}:2" in done.out
    assert "to allow it" not in done.out
    told = control(data, "policy", file, "--blocklist", str(listed)).out
    assert f"refuse 203.0.113.0/24  (blocklist: {listed}:3)" in told
    told = json.loads(control(data, "policy", file, "--blocklist", str(listed), "--json").out)
    assert {"blocked": "api.test", "origin": f"blocklist: {listed}:2"} in told["blocks"]  # type: ignore[index]


def test_an_unrestricted_session_is_told_of_addresses_too(empty_data_dir: Path) -> None:
    def asked(*arguments: str) -> tuple[int, str]:
        done = control(empty_data_dir, "why", "--net", "unrestricted", *arguments)
        return done.code, done.out

    assert asked("203.0.113.7:25")[0] == 0
    code, out = asked("10.1.2.3:5432")
    assert code == 1
    assert "--allow-private 10.1.2.3/32" in out
    assert asked("10.1.2.3:5432", "--allow-private", "10.1.2.3/32")[0] == 0
    code, out = asked("metadata.google.internal")
    assert (code, "blocklist: cloud metadata" in out) == (1, True)


def test_a_log_is_shown_for_people(empty_data_dir: Path) -> None:
    log = empty_data_dir / "log"
    records = [
        {"time": 0, "verdict": verdict, "host": f"{verdict}.test", "port": 443, "protocol": "tls"}
        for verdict in ("allowed", "denied", "failed")
    ]
    log.write_text("".join(json.dumps(record) + "\n" for record in records))
    assert len(control(empty_data_dir, "egress", str(log)).out.splitlines()) == 3
    (line,) = control(empty_data_dir, "egress", str(log), "--only", "denied").out.splitlines()
    assert "denied denied.test port 443, TLS" in line
    log.write_text("nothing\nof the kind\n")
    done = control(empty_data_dir, "egress", str(log))
    assert (done.code, f"{log}:1" in done.err) == (2, True)
    assert control(empty_data_dir, "egress", f"{log}.absent").code == 2


def test_a_session_s_policy_names_its_mcp_server_and_its_repository(
    empty_data_dir: Path, tmp_path: Path
) -> None:
    need("user-namespaces", "overlay")
    (tmp_path / "repository.git").mkdir()
    subprocess.run(["git", "init", "-q", "--bare", tmp_path / "repository.git"], check=True, timeout=60)
    rewrites = {"https://code.example/acme/app": str(tmp_path / "repository.git")}
    token = "the-token-that-is-not-told"
    with (
        Emulator(str(empty_data_dir), keep=True, rewrites=rewrites) as emulator,
        anthropic.Anthropic(base_url=emulator.base_url, api_key="k") as client,
    ):
        agent = client.beta.agents.create(
            name="a",
            model="m",
            tools=[{"type": "mcp_toolset", "mcp_server_name": "docs"}],
            mcp_servers=[{"type": "url", "name": "docs", "url": "https://mcp.example/sse"}],
        )
        environment = client.beta.environments.create(
            name="e",
            config={"type": "cloud", "networking": {"type": "limited", "allow_mcp_servers": True}},
        )
        session = client.beta.sessions.create(
            agent=agent.id,
            environment_id=environment.id,
            resources=[
                {
                    "type": "github_repository",
                    "url": "https://code.example/acme/app",
                    "authorization_token": token,
                }
            ],
        )

        def told(*arguments: str) -> Ran:
            return control(empty_data_dir, *arguments, "--session", session.id)

        printed = told("policy").out
        assert "the MCP server docs" in printed
        assert "code.example port 443, TLS, /acme/app" in printed
        assert "repository https://code.example/acme/app" in printed
        (attached,) = json.loads(told("policy", "--json").out)["attached"]
        assert (attached["host"], attached["adds"]) == ("code.example", "authorization")
        assert token not in printed + told("policy", "--json").out
        for host, code in (("mcp.example", 0), ("code.example", 0), ("other.example", 1)):
            assert told("why", host).code == code, host
        assert "/acme/app" in told("why", "code.example").out
        assert json.loads(told("why", "code.example", "--json").out)["attached"] == [attached]
        assert told("why", "mcp.example", "--env", "e").code == 2
