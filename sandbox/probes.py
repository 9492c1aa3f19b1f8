"""Trying out what a session needs of this machine.

Everything is really done, in a process that is then gone, and what it left on the disk is removed. Nothing is
judged here; sandbox.doctor does that.
"""

from __future__ import annotations

import json
import os
import resource
import select
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
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
    """What was found. In `tried`, each name stands with what went wrong, empty when it worked; a name is
    absent when nothing could be tried because an earlier step failed. `descriptors`: the hard limit of open files,
    -1 for none."""

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
    descriptors: int


def look(data: str) -> Seen:
    """Look at this machine for sessions whose data lie in `data` (a path that need not exist yet)."""
    host = idmap.read_host_ids()
    place = _nearest(data)
    space = os.statvfs(place)
    tried = _try_alone()
    in_session, problem = _try_in_session(host, place)
    return Seen(
        user=_name(host.uid),
        ids=host,
        helpers=tuple(name for name in ("newuidmap", "newgidmap") if _privileged_program(name)),
        kernel=os.uname().release,
        interpreter=os.path.realpath(sys.executable),
        settings=_settings(),
        tried=tried | in_session,
        programs=tuple(name for name in ("mmdebstrap", "apt-get", "sudo") if _find(name)),
        keyring=_has_keyring(),
        data=data,
        data_problem=problem,
        free_bytes=space.f_bavail * space.f_frsize,
        descriptors=resource.getrlimit(resource.RLIMIT_NOFILE)[1],
    )


def _nearest(path: str) -> Path:
    """The first directory that exists, from `path` upwards."""
    whole = Path(path).absolute()
    return next(place for place in (whole, *whole.parents) if os.access(place, os.F_OK) and place.is_dir())


def _name(uid: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _find(name: str) -> Path | None:
    folders = (*os.environ.get("PATH", "").split(":"), "/usr/sbin", "/sbin", "/usr/bin")
    places = (Path(folder, name) for folder in folders if folder)
    return next((place for place in places if os.access(place, os.X_OK) and place.is_file()), None)


def _privileged_program(name: str) -> bool:
    """Installed, and either set-uid root or with file capabilities, as distributions ship the two helpers."""
    path = _find(name)
    if path is None:
        return False
    status = path.stat()
    if status.st_mode & 0o4000 and status.st_uid == 0:
        return True
    try:
        return bool(os.getxattr(path, "security.capability"))
    except OSError:
        return False


def _has_keyring() -> bool:
    found = Path("/usr/share/keyrings").glob("debian-archive-*")
    return any("removed" not in path.name for path in found)


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


def _try_in_session(host: HostIds, place: Path) -> tuple[dict[str, str], str]:
    """What needs a session's namespaces, tried with a range of ids where there is one, else with a single id;
    and why `place` can't be written, when that is so."""
    folder, problem = None, ""
    if os.access(place, os.W_OK | os.X_OK):
        try:
            folder = Path(tempfile.mkdtemp(prefix=".sandboxsh-doctor-", dir=place))
        except OSError as error:
            problem = f"{place}: {error.strerror}"
    else:
        problem = f"{place} can't be written by {_name(host.uid)}"
    ids = idmap.choose(host)
    try:
        tried = _in_child({}, sys_.CLONE_NEWUSER, None)
        tried = {"user-namespace": tried.get("clone", "")}
        if tried["user-namespace"]:
            return tried, problem
        if ids.mode == idmap.RANGE:
            tried["id-range"] = _in_child({}, sys_.CLONE_NEWUSER, ids).get("clone", "")
            if tried["id-range"]:
                ids = idmap.choose(host, idmap.SINGLE)
        if folder is not None:
            _prepare(folder, ids)
        tried |= _in_child(_steps(folder), _ALL_NAMESPACES, ids)
        if "clone" in tried:
            tried["user-namespace"] = tried.pop("clone")
        return tried, problem
    finally:
        if folder is not None:
            remove_tree(str(folder), ids)


_ALL_NAMESPACES = (
    sys_.CLONE_NEWUSER
    | sys_.CLONE_NEWNS
    | sys_.CLONE_NEWPID
    | sys_.CLONE_NEWNET
    | sys_.CLONE_NEWIPC
    | sys_.CLONE_NEWUTS
    | sys_.CLONE_NEWCGROUP
)


def _prepare(folder: Path, ids: IdMap) -> None:
    for name in ("lower", "upper", "work", "merged"):
        (folder / name).mkdir()
    if os.geteuid() == 0:
        for path in (folder, *folder.iterdir()):
            os.chown(path, ids.root_uid, ids.root_gid)


def _steps(folder: Path | None) -> dict[str, Callable[[], None]]:
    steps: dict[str, Callable[[], None]] = {"mount": _mount_privately}
    if folder is not None:
        steps["overlay"] = lambda: _overlay(folder)
    steps["proc"] = lambda: sys_.mount("proc", "/proc", "proc", 0)
    steps["tmpfs"] = lambda: sys_.mount("tmpfs", "/tmp", "tmpfs", 0)
    steps["devpts"] = lambda: sys_.mount("devpts", "/tmp", "devpts", 0, "newinstance")
    steps["loopback"] = netns.bring_up
    steps["local-routes"] = netns.make_all_local
    steps["nft"] = _nft
    return steps


def _mount_privately() -> None:
    sys_.mount("", "/", None, sys_.MS_REC | sys_.MS_PRIVATE)


def _overlay(folder: Path) -> None:
    """Mount an overlay as sessions do, change a file of the lower layer and remove another through it."""
    for name in ("changed", "removed"):
        (folder / "lower" / name).write_text("lower")
    data = f"lowerdir={folder}/lower,upperdir={folder}/upper,workdir={folder}/work,userxattr"
    sys_.mount("overlay", f"{folder}/merged", "overlay", 0, data)
    (folder / "merged" / "changed").write_text("upper")
    (folder / "merged" / "removed").unlink()
    if {path.name for path in (folder / "upper").iterdir()} != {"changed", "removed"}:
        raise OSError("the upper directory doesn't hold the changes")


def _nft() -> None:
    """Make the rules that lead every port to one listener, as unrestricted sessions do."""
    netns.capture(*netns.listen((("any-tcp", 0), ("any-udp", 0), ("raw", 0))))


def _in_child(steps: dict[str, Callable[[], None]], flags: int, ids: IdMap | None) -> dict[str, str]:
    """Do `steps` in a child with new namespaces and, when given, `ids`.

    What went wrong with each, empty when it worked; "clone" only when the child or its ids couldn't be made.
    """
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
    lines = _read_until_end(told).splitlines()
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    if problem:
        return {"clone": problem}
    results: dict[str, str] = dict(json.loads(line) for line in lines)
    for name in steps:
        results.setdefault(name, f"no answer within {_GIVE_UP_AFTER_S} s")
    return results


def _read_until_end(pipe: int) -> bytes:
    """All that comes until the other end closes, or until the time is up."""
    end = time.monotonic() + _GIVE_UP_AFTER_S
    data = b""
    try:
        while select.select([pipe], [], [], max(0.0, end - time.monotonic()))[0]:
            part = os.read(pipe, 65536)
            if not part:
                break
            data += part
    finally:
        os.close(pipe)
    return data


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
