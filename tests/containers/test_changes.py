"""What a session changed, as overlayfs leaves it, in real containers and in directories made by hand."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sandbox.containers.changes import changes, view
from sandbox.containers.containers import Containers
from sandbox.containers.spec import Change
from sandbox.idmap import IdMap
from sandbox.operations import Bind, Directory, Overlay, Proc
from sandbox.removal import as_session_root
from sandbox.spec import RootFs
from tests.containers.conftest import SPEC
from tests.containers.test_containers import said


def diff(containers: Containers) -> list[str]:
    return [f"{kind} {path}" for kind, path in containers.diff("one")]


def test_a_container_that_only_ran_has_changed_nothing(containers: Containers, container: str) -> None:
    assert diff(containers) == []
    said(containers, "true")
    assert diff(containers) == []


def test_what_was_added_changed_and_deleted_is_told(containers: Containers, container: str) -> None:
    said(
        containers,
        "mkdir /root/d; echo x >/root/d/f; echo x >>/etc/hosts; rm /etc/debian_version; echo >/usr/new",
    )
    assert diff(containers) == [
        "D /etc/debian_version",
        "C /etc/hosts",
        "A /root/d",
        "A /root/d/f",
        "A /usr/new",
    ]


def test_what_is_done_where_commands_begin_is_told(containers: Containers, container: str) -> None:
    said(containers, "pwd; echo x >f; mkdir d; echo x >/tmp/g; touch /mnt/session/uploads/own")
    assert diff(containers) == [
        "A /mnt/session/uploads/own",
        "A /tmp/g",
        "A /workspace/d",
        "A /workspace/f",
    ]
    said(containers, "rm -r /tmp/g /mnt/session/uploads/own; cd /; rm -r /workspace")
    assert diff(containers) == ["D /workspace"]


def test_what_sandboxsh_and_attached_files_leave_is_not_the_sessions(
    containers: Containers, container: str, data_dir: Path
) -> None:
    source = data_dir / "attached"
    source.write_text("x")
    containers.attach(container, "a", str(source), "/deep/path/file")
    said(containers, "echo x >/mnt/session/outputs/out; echo x >/dev/shm/x; echo x >/deep/path/own")
    assert diff(containers) == ["A /deep/path/own"]


@pytest.fixture
def based(containers: Containers, ids: IdMap, empty_data_dir: Path) -> Containers:
    """With the container ``one`` on a base and a layer of the sessions' own."""
    base, layer = empty_data_dir / "base", empty_data_dir / "layer"
    for path in (base, layer):
        path.mkdir()
        os.chown(path, ids.root_uid, ids.root_gid)

    def fill() -> None:
        for program in ("usr/bin", "lib", "lib64", "usr/lib"):
            (base / program).mkdir(parents=True, exist_ok=True)
        (base / "data/old").mkdir(parents=True)
        for name in ("a", "b"):
            (base / f"data/old/{name}").write_text(name)
        (base / "data/file").write_text("file")
        (layer / "data").mkdir()
        (layer / "data/upon").write_text("layer")
        os.mknod(layer / "data/file", 0o020000, 0)

    as_session_root(ids, fill)
    containers.create("one", SPEC._replace(root=RootFs(str(base), (str(layer),))))
    return containers


def test_directories_that_were_replaced_and_layers_with_whiteouts(based: Containers, ids: IdMap) -> None:
    """The base has no programs: what a session would do is done to its upper directory."""
    based.start("one")
    based.stop("one")
    upper = Path(based.data) / "containers" / ids.name / "one" / "upper"

    def change() -> None:
        (upper / "data/old").mkdir(parents=True)
        os.setxattr(upper / "data/old", "user.overlay.opaque", b"y")
        (upper / "data/old/b").write_text("new")
        (upper / "data/old/c").write_text("new")
        (upper / "data/file").write_text("again")
        os.mknod(upper / "data/upon", 0o020000, 0)
        os.mknod(upper / "data/nothing", 0o020000, 0)

    as_session_root(ids, change)
    assert diff(based) == [
        "A /data/file",
        "C /data/old",
        "D /data/old/a",
        "C /data/old/b",
        "A /data/old/c",
        "D /data/upon",
    ]


def test_no_more_is_told_than_was_asked_for(containers: Containers, container: str) -> None:
    said(containers, "cd /root; for n in 1 2 3 4 5; do echo >$n; done")
    assert containers.diff(container, limit=2) == (Change("A", "/root/1"), Change("A", "/root/2"))


def test_depths_and_odd_names_stop_nothing(containers: Containers, container: str) -> None:
    said(
        containers,
        "cd /root; printf x >\"$(printf 'a\\nb\\377')\"; for n in $(seq 400); do mkdir d; cd d; done; echo >f",
    )
    found = containers.diff(container)
    assert Change("A", "/root/a\nb\udcff") in found
    assert 100 < len(found) < 300


def test_what_only_root_of_the_session_may_read_is_told(containers: Containers, container: str) -> None:
    said(containers, "mkdir -m 0 /root/closed /root/closed/in; (umask 777; echo >/root/closed/f)")
    assert diff(containers) == ["A /root/closed", "A /root/closed/f", "A /root/closed/in"]


def test_a_view_knows_overlays_within_overlays(tmp_path: Path) -> None:
    for path in ("lower/etc", "other/x", "upper/etc", "upper/usr/x", "upper/mnt/in"):
        (tmp_path / path).mkdir(parents=True)
    (tmp_path / "other/x/file").write_text("")
    (tmp_path / "upper/usr/x/file").write_text("x")
    (tmp_path / "upper/usr/x/new").write_text("x")
    steps = (
        Overlay("/", (f"{tmp_path}/lower",), "", ""),
        Overlay("/usr", (f"{tmp_path}/other",), "", ""),
        Bind("/a", "/mnt/in", True),
        Proc(),
        Directory("/made/here"),
    )
    (tmp_path / "upper/made/here").mkdir(parents=True)
    (tmp_path / "upper/made/here/own").write_text("")
    found = changes(f"{tmp_path}/upper", view(steps, ()), 100)
    assert found == (
        Change("A", "/made/here/own"),
        Change("C", "/usr/x/file"),
        Change("A", "/usr/x/new"),
    )
