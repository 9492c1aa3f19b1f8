"""One turn of a session over the Managed Agents API, with the standard library alone: turn.py ENVIRONMENT COMMAND.

The address and the key come from ANTHROPIC_BASE_URL and ANTHROPIC_API_KEY, as `sandboxctl serve` prints them. The
official SDKs do the same with less; see the README.
"""

import json
import os
import sys
import time
import urllib.request


def ask(method: str, path: str, body: object = None) -> dict:
    headers = {
        "x-api-key": os.environ["ANTHROPIC_API_KEY"],
        "anthropic-beta": "managed-agents-2026-04-01",
        "content-type": "application/json",
    }
    text = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(os.environ["ANTHROPIC_BASE_URL"] + path, text, headers, method=method)  # noqa: S310
    with urllib.request.urlopen(request, timeout=120) as answer:  # noqa: S310
        return json.load(answer)


def main(name: str, command: str) -> None:
    environments = ask("GET", "/v1/environments?limit=100")["data"]
    environment = next(each["id"] for each in environments if each["name"] == name)
    tools = [{"type": "agent_toolset_20260401"}]
    agent = ask("POST", "/v1/agents", {"name": "turn", "model": "claude-opus-5-5", "tools": tools})["id"]
    session = ask("POST", "/v1/sessions", {"agent": agent, "environment_id": environment})["id"]
    content = [{"type": "text", "text": f"```bash\n{command}\n```"}]
    ask("POST", f"/v1/sessions/{session}/events", {"events": [{"type": "user.message", "content": content}]})
    while ask("GET", f"/v1/sessions/{session}")["status"] == "running":
        time.sleep(0.05)
    for event in ask("GET", f"/v1/sessions/{session}/events")["data"]:
        if event["type"] == "agent.tool_result":
            print(event["content"][0]["text"])
    ask("DELETE", f"/v1/sessions/{session}")


if __name__ == "__main__":
    main(*sys.argv[1:])
