"""From a run specification to the list of operations that set the session up. Pure: the same input, the same plan."""

from typing import NamedTuple

from sandbox.hostview import HostFacts
from sandbox.operations import (
    Attach,
    Bind,
    Device,
    Directory,
    Hidden,
    InPlaceRoot,
    JavaTrust,
    Masked,
    Operation,
    Overlay,
    Proc,
    Pts,
    ReadOnly,
    Setting,
    Symlink,
    Sys,
    Tmpfs,
    WriteFile,
)
from sandbox.spec import CA_BUNDLE, CALLER, HOSTNAME, OUTPUTS, TRUST_FILE, UPLOADS, WORKSPACE, RunSpec

DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
# What container engines hide of /proc as well: the kernel's own secrets and switches.
MASKED = (
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
)
READ_ONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
# Where other users' password hashes, keys and rules stand, whoever may read them on the host.
HIDDEN_ON_HOST = (
    "/etc/gshadow",
    "/etc/gshadow-",
    "/etc/krb5.keytab",
    "/etc/shadow",
    "/etc/shadow-",
    "/etc/ssh",
    "/etc/ssl/private",
    "/etc/sudoers",
    "/etc/sudoers.d",
)
# A directory of the host's belongs to an id that the session lacks and can't be written; these can.
WRITABLE_ON_HOST = (
    "/etc",
    "/opt",
    "/usr",
    "/usr/local",
    "/usr/local/bin",
    "/usr/local/etc",
    "/usr/local/lib",
    "/usr/local/sbin",
    "/usr/local/share",
)
_OWN_ON_HOST = (
    "/etc/group",
    "/etc/hostname",
    "/etc/hosts",
    "/etc/machine-id",
    "/etc/passwd",
    "/etc/resolv.conf",
)
EMPTY_ON_HOST = (
    ("/home", 0o755),
    ("/media", 0o755),
    ("/root", 0o700),
    ("/run", 0o755),
    ("/srv", 0o755),
    ("/tmp", 0o1777),
    ("/var/cache", 0o755),
    ("/var/lib", 0o755),
    ("/var/log", 0o755),
    ("/var/tmp", 0o1777),
)
_PASSWD = (
    "root:x:0:0:root:/root:/bin/sh\n"
    "daemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin\n"
    "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"
)
_GROUP = "root:x:0:\ndaemon:x:1:\ntty:x:5:\nstaff:x:50:\nusers:x:100:\nnogroup:x:65534:\n"


class Layout(NamedTuple):
    """Where things are on the host: the session's changes, overlayfs's work, staged host trees, what it leaves in
    /mnt/session/outputs, and the ground: the topmost layer, which all sessions of its kind share."""

    upper: str
    work: str
    stage: str
    outputs: str
    ground: str


class HostTree(NamedTuple):
    """A host directory or file that the supervisor must open for the session, because root's own ids differ.

    ``translated``: its owners become the session's ids; otherwise they are the session's already.
    """

    source: str
    recursive: bool
    translated: bool


class Plan(NamedTuple):
    """``root``: the steps inside the new root, in order. ``trees``: what the supervisor opens and passes in, in the
    order that the steps number them."""

    root: tuple[Operation, ...]
    trees: tuple[HostTree, ...]

    def describe(self) -> list[str]:
        """One line a step, in the order of execution."""
        return [operation.describe() for operation in self.root]


class _Trees:
    """Numbers the host trees that the supervisor opens; the caller's own ids need no one to open for them."""

    def __init__(self, wanted: bool) -> None:
        self.wanted = wanted
        self.opened: list[HostTree] = []

    def add(self, source: str, *, recursive: bool, translated: bool = True) -> int | None:
        if not self.wanted:
            return None
        self.opened.append(HostTree(source, recursive, translated))
        return len(self.opened) - 1


def make_plan(
    spec: RunSpec,
    layout: Layout,
    *,
    host: HostFacts | None,
    translate_ids: bool,
    tty_group: bool,
    files: tuple[tuple[str, str], ...] = (),
    hidden: tuple[str, ...] = (),
) -> Plan:
    """The operations for ``spec``.

    ``host`` describes the machine when the base is the host's own. ``translate_ids``: host directories are opened by
    the supervisor, which maps the caller's ids to the session's (root's sessions). ``tty_group``: the session has a
    group 5. ``files``: copies already made, as (path on the host, target). ``hidden``: what of the mounts is not shown.
    """
    trees = _Trees(translate_ids)
    root: list[Operation] = []
    if spec.root.in_place:
        assert spec.root.base is not None
        root.append(InPlaceRoot(spec.root.base))
        root.extend(_own_files(spec))
    elif host is None:
        assert spec.root.base is not None
        root.append(_overlay("/", (layout.ground, *spec.root.layers, spec.root.base), layout))
    else:
        root.extend(_host_root(host, layout, spec.root.layers, _folders(ground_steps(spec, host))))
    root.extend(_kernel_file_systems(tty_group))
    root.extend(Directory(path) for path in (WORKSPACE, UPLOADS))
    # A mount of its own: the session can't put a link in its place that leads elsewhere when it is collected.
    root.append(Bind(layout.outputs, OUTPUTS, writable=True))
    root.extend(_workspace(spec, layout, trees))
    for mount in spec.mounts:
        tree = trees.add(mount.source, recursive=True, translated=mount.owner == CALLER)
        root.append(Bind(mount.source, mount.target, mount.writable, tree))
    root.extend(Masked(path) for path in hidden)
    root.extend(Bind(source, target, writable=False) for source, target in files)
    return Plan(tuple(root), tuple(trees.opened))


def ground_steps(spec: RunSpec, host: HostFacts | None) -> tuple[Operation, ...]:
    """What makes the ground of ``spec``: the files that every session gets from sandboxsh itself."""
    if spec.root.in_place:
        return ()
    skeleton = [] if host is None else _host_skeleton(host)
    folders = [Directory("/tmp", 0o1777), *(Directory(path) for path in (WORKSPACE, OUTPUTS, UPLOADS))]
    return (*skeleton, *_own_files(spec), *folders)


def _overlay(target: str, lowers: tuple[str, ...], layout: Layout) -> Overlay:
    name = target.replace("%", "%25").replace("/", "%2f")
    return Overlay(target, lowers, layout.upper, f"{layout.work}/{name}")


def _own_files(spec: RunSpec) -> list[Operation]:
    nameserver = "" if spec.network == "none" else f"nameserver {RESOLVER}\noptions timeout:5 attempts:2\n"
    hosts = f"127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n127.0.1.1 {HOSTNAME}\n"
    files: list[Operation] = [
        WriteFile("/etc/hostname", f"{HOSTNAME}\n".encode()),
        WriteFile("/etc/hosts", hosts.encode()),
        WriteFile("/etc/resolv.conf", nameserver.encode()),
    ]
    if spec.root.base is None:
        files.append(WriteFile("/etc/machine-id", b""))
        files.append(WriteFile("/etc/passwd", _PASSWD.encode()))
        files.append(WriteFile("/etc/group", _GROUP.encode()))
    if spec.ca_bundle:
        files.extend(WriteFile(path, spec.ca_bundle) for path in (CA_BUNDLE, TRUST_FILE))
        files.extend(JavaTrust(path, spec.ca_bundle) for path in spec.java_stores)
    return files


# Any address would do, for every address is the session's own; this one is in no other use (RFC 2544).
RESOLVER = "198.18.0.1"


def _host_skeleton(host: HostFacts) -> list[Operation]:
    steps: list[Operation] = [Directory(path, mode) for path, mode in EMPTY_ON_HOST]
    steps.extend(Directory(path) for path in WRITABLE_ON_HOST)
    steps.extend(Symlink(path, points_to) for path, points_to in host.links)
    steps.append(Symlink("/var/run", "/run"))
    steps.extend(Hidden(path) for path in HIDDEN_ON_HOST)
    return steps


def _folders(steps: tuple[Operation, ...]) -> frozenset[str]:
    """Every directory that ``steps`` make."""
    found: set[str] = set()
    for step in steps:
        if isinstance(step, Directory | Symlink | WriteFile | JavaTrust | Hidden):
            parts = step.target.split("/")[1:]
            depth = len(parts) if isinstance(step, Directory) else len(parts) - 1
            found.update("/" + "/".join(parts[:end]) for end in range(1, depth + 1))
    return frozenset(found)


def _host_root(
    host: HostFacts, layout: Layout, layers: tuple[str, ...], grounded: frozenset[str]
) -> list[Operation]:
    split = dict(host.split)
    hidden = frozenset((*HIDDEN_ON_HOST, *_OWN_ON_HOST))
    steps: list[Operation] = [_overlay("/", (layout.ground, *layers), layout)]

    def show(path: str, sources: tuple[str, ...]) -> None:
        if path in hidden:
            return
        if path not in split:
            ground = (f"{layout.ground}{path}",) if path in grounded else ()
            steps.append(_overlay(path, (*ground, *sources), layout))
            return
        for entry in split[path]:
            where = f"{path}/{entry.name}"
            if where in hidden:
                continue
            if entry.kind == "directory":
                show(where, entry.sources)
            elif entry.kind == "link":
                steps.append(Symlink(where, entry.link))
            else:
                steps.append(Bind(entry.sources[0], where, writable=False))

    for path, sources in host.trees:
        show(path, sources)
    return steps


def _kernel_file_systems(tty_group: bool) -> list[Operation]:
    return [
        Proc(),
        # Every address is local, so the kernel would answer pings to the whole world.
        Setting("net/ipv4/icmp_echo_ignore_all", "1"),
        Setting("net/ipv6/icmp/echo_ignore_all", "1", optional=True),
        Setting("user/max_user_namespaces", "0", optional=True),
        *(Masked(path) for path in MASKED),
        *(ReadOnly(path) for path in READ_ONLY),
        Sys(),
        Tmpfs("/dev", "mode=0755,size=64k,nr_inodes=256"),
        *(Device(name) for name in DEVICES),
        Pts(tty_group),
        Tmpfs("/dev/shm", "mode=1777"),
        Symlink("/dev/ptmx", "pts/ptmx"),
        Symlink("/dev/fd", "/proc/self/fd"),
        Symlink("/dev/stdin", "/proc/self/fd/0"),
        Symlink("/dev/stdout", "/proc/self/fd/1"),
        Symlink("/dev/stderr", "/proc/self/fd/2"),
    ]


def _workspace(spec: RunSpec, layout: Layout, trees: _Trees) -> list[Operation]:
    workspace = spec.workspace
    if workspace is None:
        return []
    if workspace.writable:
        tree = trees.add(workspace.source, recursive=True)
        return [Bind(workspace.source, WORKSPACE, True, tree)]
    tree = trees.add(workspace.source, recursive=False)
    lower = workspace.source
    steps: list[Operation] = []
    if tree is not None:
        lower = f"{layout.stage}/{tree}"
        steps.append(Attach(tree, lower, workspace.source))
    steps.append(_overlay(WORKSPACE, (lower,), layout))
    return steps
