"""Runs one session with credentials, for tests: what it is to be comes as JSON on standard input.

In a process of its own, as the command would: the session's supervisor forks, and has the signals.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from typing import Any


def tell(words: dict[str, Any]) -> None:
    """A line of JSON on standard output, whole, whichever thread it is from."""
    os.write(1, json.dumps(words).encode() + b"\n")


def main() -> None:
    said = json.loads(sys.stdin.readline())
    from netpolicy.credentials import repository, with_ports
    from netpolicy.policy import ConnectTo, compile_policy, listening_ports
    from sandbox import egress, idmap, paths, session
    from sandbox.spec import RootFs, RunSpec, session_environment
    from sandbox.stdio import collect
    from sandbox.trust import session_bundle

    def made(given: list[dict[str, Any]]) -> list[Any]:
        return [repository(**{**each, "ca": each.get("ca", "").encode()}) for each in given]

    data = said["data"]
    ids = idmap.choose(idmap.read_host_ids(), said["ids"])
    paths.prepare(data, ids)
    attached = made(said["attached"])
    targets = [ConnectTo(host, None, "127.0.0.1", port) for host, port in said["targets"].items()]
    policy = compile_policy(said["mode"], said["allowed"], connect_to=targets)
    policy = with_ports(policy, attached)
    spec = RunSpec(
        root=RootFs(None),
        command=tuple(said["command"]),
        environment=tuple({**session_environment({}), **said["variables"]}.items()),
        network=policy.mode,
        listeners=listening_ports(policy),
        ca_bundle=session_bundle(data, os.environ, policy.mode),
        timeout_s=said.get("timeout_s", 60),
    )
    start = egress.Egress.__enter__

    def enter(self: egress.Egress) -> egress.Egress:
        """What comes on standard input while the session runs replaces what is attached."""

        def listen() -> None:
            for line in sys.stdin:
                self.set_credentials(made(json.loads(line)))
                tell({"attached": True})

        threading.Thread(target=listen, daemon=True).start()
        return start(self)

    egress.Egress.__enter__ = enter  # type: ignore[method-assign]

    def show(output: bytes) -> None:
        tell({"output": output.decode(errors="replace")})

    log = os.open(said["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    report = session.run(
        spec,
        ids,
        data,
        policy,
        lambda: collect(show),
        log=log,
        environment=os.environ,
        credentials=attached,
    )
    found = {"code": report.outcome.code, **report.egress._asdict()}
    tell({"report": found})
    os._exit(0)


if __name__ == "__main__":
    main()
