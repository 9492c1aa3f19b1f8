"""One ad hoc session, from the options of ``sandboxsh`` to its exit code."""

import os
import sys
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from sandbox import blocklists, idmap, images, networks, paths, trust
from sandbox.begin import Begun
from sandbox.commands import arguments
from sandbox.commands.arguments import Options
from sandbox.commands.failures import spoken, tell
from sandbox.errors import InputError
from sandbox.networks import Access
from sandbox.spec import WORKSPACE, HostMount, RootFs, RunSpec, Workspace, session_environment

if TYPE_CHECKING:
    from netpolicy.policy import Policy
    from sandbox.environment import Environment
    from sandbox.idmap import IdMap
    from sandbox.session import Report

_SHELLS = ("/bin/bash", "/bin/sh")


class _Request(NamedTuple):
    """The options, checked: everything about the session that does not depend on what is installed."""

    base: str
    wanted: dict[str, tuple[str, ...]]
    access: Access
    workspace: Workspace | None
    mounts: tuple[HostMount, ...]
    files: tuple[tuple[str, str], ...]
    outputs: str | None
    workdir: str
    variables: dict[str, str]
    timeout_s: float | None


def main(begun: Begun, words: list[str]) -> NoReturn:
    """Read the options in ``words`` and run the session that ``begun`` becomes."""
    debug = "--debug" in words
    # Python has none of its own for a descriptor that was closed, and print() takes the other one then.
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115
    try:
        with begun:
            code = _run(arguments.parse(words), begun)
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read the output has seen enough; the interpreter must not try to flush the rest.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        code = 128 + 13
    except Exception as error:
        code = tell(error, debug=debug)
    sys.stderr.flush()
    # Nothing is left to tidy up, and the interpreter takes 2 ms to find that out.
    os._exit(code)


def _run(options: Options, begun: Begun) -> int:
    if "help" in options.flags:
        print(arguments.HELP, end="")
        return 0
    if "version" in options.flags:
        from importlib import metadata

        print(f"sandboxsh {metadata.version('sandboxsh')}")
        return 0
    ids = idmap.choose(idmap.read_host_ids(), options.value("ids"))
    data = paths.data_directory(options.value("data"), os.environ, os.geteuid())
    request = _request(options, data)
    policy_without_packages = networks.make_policy(request.access)
    if "dry-run" in options.flags:
        return _dry_run(options, request, ids, data)
    begun.give_ids(lambda pid: idmap.begin_maps(pid, ids))
    paths.prepare(data, ids)
    if _on_plain_host(request):
        trusted = trust.session_bundle(data, os.environ, policy_without_packages.mode)
        spec = _spec(options, request, RootFs(None), {}, policy_without_packages, trusted)
        return _session(options, request, spec, ids, data, policy_without_packages, begun)
    return _session_on_image(options, request, ids, data, begun)


def _on_plain_host(request: _Request) -> bool:
    return request.base == images.HOST and not request.wanted and not request.access.allow_package_managers


def _session_on_image(options: Options, request: _Request, ids: "IdMap", data: str, begun: Begun) -> int:
    from pkgcache.image import lease
    from sandbox.commands.progress import Progress

    with Progress(quiet="quiet" in options.flags) as progress:
        image = images.make(
            data,
            ids,
            request.base,
            request.wanted,
            environment=os.environ,
            allowed_hosts=request.access.hosts,
            need_endpoints=request.access.allow_package_managers,
            progress=progress.show,
            offline="offline" in options.flags,
            connect_to=request.access.connect_to,
        )
    with lease(image):
        policy = networks.make_policy(request.access, image.endpoints)
        root = RootFs(image.base, tuple(image.layers))
        trusted = trust.session_bundle(data, os.environ, policy.mode)
        spec = _spec(options, request, root, dict(image.environment), policy, trusted)
        return _session(options, request, spec, ids, data, policy, begun)


def _session(
    options: Options,
    request: _Request,
    spec: RunSpec,
    ids: "IdMap",
    data: str,
    policy: "Policy",
    begun: Begun,
) -> int:
    from sandbox import session, stdio

    log = _open_log(options.value("egress-log"))
    learn = _open_learned(options.value("learn"))
    report = session.run(
        spec,
        ids,
        data,
        policy,
        stdio.connect,
        outputs_to=request.outputs,
        log=log,
        begun=begun,
        environment=os.environ,
    )
    _close(options, report)
    if learn is not None:
        from sandbox import learned

        with open(learn, "w", encoding="utf-8", closefd=learn != 2) as file:
            file.write(learned.fragment(policy, request.access, report.egress._asdict()))
    return report.outcome.code


def _close(options: Options, report: "Report") -> None:
    from sandbox.commands import closing

    if report.message:
        print(f"sandboxsh: {spoken(report.message)}", file=sys.stderr)
    if "quiet" not in options.flags:
        for line in closing.lines(report, verbose="verbose" in options.flags):
            print(f"sandboxsh: {line}", file=sys.stderr)
    if "json" in options.flags:
        print(closing.as_json(report), file=sys.stderr)


def _request(options: Options, data: str) -> _Request:
    named = options.value("env")
    environment = _environment(named, data) if named is not None else None
    wanted = _wanted(options, environment)
    offline = "offline" in options.flags
    access = networks.combine(
        environment.networking if environment and not offline else None,
        mode=_mode(options),
        allow=options.all("allow"),
        allow_package_managers="allow-package-managers" in options.flags,
        connect_to=options.all("connect-to"),
        allow_private=options.all("allow-private"),
        blocks=blocklists.read(options.all("blocklist"), os.environ),
    )
    if options.value("learn") is not None:
        access = access._replace(learning=True)
    if wanted and access.mode == "limited" and not access.allow_package_managers:
        raise InputError(
            "packages need their package managers' servers, which limited networking refuses",
            hint="add --allow-package-managers"
            + (" or networking.allow_package_managers: true" if environment else ""),
        )
    timeout = options.value("timeout")
    workspace = _workspace(options.value("workspace"), options.value("workspace-rw"))
    mounts = tuple(arguments.host_mount(text) for text in options.all("mount"))
    files = tuple(arguments.file_copy(text) for text in options.all("file"))
    _check_links(options, workspace, mounts, files)
    return _Request(
        base=options.value("base") or images.default_base(wanted),
        wanted=wanted,
        access=access,
        workspace=workspace,
        mounts=mounts,
        files=files,
        outputs=_outputs(options.value("outputs"), make="dry-run" not in options.flags),
        workdir=_workdir(options.value("workdir") or WORKSPACE),
        variables=arguments.variables(options.all("setenv"), options.all("pass-env"), os.environ),
        timeout_s=None if timeout is None else arguments.seconds(timeout),
    )


def _check_links(
    options: Options,
    workspace: Workspace | None,
    mounts: tuple[HostMount, ...],
    files: tuple[tuple[str, str], ...],
) -> None:
    trees = [mount.source for mount in mounts] + ([] if workspace is None else [workspace.source])
    if trees:
        from sandbox.given import check_links

        written = [(f"--{name}", options.value(name)) for name in ("outputs", "egress-log", "learn")]
        named = [(option, os.path.abspath(path)) for option, path in written if path not in (None, "-")]
        named += [("--file", source) for source, _ in files]
        named += [("--mount", mount.source) for mount in mounts]
        check_links(named, trees)


def _mode(options: Options) -> str | None:
    mode = options.value("net")
    if "offline" in options.flags:
        if mode not in (None, "none"):
            raise InputError(
                f"--offline promises no network, --net {mode} asks for one", hint="give one of them"
            )
        mode = "none"
    if options.value("learn") is None:
        return mode
    if mode not in (None, "limited"):
        raise InputError(
            f"--learn means nothing with {mode} networking: it is for limited networking",
            hint="drop --net or --offline",
        )
    return "limited"


def _workspace(copied: str | None, written: str | None) -> Workspace | None:
    if copied is not None and written is not None:
        raise InputError("--workspace and --workspace-rw name the same place", hint="give one of them")
    if written is not None:
        return Workspace(arguments.directory("--workspace-rw", written), writable=True)
    if copied is not None:
        return Workspace(arguments.directory("--workspace", copied), writable=False)
    return None


def _environment(given: str, data: str) -> "Environment":
    from sandbox import environments

    return environments.find(given, data)


def _wanted(options: Options, environment: "Environment | None") -> dict[str, tuple[str, ...]]:
    wanted = environment.packages.wanted() if environment else {}
    for manager in arguments.MANAGERS:
        added = options.all(manager)
        if added:
            wanted[manager] = (*wanted.get(manager, ()), *added)
    return {manager: wanted[manager] for manager in arguments.MANAGERS if manager in wanted}


def _spec(
    options: Options,
    request: _Request,
    root: RootFs,
    extra: dict[str, str],
    policy: "Policy",
    trusted: bytes,
) -> RunSpec:
    from netpolicy.policy import listening_ports

    shell = next((path for path in _SHELLS if os.path.exists((root.base or "") + path)), _SHELLS[-1])
    variables = {**session_environment(extra), "SHELL": shell}
    if any(os.isatty(fd) for fd in (0, 1, 2)):
        variables.update((name, os.environ[name]) for name in ("TERM", "COLORTERM") if name in os.environ)
    variables.update(request.variables)
    return RunSpec(
        root=root,
        command=options.command or (shell,),
        environment=tuple(variables.items()),
        network=policy.mode,
        listeners=listening_ports(policy),
        workdir=request.workdir,
        workspace=request.workspace,
        mounts=request.mounts,
        files=request.files,
        ca_bundle=trusted,
        timeout_s=request.timeout_s,
    )


def _workdir(path: str) -> str:
    if not path.startswith("/"):
        raise InputError(f"--workdir {path}: the working directory in the session must be an absolute path")
    return path


def _outputs(path: str | None, *, make: bool) -> str | None:
    if path is None:
        return None
    full = os.path.abspath(path)
    if not make:
        return full
    try:
        os.makedirs(full, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"--outputs {full}: {error.strerror}", hint="name a directory that can be made"
        ) from error
    if not os.access(full, os.W_OK | os.X_OK):
        raise InputError(f"--outputs {full}: it can't be written", hint="name a directory of yours")
    return full


def _open_log(path: str | None) -> int | None:
    if path is None:
        return None
    try:
        return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise InputError(
            f"--egress-log {path}: {error.strerror}", hint="name a file that can be written"
        ) from error


def _open_learned(path: str | None) -> int | None:
    """Before the session runs: afterwards, its path could lead elsewhere."""
    if path is None:
        return None
    if path == "-":
        return 2
    try:
        return os.open(path, os.O_WRONLY | os.O_TRUNC | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise InputError(
            f"--learn {path}: {error.strerror}", hint="name a file that can be written"
        ) from error


def _dry_run(options: Options, request: _Request, ids: "IdMap", data: str) -> int:
    from netpolicy.policy import render
    from sandbox.launch import prepare
    from sandbox.plan import Layout

    root = RootFs(None)
    extra: dict[str, str] = {}
    endpoints: tuple[Any, ...] = ()
    lines = [f"ids      {ids.describe()}", f"base     {request.base}"]
    if not _on_plain_host(request):
        from pkgcache.resolve import image

        need = request.access.allow_package_managers
        found = images.resolve(data, ids, request.base, request.wanted, need_endpoints=need)
        lines += [
            f"layer    {step.manager}: {', '.join(step.specs)} ({'built' if step.present else 'to be built'})"
            for step in found.steps
        ]
        if found.ready:
            made = image(images.store(data, ids), found)
            root, extra, endpoints = (
                RootFs(made.base, tuple(made.layers)),
                dict(made.environment),
                made.endpoints,
            )
        else:
            lines.append("note     what is not built yet is left out below; a run builds it first")
    policy = networks.make_policy(request.access, endpoints)
    spec = _spec(options, request, root, extra, policy, trust.host_bundle(os.environ))
    session = f"{data}/sessions/{ids.name}/…"
    layout = Layout(f"{session}/upper", f"{session}/work", f"{session}/stage", f"{session}/outputs", "")
    prepared = prepare(spec, ids, data, layout, spec.files)
    lines += [f"ground   {step.describe()}" for step in prepared.steps]
    lines += [f"step     {line}" for line in prepared.plan.describe()]
    lines += [f"policy   {line}" for line in render(policy)]
    lines += [f"variable {name}={value}" for name, value in spec.environment]
    lines += [f"workdir  {spec.workdir}", f"command  {' '.join(spec.command)}"]
    print("\n".join(lines))
    return 0
