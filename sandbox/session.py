"""One session from beginning to end: directory, plan, process 1, supervision, outputs, nothing left."""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from netpolicy.hostproxy import read_proxies
from netpolicy.policy import Policy
from sandbox import ground, launch
from sandbox.begin import Begun, begin
from sandbox.caught import Signals
from sandbox.directory import SessionDirectory, sweep
from sandbox.idmap import IdMap
from sandbox.plan import Plan
from sandbox.spec import RunSpec
from sandbox.stdio import Stdio

if TYPE_CHECKING:
    from netpolicy.credentials import Credential
    from sandbox.egress import Summary
    from sandbox.inroot import Opened
    from sandbox.sealing import Seal
    from sandbox.supervise import Outcome


class Report(NamedTuple):
    """What a session came to. ``message``: why the command could not be run, or empty. ``collected``: the outputs
    copied out, ``left_behind``: those that were not, with the reason."""

    outcome: "Outcome"
    egress: "Summary"
    message: str
    collected: int
    left_behind: list[str]


def run(
    spec: RunSpec,
    ids: IdMap,
    data: str,
    policy: Policy,
    connect: Callable[[], Stdio],
    *,
    outputs_to: str | None = None,
    log: int | None = None,
    begun: Begun | None = None,
    environment: Mapping[str, str] = MappingProxyType({}),
    credentials: "Sequence[Credential]" = (),
    seal: "Seal | None" = None,
    connects: bool = False,
) -> Report:
    """Run one session and return its report.

    ``data``: the prepared data directory. ``connect`` says what the command's standard streams are. ``outputs_to``:
    a directory that gets what the command left in /mnt/session/outputs. ``log``: a descriptor for one JSON line a
    network decision. ``begun``: process 1, when it was made beforehand. ``environment``: the caller's, for the
    proxy that the host gets out by (HTTPS_PROXY and the like). ``credentials``: see Egress.set_credentials.
    ``seal``: can be closed as long as the session runs. ``connects``: the proxy need not wait to be knocked for.
    HostError, SetupError or InputError when the session could not be started.
    """
    now = time.monotonic()
    with (
        begun or begin() as process1,
        launch.claim(process1, ids) as running,
        SessionDirectory(data, ids) as directory,
        Signals() as signals,
        _target(outputs_to) as target,
        seal or nullcontext(),
    ):
        if seal is not None:
            seal.begin(running.pid)
        sweep(data, ids)
        plan = _stand(spec, ids, data, directory)
        stdio = connect()
        filter_ = launch.load_filter(data, ids, spec)
        _set_up(running, spec, ids, directory.root, plan, filter_, stdio)
        # Loaded while process 1 is at work.
        from sandbox.egress import Egress
        from sandbox.supervise import supervise

        proxies = read_proxies(environment)
        name = os.path.basename(directory.path)
        with Egress(policy, name, log, data, proxies, environment, at_once=connects) as egress:
            if credentials:
                egress.set_credentials(credentials)
            outcome, message = supervise(running, stdio, egress, signals, timeout_s=spec.timeout_s, begun=now)
            summary = egress.finish()
        collected, left_behind = 0, list[str]()
        if target is not None:
            from sandbox.outputs import collect

            collected, left_behind = collect(directory.outputs, target.fd, ids)
        return Report(outcome, summary, message, collected, left_behind)


def _set_up(
    running: launch.Running, spec: RunSpec, ids: IdMap, root: str, plan: Plan, filter_: bytes, stdio: Stdio
) -> None:
    given = tuple(fd for fd in dict.fromkeys(stdio.inside) if fd is not None)
    zero, one, two = (None if fd is None else given.index(fd) for fd in stdio.inside)
    terminal = None
    if stdio.terminal is not None:
        from sandbox.terminal import settings

        terminal = settings(stdio.terminal, reading=stdio.typed)
    launch.set_up(
        running,
        spec,
        ids,
        root,
        plan,
        filter_=filter_,
        given=given,
        places=(zero, one, two),
        terminal=terminal,
    )


def _target(outputs_to: str | None) -> "Opened | nullcontext[None]":
    """The directory that gets the outputs, opened before the session could put another in its place."""
    if outputs_to is None:
        return nullcontext()
    from sandbox.outputs import open_target

    return open_target(outputs_to)


def _stand(spec: RunSpec, ids: IdMap, data: str, directory: SessionDirectory) -> Plan:
    """Make what the session stands on, and plan it."""
    layout = directory.layout()
    if spec.scratch is not None:
        layout = layout._replace(upper=f"{spec.scratch}/upper", work=f"{spec.scratch}/work")
        for folder in (layout.upper, layout.work):
            directory.make(folder)
    prepared = launch.prepare(spec, ids, data, layout, directory.copy_in(spec.files))
    if prepared.steps:
        directory.keep_open(ground.use(prepared.ground, ids, prepared.steps))
    return prepared.plan
