"""One session from beginning to end: directory, plan, process 1, supervision, outputs, nothing left."""

import os
import time
from collections.abc import Callable
from typing import NamedTuple

from netpolicy.policy import Policy
from sandbox import ground, launch, outputs
from sandbox.directory import SessionDirectory, sweep
from sandbox.egress import Egress, Summary
from sandbox.idmap import IdMap
from sandbox.spec import RunSpec
from sandbox.stdio import Stdio
from sandbox.supervise import Outcome, Signals, supervise
from sandbox.terminal import settings


class Report(NamedTuple):
    """What a session came to. ``message``: why the command could not be run, or empty. ``collected``: the outputs
    copied out, ``left_behind``: those that were not, with the reason."""

    outcome: Outcome
    egress: Summary
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
) -> Report:
    """Run one session and return its report.

    ``data``: the prepared data directory. ``connect`` says what the command's standard streams are. ``outputs_to``:
    a directory that gets what the command left in /mnt/session/outputs. ``log``: a descriptor for one JSON line a
    network decision. HostError, SetupError or InputError when the session could not be started.
    """
    begun = time.monotonic()
    sweep(data, ids)
    filter_ = launch.load_filter(data, ids)
    with SessionDirectory(data, ids) as directory:
        layout = directory.layout()
        if spec.scratch is not None:
            layout = layout._replace(upper=f"{spec.scratch}/upper", work=f"{spec.scratch}/work")
            for folder in (layout.upper, layout.work):
                directory.make(folder)
        prepared = launch.prepare(spec, ids, data, layout, directory.copy_in(spec.files))
        if prepared.steps:
            ground.ensure(prepared.ground, ids, prepared.steps)
        with Signals() as signals, Egress(policy, os.path.basename(directory.path), log) as egress:
            stdio = connect()
            terminal = None
            if stdio.terminal is not None:
                terminal = settings(stdio.terminal, reading=stdio.typed)
            with launch.start(
                spec, ids, directory, prepared.plan, filter_=filter_, stdio=stdio, terminal=terminal
            ) as running:
                outcome, message = supervise(
                    running, stdio, egress, signals, timeout_s=spec.timeout_s, begun=begun
                )
            summary = egress.finish()
            found = outputs.Collected(0, [])
            if outputs_to is not None:
                found = outputs.collect(directory.outputs, outputs_to, ids)
        return Report(outcome, summary, message, found.files, found.left_behind)
