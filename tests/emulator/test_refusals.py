"""What a session of the emulator is told that may not reach a host: what its environment lacks, never an option."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import anthropic

from tests.capabilities import need
from tests.emulator.talking import a_session, an_agent, an_environment, run
from tests.sessions.running import PYTHON, control, eventually

ASK = """
import socket, sys
with socket.create_connection(("any.test", 80), timeout=60) as connection:
    connection.sendall(f"GET / HTTP/1.1\\r\\nHost: {sys.argv[1]}\\r\\n\\r\\n".encode())
    print(b"".join(iter(lambda: connection.recv(4096), b"")).decode())
"""


def limited(*hosts: str, **more: bool) -> dict[str, Any]:
    return {"type": "cloud", "networking": {"type": "limited", "allowed_hosts": list(hosts), **more}}


def test_a_refusal_names_what_the_environment_lacks_and_that_opens_it(
    client: anthropic.Anthropic, empty_data_dir: Path
) -> None:
    need("user-namespaces", "overlay")
    agent = an_agent(client)
    environment = an_environment(client, **limited())
    closed = a_session(client, agent=agent, environment_id=environment)
    answer = run(client, closed, [PYTHON, "-Ic", ASK, "refused.test"])["stdout"]
    assert answer.startswith("HTTP/1.1 403 ") and "X-Sandbox-Denied: not-allowed" in answer
    told = answer.partition("To allow it: ")[2].strip()
    assert 'add "refused.test:80" to networking.allowed_hosts of the environment' in told
    assert "allow_package_managers" in told and "allow_mcp_servers" in told
    assert "--" not in told

    def egress() -> str:
        return control(empty_data_dir, "session", "egress", closed).out

    eventually(lambda: "refused.test" in egress(), "the record")
    assert f"to allow it: {told}" in egress()
    asked = control(empty_data_dir, "why", "refused.test:80", "--session", closed)
    assert (asked.code, f"to allow it: {told}" in asked.out) == (1, True)
    assert "sandboxsh" not in asked.out
    found = json.loads(control(empty_data_dir, "why", "refused.test:80", "--session", closed, "--json").out)
    assert (found["option"], found["to_allow"]) == (None, told)

    client.beta.environments.update(
        environment,
        config=limited(found["allowed_hosts_entry"], allow_mcp_servers=True),  # type: ignore[arg-type]
    )
    opened = a_session(client, agent=agent, environment_id=environment)
    # No such host is there: it was let out, and not found.
    assert "X-Sandbox-Failed: resolve" in run(client, opened, [PYTHON, "-Ic", ASK, "refused.test"])["stdout"]
    assert control(empty_data_dir, "why", "refused.test:80", "--session", opened).code == 0
    other = run(client, opened, [PYTHON, "-Ic", ASK, "other.test"])["stdout"]
    assert "other.test:80" in other and "allow_package_managers" in other and "allow_mcp" not in other
    # The session that there was keeps what it had.
    assert control(empty_data_dir, "why", "refused.test:80", "--session", closed).code == 1


def test_a_private_address_is_told_to_be_no_environment_s_to_open(
    client: anthropic.Anthropic, empty_data_dir: Path
) -> None:
    need("user-namespaces", "overlay")
    environment = an_environment(client, type="cloud", networking={"type": "unrestricted"})
    session = a_session(client, environment_id=environment)
    refused = control(empty_data_dir, "why", "10.1.2.3:5432", "--session", session)
    assert refused.code == 1
    told = "to allow it: no environment can; a session of sandboxsh can, with --allow-private 10.1.2.3/32"
    assert told in refused.out
    assert control(empty_data_dir, "why", "203.0.113.7:5432", "--session", session).code == 0
