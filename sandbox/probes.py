"""Trying out what a session needs of this machine. Everything is really done, in a process that is then gone, and
what it left on the disk is removed; nothing is judged here (sandbox.doctor does that)."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from typing import NamedTuple

from sandbox import idmap, netns
from sandbox import syscalls as sys_
from sandbox.errors import Failure
from sandbox.idmap import HostIds, IdMap
from sandbox.removal import remove_tree

_GIVE_UP_AFTER_S = 20
_PR_SET_NO_NEW_PRIVS = 38
# struct sock_filter: BPF_RET | BPF_K with SECCOMP_RET_ALLOW.
_ALLOW_ALL = b"\x06\x00\x00\x00\x00\x00\xff\x7f"


class Seen(NamedTuple):
    """What was found. In `tried`, each name stands with what went wrong, empty when it worked; a name is absent
    when nothing could be tried because an earlier step failed."""

    user: str
    ids: HostIds
    helpers: tuple[str, ...]
    kernel: str
    interpreter: str
    settings: dict[str, str]
    tried: dict[str, str]
    programs: tuple[str, ...]
    keyring: bool
    data: str
    data_problem: str
    free_bytes: int
    debian_like: bool


def look(data: str) -> Seen:
    """Look at this machine for sessions whose data lie in `data` (a path that need not exist yet)."""
    place = _nearest(data)
    problem = "" if os.access(place, os.W_OK | os.X_OK) else f"{place} can't be written"
    free = os.statvfs(place)
    host = idmap.read_host_ids()
    tried = _try_alone()
    tried |= _try_in_session(host, place if not problem else "")
    return Seen(
        user=_name(host.uid),
        ids=host,
        helpers=tuple(name for name in ("newuidmap", "newgidmap") if _privileged_program(name)),
        kernel=os.uname().release,
        interpreter=os.path.realpath(sys.executable),
        settings=_settings(),
        tried=tried,
        programs=tuple(name for name in ("mmdebstrap", "apt-get", "sudo") if _find(name)),
        keyring=_has_keyring(),
        data=data,
        data_problem=problem,
        free_bytes=free.f_bavail * free.f_frsize,
        debian_like=os.path.exists("/etc/debian_version"),
    )


def _nearest(path: str) -> str:
    path = os.path.abspath(path)
    while not os.path.isdir(path):
        path = os.path.dirname(path)
    return path


def _name(uid: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _find(name: str) -> str | None:
    for folder in (*os.environ.get("PATH", "").split(":"), "/usr/sbin", "/sbin", "/usr/bin"):
        path = os.path.join(folder, name)
        if folder and os.path.isfile(path) and os.access(path, os.X_OK):
            return path
    return None


def _privileged_program(name: str) -> bool:
    """Installed, and either set-uid root or with file capabilities, as distributions ship the two helpers."""
    path = _find(name)
    if path is None:
        return False
    status = os.stat(path)
    if status.st_mode & 0o4000 and status.st_uid == 0:
        return True
    try:
        return bool(os.getxattr(path, "security.capability"))
    except OSError:
        return False


def _has_keyring() -> bool:
    try:
        names = os.listdir("/usr/share/keyrings")
    except OSError:
        return False
    return any(name.startswith("debian-archive-") and "removed" not in name for name in names)


_SETTINGS = (
    "kernel/apparmor_restrict_unprivileged_userns",
    "kernel/unprivileged_userns_clone",
    "user/max_user_namespaces",
    "user/max_mnt_namespaces",
    "user/max_pid_namespaces",
    "user/max_net_namespaces",
)


def _settings() -> dict[str, str]:
    """The settings that this kernel has, by their name for sysctl(8)."""
    found = {}
    for name in _SETTINGS:
        try:
            with open(f"/proc/sys/{name}", encoding="ascii") as file:
                found[name.replace("/", ".")] = file.read().strip()
        except OSError:
            continue
    return found


def _try_alone() -> dict[str, str]:
    """What needs no namespace."""
    tried = {"pidfd": "", "libseccomp": ""}
    try:
        os.close(os.pidfd_open(os.getpid()))
    except OSError as error:
        tried["pidfd"] = error.strerror or str(error)
    import ctypes

    try:
        ctypes.CDLL("libseccomp.so.2")
    except OSError:
        tried["libseccomp"] = "libseccomp.so.2 is not installed"
    return tried | _in_child({"seccomp": _install_filter}, 0, None)


def _install_filter() -> None:
    import ctypes

    from sandbox.seccomp.loading import install

    ctypes.CDLL(None).prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    install(_ALLOW_ALL)


def _try_in_session(host: HostIds, place: str) -> dict[str, str]:
    """What needs a session's namespaces, tried with a range of ids where there is one, else with a single id."""
    tried = _in_child({}, sys_.CLONE_NEWUSER, None)
    if tried.pop("clone", ""):
        return {"user-namespace": "no process may make a user namespace"} | tried
    ids = idmap.choose(host)
    tried["user-namespace"] = ""
    if ids.mode == idmap.RANGE:
        tried["id-range"] = _in_child({}, sys_.CLONE_NEWUSER, ids).get("clone", "")
        if tried["id-range"]:
            ids = idmap.choose(host, idmap.SINGLE)
    folder = ""
    try:
        if place:
            folder = _folder_in(place, ids)
        flags = sys_.CLONE_NEWUSER | sys_.CLONE_NEWNS | sys_.CLONE_NEWPID | sys_.CLONE_NEWNET
        flags |= sys_.CLONE_NEWIPC | sys_.CLONE_NEWUTS | sys_.CLONE_NEWCGROUP
        tried |= _in_child(_steps(folder), flags, ids)
    finally:
        if folder:
            remove_tree(folder, ids)
    if "clone" in tried:
        tried["user-namespace"] = tried.pop("clone")
    return tried


def _folder_in(place: str, ids: IdMap) -> str:
    import tempfile

    folder = tempfile.mkdtemp(prefix=".sandboxsh-doctor-", dir=place)
    for name in ("", "lower", "upper", "work", "merged", "proc"):
        path = os.path.join(folder, name)
        os.makedirs(path, exist_ok=True)
        if os.geteuid() == 0:
            os.chown(path, ids.root_uid, ids.root_gid)
    return folder


def _steps(folder: str) -> dict[str, Callable[[], None]]:
    steps: dict[str, Callable[[], None]] = {"mount": _mount_privately}
    if folder:
        steps["overlay"] = lambda: _overlay(folder)
        steps["proc"] = lambda: sys_.mount("proc", f"{folder}/proc", "proc", 0)
        steps["tmpfs"] = lambda: sys_.mount("tmpfs", f"{folder}/proc", "tmpfs", 0)
        steps["devpts"] = lambda: sys_.mount("devpts", f"{folder}/proc", "devpts", 0, "newinstance")
    steps["loopback"] = netns.bring_up
    steps["local-routes"] = netns.make_all_local
    steps["nft"] = _nft
    return steps


def _mount_privately() -> None:
    sys_.mount("", "/", None, sys_.MS_REC | sys_.MS_PRIVATE)


def _overlay(folder: str) -> None:
    """Mount an overlay as sessions do, change a file of the lower layer and remove another through it."""
    for name in ("changed", "removed"):
        with open(f"{folder}/lower/{name}", "w", encoding="ascii") as file:
            file.write("lower")
    data = f"lowerdir={folder}/lower,upperdir={folder}/upper,workdir={folder}/work,userxattr"
    sys_.mount("overlay", f"{folder}/merged", "overlay", 0, data)
    with open(f"{folder}/merged/changed", "w", encoding="ascii") as file:
        file.write("upper")
    os.unlink(f"{folder}/merged/removed")
    if sorted(os.listdir(f"{folder}/upper")) != ["changed", "removed"]:
        raise OSError("the upper directory doesn't hold the changes")


def _nft() -> None:
    from pyroute2.nftables.main import NFTables

    with NFTables(nfgen_family=1) as nft:
        nft.table("add", name="probe")
        nft.chain("add", table="probe", name="out", hook="output", type="nat", priority=-100, policy=1)


def _in_child(steps: dict[str, Callable[[], None]], flags: int, ids: IdMap | None) -> dict[str, str]:
    """Do `steps` in a child with new namespaces and, when given, `ids`. What went wrong with each, empty when it
    worked; "clone" is there only when the child or its ids couldn't be made."""
    told, tell = os.pipe2(os.O_CLOEXEC)
    wait, go = os.pipe2(os.O_CLOEXEC)
    try:
        pid = sys_.clone(flags)
    except OSError as error:
        for fd in (told, tell, wait, go):
            os.close(fd)
        return {"clone": error.strerror or str(error)}
    if pid == 0:
        try:
            os.close(go)
            if os.read(wait, 1) == b"g":
                signal.alarm(_GIVE_UP_AFTER_S)
                _child(steps, tell, ids)
        finally:
            os._exit(0)
    os.close(tell)
    os.close(wait)
    problem = ""
    try:
        if ids is not None:
            idmap.write_maps(pid, ids)
        os.write(go, b"g")
    except Failure as error:
        problem = str(error)
    finally:
        os.close(go)
    with open(told, "rb") as pipe:
        lines = pipe.read().splitlines()
    os.waitpid(pid, 0)
    if problem:
        return {"clone": problem}
    results: dict[str, str] = dict(json.loads(line) for line in lines)
    for name in steps:
        results.setdefault(name, f"no answer within {_GIVE_UP_AFTER_S} s")
    return results


def _child(steps: dict[str, Callable[[], None]], tell: int, ids: IdMap | None) -> None:
    null = os.open("/dev/null", os.O_RDWR)
    os.dup2(null, 1)
    os.dup2(null, 2)
    if ids is not None:
        os.setresgid(0, 0, 0)
        os.setresuid(0, 0, 0)
    for name, step in steps.items():
        try:
            step()
            problem = ""
        except OSError as error:
            problem = error.strerror or str(error)
        except Exception as error:  # a library's own exception: the doctor shows it, whatever it is
            problem = f"{type(error).__name__}: {error}"
        os.write(tell, json.dumps([name, problem]).encode() + b"\n")
