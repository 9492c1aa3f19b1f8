"""Runs the jobs of package builds, each in a session of its own: the isolation that pkgcache does not know."""

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress

from netpolicy.advice import Terms
from netpolicy.blocklist import Block
from netpolicy.policy import ConnectTo, Endpoint, Policy, compile_policy, listening_ports
from pkgcache.runner import Inside, Job, Remove, Result, Runner
from sandbox import blocklists, session
from sandbox.confined import inside
from sandbox.idmap import IdMap
from sandbox.removal import remove_tree
from sandbox.spec import SESSION, HostMount, RootFs, RunSpec, session_environment
from sandbox.stdio import collect
from sandbox.trust import session_bundle


def make_runner(
    ids: IdMap, data: str, environment: Mapping[str, str], connect_to: Sequence[ConnectTo] = ()
) -> Runner:
    """A runner for jobs whose files belong to ``ids``. ``environment``: the caller's, for its CAs and its proxy.
    ``connect_to``: where the user says that hosts are."""
    bundle = session_bundle(data, environment, "limited")
    blocks = blocklists.read((), environment)

    def runner(job: Job) -> Result:
        policy = _policy(job, connect_to, blocks)
        spec = RunSpec(
            root=RootFs(job.root.base, tuple(job.root.layers), job.in_place),
            command=tuple(job.argv),
            environment=tuple(session_environment(job.environment).items()),
            network=policy.mode,
            listeners=listening_ports(policy),
            mounts=tuple(
                HostMount(mount.source, mount.target, mount.writable, SESSION) for mount in job.mounts
            ),
            scratch=job.scratch,
            ca_bundle=bundle,
            timeout_s=job.timeout_s,
        )
        for mount in job.mounts:
            if mount.writable:
                _hand_over(mount.source, ids)
        seal = None
        if job.sealing is not None:
            from sandbox.sealing import Seal

            seal = Seal((mount.source, mount.target, mount.private) for mount in job.mounts if mount.writable)
            job.sealing(seal.close)
        report = session.run(
            spec,
            ids,
            data,
            policy,
            lambda: collect(job.output),
            environment=environment,
            seal=seal,
            # What may write to kept downloads is there to fetch them.
            connects=policy.mode != "none" and any(mount.writable for mount in job.mounts),
        )
        if job.scratch is not None:
            _leave_only_changes(job.scratch, ids)
        if report.message:
            job.output(f"{report.message}\n".encode())
        refused = tuple(f"{entry['host']}:{entry['port']}" for entry in report.egress.denied)
        return Result(report.outcome.code, refused)

    return runner


def make_inside(ids: IdMap) -> Inside:
    """Runs work of ours on trees whose files belong to ``ids``, seeing nothing else."""
    return lambda root, work: inside(ids, root, work)


def make_remove(ids: IdMap) -> Remove:
    """Removes trees whose files belong to ``ids``."""
    return lambda path: remove_tree(path, ids)


def _hand_over(path: str, ids: IdMap) -> None:
    """Give ``path`` and all below it to the session's user 0, when root made it: builds write nothing as root."""
    if os.geteuid() != 0 or os.stat(path).st_uid == ids.root_uid:
        return
    # The top comes last, so that what is cut short is taken up again.
    for _, folders, files, fd in os.fwalk(path):
        for name in (*folders, *files):
            # Another build may be at work in there already.
            with suppress(FileNotFoundError):
                os.chown(name, ids.root_uid, ids.root_gid, dir_fd=fd, follow_symlinks=False)
    os.chown(path, ids.root_uid, ids.root_gid)


def _policy(job: Job, connect_to: Sequence[ConnectTo], blocks: tuple[Block, ...]) -> Policy:
    if not job.endpoints and not job.allowed_hosts:
        return compile_policy("none")
    endpoints = [
        Endpoint(each.scheme, each.host, each.port, each.manager, each.source)  # type: ignore[arg-type]
        for each in job.endpoints
    ]
    return compile_policy(
        "limited",
        job.allowed_hosts,
        endpoints,
        allow_package_managers=bool(endpoints),
        code_hosts=False,
        blocks=blocks,
        connect_to=connect_to,
        terms=Terms("either"),
    )


def _leave_only_changes(scratch: str, ids: IdMap) -> None:
    """Take out of the upper directory what is not worth keeping: /tmp, and overlayfs's own work beside it."""
    remove_tree(f"{scratch}/upper/tmp", ids)
    remove_tree(f"{scratch}/work", ids)
