"""What this machine can do for sessions: a verdict on each need, why it matters, and the lines that mend it.

The verdicts are pure functions of what `sandbox.probes` saw; `run` joins the two.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from sandbox.probes import Seen

OK: Literal["ok"] = "ok"
MISSING: Literal["missing"] = "missing"
DEGRADED: Literal["degraded"] = "degraded"

# mount_setattr(2) is the newest system call that a session makes; overlays in user namespaces are from 5.11.
OLDEST_KERNEL = (5, 12)
RANGE = 65535
GIB = 1 << 30
ENOUGH_BYTES = 5 * GIB
ENOUGH_DESCRIPTORS = 4_096


class Finding(NamedTuple):
    """One need. `required`: no session runs while the status is "missing". The two remedies are lines to
    paste, for who can become root and for who can't; empty when there is nothing to do or no such way."""

    name: str
    status: Literal["ok", "missing", "degraded"]
    detail: str
    why: str
    remedy: str = ""
    remedy_without_root: str = ""
    required: bool = False


def run(data_dir: str) -> list[Finding]:
    """Try out what sessions with their data in `data_dir` need. Takes 0.2 s and leaves nothing behind."""
    from sandbox.probes import look

    return judge(look(data_dir))


def can_run(findings: Iterable[Finding]) -> bool:
    """Whether a session can run at all."""
    return not any(finding.required and finding.status == MISSING for finding in findings)


def judge(seen: Seen) -> list[Finding]:
    """A verdict on each need, in the order in which to mend them."""
    return [
        _kernel(seen),
        *_namespace_settings(seen),
        _user_namespaces(seen),
        _id_range(seen),
        _data(seen),
        _overlay(seen),
        _mounts(seen),
        _network(seen),
        _nft(seen),
        _pidfd(seen),
        _seccomp(seen),
        _mmdebstrap(seen),
        _keyring(seen),
        _space(seen),
        _descriptors(seen),
    ]


_UNTRIED = "could not be tried; see the findings above"
_ASK = "ask the machine's administrator for the line above"


def _root(command: str) -> str:
    return f"sudo sh -c '{command}'" if any(mark in command for mark in "|&>;") else f"sudo {command}"


def _install(seen: Seen, package: str) -> str:
    if "apt-get" in seen.programs:
        return f"sudo apt-get install -y --no-install-recommends {package}"
    return f"install what Debian calls {package}"


def _kernel(seen: Seen) -> Finding:
    why = "overlays and mounts in a user namespace, which hold a session's files"
    match = re.match(r"(\d+)\.(\d+)", seen.kernel)
    oldest = ".".join(map(str, OLDEST_KERNEL))
    if match and (int(match[1]), int(match[2])) < OLDEST_KERNEL:
        detail = f"Linux {seen.kernel}; {oldest} or later is needed"
        remedy = "upgrade the kernel (on Debian: release 12 or later)"
        return Finding("kernel", MISSING, detail, why, remedy, required=True)
    return Finding("kernel", OK, f"Linux {seen.kernel}", why, required=True)


def _namespace_settings(seen: Seen) -> list[Finding]:
    findings = []
    root = seen.ids.uid == 0
    restricted = seen.settings.get("kernel.apparmor_restrict_unprivileged_userns", "0") != "0" and not root
    if "kernel.apparmor_restrict_unprivileged_userns" in seen.settings:
        findings.append(_apparmor(seen, restricted))
    if "kernel.unprivileged_userns_clone" in seen.settings:
        off = seen.settings["kernel.unprivileged_userns_clone"] == "0" and not root
        findings.append(_setting("kernel.unprivileged_userns_clone", "1", "0" if off else None))
    for name in ("user", "mnt", "pid", "net"):
        key = f"user.max_{name}_namespaces"
        if seen.settings.get(key) == "0":
            findings.append(_setting(key, "10000", "0"))
    return findings


def _apparmor(seen: Seen, restricted: bool) -> Finding:
    name = "apparmor"
    why = "Ubuntu's AppArmor takes all rights from programs in user namespaces unless a profile lets them"
    if not restricted:
        return Finding(name, OK, "puts no limit on this user's namespaces", why, required=True)
    if _worked(seen, "mount"):
        return Finding(name, OK, f"a profile lets {seen.interpreter} use namespaces", why, required=True)
    profile = (
        "abi <abi/4.0>,\\ninclude <tunables/global>\\n"
        f'profile sandboxsh "{seen.interpreter}" flags=(unconfined) {{ userns, }}\\n'
    )
    file = "/etc/apparmor.d/sandboxsh"
    remedy = f"printf '{profile}' | sudo tee {file} >/dev/null && sudo apparmor_parser -r {file}"
    detail = "kernel.apparmor_restrict_unprivileged_userns is 1 and no profile lets this program through"
    return Finding(name, MISSING, detail, why, remedy, _ASK, required=True)


def _setting(key: str, value: str, found: str | None) -> Finding:
    why = "sessions are made of namespaces that an ordinary user may make"
    if found is None:
        return Finding(key, OK, f"{key} lets this user make namespaces", why, required=True)
    file = "/etc/sysctl.d/60-sandboxsh.conf"
    remedy = _root(f"echo {key}={value} >>{file} && sysctl -p {file}")
    return Finding(key, MISSING, f"{key} is {found}", why, remedy, _ASK, required=True)


def _user_namespaces(seen: Seen) -> Finding:
    name, why = "user namespaces", "they hold every wall of a session; without them no session starts"
    remedy = (
        "undo what forbids them: a setting named above, a container's profile "
        "(docker: --security-opt seccomp=unconfined --security-opt apparmor=unconfined), or a chroot"
    )
    for step, what in (("user-namespace", "making namespaces"), ("mount", "mounting in them")):
        if not _worked(seen, step):
            detail = f"{what}: {seen.tried.get(step, 'could not be tried')}"
            return Finding(name, MISSING, detail, why, remedy, _ASK, required=True)
    return Finding(name, OK, "made one and mounted in it", why, required=True)


def _id_range(seen: Seen) -> Finding:
    name = "id range"
    why = (
        "sessions then have 65,536 user ids; without, they have one, and changes of owner are only pretended"
    )
    if seen.ids.uid == 0:
        if _worked(seen, "id-range"):
            return Finding(name, OK, "root maps ids that nobody uses", why)
        return Finding(name, DEGRADED, "this user namespace has too few ids", why)
    commands = []
    problems = []
    if len(seen.helpers) < 2:
        absent = [tool for tool in ("newuidmap", "newgidmap") if tool not in seen.helpers]
        problems.append(f"{' and '.join(absent)} not installed, or without the right to map ids")
        commands.append(_install(seen, "uidmap"))
    options = []
    for file, given, option in (
        ("/etc/subuid", seen.ids.subuid, "--add-subuids"),
        ("/etc/subgid", seen.ids.subgid, "--add-subgids"),
    ):
        if given is None or given[1] < RANGE:
            problems.append(f"{file} gives {seen.user} {given[1] if given else 'no'} ids")
            options.append(f"{option} 100000-165535")
    if options:
        commands.append(f"sudo usermod {' '.join(options)} {seen.user}")
    if not problems and not _worked(seen, "id-range"):
        problems.append(seen.tried.get("id-range") or _UNTRIED)
    if problems:
        without = "nothing to do: sessions use a single id (--ids single)"
        return Finding(name, DEGRADED, "; ".join(problems), why, " && ".join(commands), without)
    assert seen.ids.subuid is not None
    first, count = seen.ids.subuid
    return Finding(name, OK, f"{count} ids from {first}", why)


def _data(seen: Seen) -> Finding:
    name, why = "data directory", "bases, layers and the files of sessions are kept there"
    if seen.data_problem:
        without = "name a directory of your own with --data, or in SANDBOXSH_DATA"
        remedy = f"sudo install -d -o {seen.user} -m 700 {seen.data}"
        return Finding(name, MISSING, seen.data_problem, why, remedy, without, required=True)
    return Finding(name, OK, seen.data, why, required=True)


def _overlay(seen: Seen) -> Finding:
    name, why = "overlay", "what a session changes is laid over what it must not change"
    if "overlay" not in seen.tried:
        return Finding(name, MISSING, _UNTRIED, why, required=True)
    problem = seen.tried["overlay"]
    if not problem:
        return Finding(
            name, OK, "changed and removed files through one in the data directory", why, required=True
        )
    without = "put the data on ext4, xfs, btrfs or tmpfs with --data, or in SANDBOXSH_DATA"
    remedy = "sudo modprobe overlay"
    if seen.ids.uid == 0 and "ermission" in problem:
        remedy = f"chmod o+x the directories above {seen.data}, or choose a place that others can enter"
    return Finding(name, MISSING, f"in {seen.data}: {problem}", why, remedy, without, required=True)


def _mounts(seen: Seen) -> Finding:
    name, why = "mounts", "each session has a /proc, a /tmp and terminals of its own"
    steps = ("proc", "tmpfs", "devpts")
    if not all(step in seen.tried for step in steps):
        return Finding(name, MISSING, _UNTRIED, why, required=True)
    problems = [f"{step}: {seen.tried[step]}" for step in steps if seen.tried[step]]
    if not problems:
        return Finding(name, OK, "mounted proc, tmpfs and devpts", why, required=True)
    remedy = "in a container, start it with all of /proc (docker: --security-opt systempaths=unconfined)"
    return Finding(name, MISSING, "; ".join(problems), why, remedy, _ASK, required=True)


def _network(seen: Seen) -> Finding:
    name, why = "network namespace", "a session's connections end at the proxy, which decides what may leave"
    for step in ("loopback", "local-routes"):
        if step not in seen.tried:
            return Finding(name, MISSING, _UNTRIED, why, required=True)
        if seen.tried[step]:
            remedy = "boot a kernel with network namespaces and routing tables (every Debian kernel has them)"
            return Finding(name, MISSING, f"{step}: {seen.tried[step]}", why, remedy, _ASK, required=True)
    return Finding(name, OK, "every address leads to the session's own loopback", why, required=True)


def _nft(seen: Seen) -> Finding:
    name, why = (
        "nft",
        "sessions with unrestricted networking lead every port to the proxy with it; others don't use it",
    )
    if _worked(seen, "nft"):
        return Finding(name, OK, "led every port of a network namespace to one listener", why)
    if "nft" not in seen.tried:
        return Finding(name, DEGRADED, _UNTRIED, why)
    return Finding(name, DEGRADED, seen.tried["nft"], why, "sudo modprobe -a nf_tables nft_tproxy", _ASK)


def _pidfd(seen: Seen) -> Finding:
    name, why = (
        "pidfd",
        "a session is watched and ended through it, never through a number that may be reused",
    )
    problem = seen.tried.get("pidfd", "could not be tried")
    if problem:
        return Finding(name, MISSING, problem, why, "upgrade the kernel", _ASK, required=True)
    return Finding(name, OK, "opened one", why, required=True)


def _seccomp(seen: Seen) -> Finding:
    name, why = "system call filter", "it keeps sessions from parts of the kernel that programs don't need"
    if not _worked(seen, "seccomp"):
        detail = f"seccomp: {seen.tried.get('seccomp', 'could not be tried')}"
        remedy = "boot a kernel with CONFIG_SECCOMP_FILTER (every Debian kernel has it)"
        return Finding(name, MISSING, detail, why, remedy, _ASK, required=True)
    if not _worked(seen, "libseccomp"):
        remedy = _install(seen, "libseccomp2")
        return Finding(name, MISSING, seen.tried["libseccomp"], why, remedy, _ASK, required=True)
    return Finding(name, OK, "installed one", why, required=True)


def _mmdebstrap(seen: Seen) -> Finding:
    name, why = "mmdebstrap", "it makes the debian base, on which packages are installed"
    if "mmdebstrap" in seen.programs:
        return Finding(name, OK, "installed", why)
    without = "use the host base, or a data directory that has a debian base already"
    return Finding(name, DEGRADED, "not installed", why, _install(seen, "mmdebstrap"), without)


def _keyring(seen: Seen) -> Finding:
    name, why = "Debian's keyring", "what the debian base is made of is verified with it"
    if seen.keyring:
        return Finding(name, OK, "installed", why)
    without = "use the host base, or a data directory that has a debian base already"
    return Finding(name, DEGRADED, "not installed", why, _install(seen, "debian-archive-keyring"), without)


def _space(seen: Seen) -> Finding:
    name, why = "disk space", "the debian base takes about 2 GB, and each layer what its packages take"
    detail = f"{seen.free_bytes / GIB:.1f} GiB free for {seen.data}"
    if seen.free_bytes >= ENOUGH_BYTES:
        return Finding(name, OK, detail, why)
    without = "name a directory on a larger disk with --data, or free some space"
    return Finding(name, DEGRADED, detail, why, "", without)


def _descriptors(seen: Seen) -> Finding:
    name, why = (
        "open files",
        "a session's proxy has two for each connection; more connections wait for their turn",
    )
    if seen.descriptors < 0 or seen.descriptors >= ENOUGH_DESCRIPTORS:
        return Finding(name, OK, "enough for thousands of connections at once", why)
    detail = f"at most {seen.descriptors} in a process, for half as many connections"
    remedy = _root('echo "* hard nofile 65536" >>/etc/security/limits.d/60-sandboxsh.conf')
    without = f"{_ASK}; it counts from the next login on"
    return Finding(name, DEGRADED, detail, why, remedy, without)


def _worked(seen: Seen, step: str) -> bool:
    return seen.tried.get(step) == ""


def render_text(findings: list[Finding], color: bool) -> str:
    """One line for each need, with what to do below those that aren't met, and a last line that sums up."""
    codes = {OK: "\x1b[32m", DEGRADED: "\x1b[33m", MISSING: "\x1b[31m"}
    width = max(len(finding.name) for finding in findings)
    lines = []
    for finding in findings:
        word = f"{finding.status:8}"
        status = f"{codes[finding.status]}{word}\x1b[0m" if color else word
        lines.append(f"{status}  {finding.name:{width}}  {finding.detail}")
        if finding.status == OK:
            continue
        lines.append(f"{'':10}why: {finding.why}")
        if finding.remedy:
            lines.append(f"{'':10}with root:    {finding.remedy}")
        if finding.remedy_without_root:
            lines.append(f"{'':10}without root: {finding.remedy_without_root}")
    unmet = [finding.name for finding in findings if finding.required and finding.status == MISSING]
    if unmet:
        lines.append(f"No session can run: {', '.join(unmet)}.")
    elif all(finding.status == OK for finding in findings):
        lines.append("Sessions can run, with everything.")
    else:
        lines.append("Sessions can run, with what is told above.")
    return "\n".join(lines) + "\n"


def to_json(findings: list[Finding]) -> dict[str, object]:
    """`{"can_run": bool, "findings": [...]}`, each finding an object with the fields of Finding."""
    return {"can_run": can_run(findings), "findings": [finding._asdict() for finding in findings]}
