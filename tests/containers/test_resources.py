"""Files of the host that a container sees, attached before it runs and while it does."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from sandbox.containers.containers import Containers
from sandbox.containers.resources import check
from sandbox.containers.spec import Attachment
from sandbox.errors import InputError, SetupError
from tests.containers.test_containers import said

UPLOAD = "/mnt/session/uploads/file_1"
MOUNTS = "cut -d' ' -f5 </proc/self/mountinfo"


@pytest.fixture(params=[0o644, 0o600], ids=["linked", "copied"])
def source(request: pytest.FixtureRequest, data_dir: Path) -> str:
    """A file on the data directory's file system, which everybody may read or only its owner."""
    path = data_dir / f"upload-{os.getpid()}"
    path.write_text("content\n")
    path.chmod(request.param)
    return str(path)


def test_a_file_is_seen_and_cannot_be_written(containers: Containers, container: str, source: str) -> None:
    containers.attach(container, "a", source, UPLOAD)
    assert containers.attached(container) == (Attachment("a", UPLOAD),)
    told = said_anyway(
        containers, f"cat {UPLOAD}; chmod 0 {UPLOAD} || echo no; (echo x >{UPLOAD}) || echo no"
    )
    assert told.startswith("content\n") and told.count("no\n") == 2 and "Read-only" in told
    assert said(containers, "echo x >/mnt/session/uploads/other && cat /mnt/session/uploads/other") == "x\n"
    assert Path(source).read_text() == "content\n"


def said_anyway(containers: Containers, script: str) -> str:
    return containers.run("one", ["sh", "-c", script], together=True).output.decode()


def test_a_running_container_gets_and_loses_files(
    containers: Containers, container: str, source: str
) -> None:
    containers.start(container)
    containers.attach(container, "a", source, "/deep/er/than/before")
    containers.attach(container, "b", source, "/etc/hosts")
    assert said(containers, "cat /deep/er/than/before /etc/hosts") == "content\n" * 2
    containers.detach(container, "a")
    containers.detach(container, "b")
    assert "localhost" in said(containers, "ls -A /deep/er/than; cat /etc/hosts")
    assert "before" not in said(containers, "ls -A /deep/er/than")
    assert containers.attached(container) == ()
    containers.detach(container, "a")


def test_what_is_attached_is_there_again_after_a_restart(
    containers: Containers, container: str, source: str
) -> None:
    containers.start(container)
    containers.attach(container, "a", source, UPLOAD)
    containers.attach(container, "b", source, "/other")
    containers.stop(container)
    containers.detach(container, "b")
    assert said_anyway(containers, f"cat {UPLOAD}") == "content\n"
    assert "content" not in said_anyway(containers, "cat /other")


def test_a_name_or_a_place_that_is_taken_is_refused(
    containers: Containers, container: str, source: str
) -> None:
    containers.attach(container, "a", source, UPLOAD)
    containers.attach(container, "a", source, UPLOAD)
    for name, target in (("a", "/other"), ("b", UPLOAD)):
        with pytest.raises(InputError, match="can't be attached"):
            containers.attach(container, name, source, target)
    with pytest.raises(InputError, match="No such file"):
        containers.attach(container, "b", "/nosuch", "/b")
    assert len(containers.attached(container)) == 1


def test_what_is_in_the_way_is_told_and_nothing_is_left(
    containers: Containers, container: str, source: str
) -> None:
    said(containers, "mkdir /root/there; echo x >/root/file")
    for target in ("/root/there", "/root/file/below"):
        with pytest.raises(SetupError, match=f"{target} can't be shown"):
            containers.attach(container, "a", source, target)
    assert containers.attached(container) == ()
    containers.attach(container, "a", source, "/root/file")
    assert said(containers, "cat /root/file") == "content\n"


def test_links_of_the_session_lead_nowhere_but_into_the_session(
    containers: Containers, container: str, source: str, data_dir: Path
) -> None:
    outside = data_dir / "outside"
    outside.mkdir(exist_ok=True)
    said(containers, f"mkdir /root/x; ln -s {outside} /root/x/link; ln -s /proc/self/cwd /root/x/magic")
    with pytest.raises(SetupError):
        containers.attach(container, "a", source, "/root/x/link/file")
    said(containers, f"mkdir -p {outside}")
    containers.attach(container, "a", source, "/root/x/link/file")
    with pytest.raises(SetupError):
        containers.attach(container, "b", source, "/root/x/magic/file")
    assert list(outside.iterdir()) == []
    assert said(containers, f"cat {outside}/file") == "content\n"


def test_a_session_that_moves_directories_keeps_nothing_that_is_taken_away(
    containers: Containers, container: str, source: str
) -> None:
    """Neither a moved place nor a link in its stead has another mount taken away, or this one kept."""
    before = said(containers, MOUNTS)
    containers.attach(container, "a", source, "/root/a/file")
    said(containers, "mv /root/a /root/b; mkdir /root/a; ln -s /dev/null /root/a/file; cat /root/b/file")
    assert said(containers, MOUNTS) != before
    containers.detach(container, "a")
    assert "content" not in said_anyway(containers, "cat /root/b/file")
    assert said(containers, MOUNTS) == before


def test_a_session_that_plays_with_paths_gains_nothing(
    containers: Containers, container: str, source: str
) -> None:
    containers.start(container)
    script = "cd /root; while :; do mkdir d 2>/dev/null; mv d e; ln -s /etc d; rm -rf d e; done"
    with containers.exec(container, ["sh", "-c", script]):
        for number in range(20):
            try:
                containers.attach(container, f"n{number}", source, "/root/d/file")
                containers.detach(container, f"n{number}")
            except SetupError:
                assert (
                    containers.attached(container) == () or containers.detach(container, f"n{number}") is None
                )
    assert "localhost" in said(containers, "cat /etc/hosts")


def test_what_is_not_attached_cannot_be_seen(containers: Containers, container: str, source: str) -> None:
    containers.attach(container, "a", source, UPLOAD)
    assert said(containers, "ls -A /mnt/session/.attached") == ""


def test_many_files_at_a_start(containers: Containers, container: str, source: str) -> None:
    for number in range(60):
        containers.attach(container, f"n{number}", source, f"/mnt/session/uploads/{number}")
    assert said(containers, "ls /mnt/session/uploads | wc -l; cat /mnt/session/uploads/59") == "60\ncontent\n"
    containers.detach(container, "n59")
    assert said(containers, "ls /mnt/session/uploads | wc -l") == "59\n"


def test_changes_at_once_are_all_kept(containers: Containers, container: str, source: str) -> None:
    threads = [
        threading.Thread(target=containers.attach, args=(container, f"n{number}", source, f"/f/{number}"))
        for number in range(8)
    ]
    containers.start(container)
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(containers.attached(container)) == 8
    assert said(containers, "cat /f/* | wc -l") == "8\n"


@pytest.mark.parametrize("target", ["", "/", "a", "/a/", "/a/../b", "/a//b", "/a\0", "//a"])
def test_paths_that_are_refused(target: str) -> None:
    with pytest.raises(InputError):
        check("name", target)


def test_a_path_that_is_taken() -> None:
    check("name", "/a b/ü")


def test_many_files_are_attached_before_it_runs(containers: Containers, container: str, source: str) -> None:
    wanted = [(f"f{number}", source, f"/data/{number}") for number in range(50)]
    containers.attach_all(container, wanted)
    assert said(containers, "cat /data/* | wc -l") == "50\n"
    containers.stop(container)
    with pytest.raises(InputError, match="f1 is at /data/1"):
        containers.attach_all(container, [("new", source, "/new"), ("f1", source, "/data/1")])
    assert len(containers.attached(container)) == 50
    containers.attach_all(container, [("new", source, "/usr/share")])
    with pytest.raises(SetupError, match="/usr/share"):
        containers.start(container)
