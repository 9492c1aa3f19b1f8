"""What a session writes to the host's own files: root's carry no rights to others, a build's are not root's."""

from __future__ import annotations

import os
import stat
import struct
from pathlib import Path

import pytest

from pkgcache.runner import Job, Mount, Root
from sandbox import idmap, session
from sandbox.build_runner import make_runner
from sandbox.idmap import IdMap
from sandbox.spec import SESSION, HostMount, RootFs, RunSpec, Workspace, base_environment
from sandbox.stdio import collect
from tests.capabilities import need

PYTHON = "/usr/bin/python3"
CAPABILITY = "security.capability"
# struct vfs_cap_data of revision 2: cap_setuid, permitted and effective.
SETUID_CAPABILITY = struct.pack("<IIIII", 0x02000001, 1 << 7, 0, 0, 0)
GIVE_RIGHTS = f"""
import os
def attempt(name, act):
    try:
        act()
        print(name, "done")
    except PermissionError:
        print(name, "refused")
def make(name, mode=0o755):
    os.close(os.open(name, os.O_CREAT | os.O_WRONLY, mode))
os.umask(0)
for name in ("plain", "user", "group", "capable"):
    make(name)
attempt("plain", lambda: os.chmod("plain", 0o1755))
attempt("user", lambda: os.chmod("user", 0o4755))
attempt("group", lambda: os.chmod("group", 0o2755))
attempt("made", lambda: make("made", 0o4755))
attempt("capable", lambda: os.setxattr("capable", {CAPABILITY!r}, {SETUID_CAPABILITY!r}))
"""
REFUSED = "plain done\nuser refused\ngroup refused\nmade refused\ncapable refused\n"
DONE = REFUSED.replace("refused", "done")


@pytest.fixture(params=["range", "single"])
def ids(request: pytest.FixtureRequest) -> IdMap:
    need("user-namespaces", "overlay")
    if request.param == "range":
        need("subids")
    return idmap.choose(idmap.read_host_ids(), request.param)


@pytest.fixture
def folder(empty_data_dir: Path) -> Path:
    """A directory of the caller's that every id can reach."""
    made = empty_data_dir / "folder"
    made.mkdir()
    return made


def attempt(ids: IdMap, data: Path, spec: RunSpec) -> str:
    """What GIVE_RIGHTS says in the session; ``spec`` lacks only a root, a command and an environment."""
    from netpolicy.policy import compile_policy

    said = bytearray()
    spec = spec._replace(
        command=(PYTHON, "-Ic", GIVE_RIGHTS),
        environment=tuple(base_environment().items()),
        network="none",
        timeout_s=60,
    )
    report = session.run(spec, ids, str(data), compile_policy("none"), lambda: collect(said.extend))
    assert (report.outcome.code, report.message) == (0, ""), said.decode()
    return said.decode()


NOTHING = RunSpec(RootFs(None), (), ())


def with_rights(folder: Path) -> list[str]:
    return sorted(
        path.name
        for path in folder.iterdir()
        if path.lstat().st_mode & (stat.S_ISUID | stat.S_ISGID) or CAPABILITY in os.listxattr(path)
    )


def test_nothing_in_a_workspace_of_roots_is_given_rights(ids: IdMap, data_dir: Path, folder: Path) -> None:
    need("root")
    assert (
        attempt(ids, data_dir, NOTHING._replace(workspace=Workspace(str(folder), writable=True))) == REFUSED
    )
    assert with_rights(folder) == []
    made = (folder / "plain").stat()
    assert (made.st_uid, stat.S_IMODE(made.st_mode)) == (0, 0o1755)


def test_nothing_in_a_directory_of_roots_is_given_rights(ids: IdMap, data_dir: Path, folder: Path) -> None:
    need("root")
    spec = NOTHING._replace(mounts=(HostMount(str(folder), "/shared", True),), workdir="/shared")
    assert attempt(ids, data_dir, spec) == REFUSED
    assert with_rights(folder) == []
    read_only = spec._replace(mounts=(HostMount(str(folder), "/shared", False),), workdir="/workspace")
    assert attempt(ids, data_dir, read_only) == DONE
    assert with_rights(folder) == []


def test_a_copy_on_write_is_the_sessions_own_to_give_rights_to(
    ids: IdMap, data_dir: Path, folder: Path
) -> None:
    assert attempt(ids, data_dir, NOTHING._replace(workspace=Workspace(str(folder), writable=False))) == DONE
    assert list(folder.iterdir()) == []


def test_a_directory_of_the_sessions_ids_is_seen_as_its_own(ids: IdMap, data_dir: Path, folder: Path) -> None:
    if os.geteuid() == 0:
        os.chown(folder, ids.root_uid, ids.root_gid)
    spec = NOTHING._replace(mounts=(HostMount(str(folder), "/own", True, SESSION),), workdir="/own")
    assert attempt(ids, data_dir, spec) == DONE
    assert {path.stat().st_uid for path in folder.iterdir()} == {ids.root_uid}
    assert with_rights(folder) == ["capable", "group", "made", "user"]


def run_job(ids: IdMap, data: Path, script: str, *mounts: Mount) -> str:
    said = bytearray()
    job = Job(Root(None), ("/bin/sh", "-ec", script), mounts=mounts, timeout_s=60, output=said.extend)
    result = make_runner(ids, str(data), {})(job)
    assert result.exit_code == 0, said.decode()
    return said.decode()


def test_a_build_writes_its_caches_as_the_session(ids: IdMap, data_dir: Path, folder: Path) -> None:
    # Only root's own may pass through here, as through a store's downloads.
    folder.chmod(0o700)
    cache = folder / "cache"
    cache.mkdir()
    (cache / "below").mkdir()
    (cache / "below" / "old").write_text("old")
    (cache / "away").symlink_to("/etc/hostname")
    before = os.stat("/etc/hostname")
    mount = Mount(str(cache), "/var/cache/kept", writable=True)
    script = "cd /var/cache/kept; cat below/old; echo new >> below/old; touch x; chmod 4755 x; stat -c %u . below x"
    assert run_job(ids, data_dir, script, mount) == "old0\n0\n0\n"
    assert {path.lstat().st_uid for path in (cache, *cache.rglob("*"))} == {ids.root_uid}
    assert (cache / "x").stat().st_mode & stat.S_ISUID
    assert (os.stat("/etc/hostname").st_uid, os.stat("/etc/hostname").st_gid) == (
        before.st_uid,
        before.st_gid,
    )
    again = run_job(ids, data_dir, "cat /var/cache/kept/below/old", mount._replace(writable=False))
    assert again == "oldnew\n"


def test_a_build_keeps_owners_in_a_cache(data_dir: Path, folder: Path) -> None:
    need("user-namespaces", "overlay", "subids")
    ids = idmap.choose(idmap.read_host_ids(), "range")
    mount = Mount(str(folder), "/var/cache/kept", writable=True)
    run_job(ids, data_dir, "touch /var/cache/kept/x; chown 42:43 /var/cache/kept/x", mount)
    assert run_job(ids, data_dir, "stat -c %u:%g /var/cache/kept/x", mount) == "42:43\n"
    assert (folder / "x").stat().st_uid not in (0, 42, os.geteuid())


def test_what_a_build_only_reads_stays_whose_it_is(ids: IdMap, data_dir: Path, folder: Path) -> None:
    (folder / "file").write_text("content")
    mount = Mount(str(folder), "/var/cache/kept", writable=False)
    assert run_job(ids, data_dir, "cat /var/cache/kept/file", mount) == "content"
    assert {path.stat().st_uid for path in (folder, folder / "file")} == {os.geteuid()}
