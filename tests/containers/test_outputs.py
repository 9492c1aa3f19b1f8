"""What stands in the outputs of a container, which a stranger filled."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sandbox.containers import chores, outputs
from sandbox.containers.containers import Containers
from sandbox.errors import SetupError
from sandbox.idmap import IdMap
from sandbox.removal import as_owner
from tests.containers.test_containers import said


def read(containers: Containers, path: str) -> bytes:
    with open(containers.open_output("one", path), "rb") as file:
        return file.read()


def test_files_are_listed_and_read(containers: Containers, container: str) -> None:
    assert containers.outputs(container) == ()
    said(containers, "cd /mnt/session/outputs; echo one >b; mkdir a; echo three >a/x")
    found = containers.outputs(container)
    assert [(each.path, each.size) for each in found] == [("a/x", 6), ("b", 4)]
    assert (read(containers, "a/x"), read(containers, "b")) == (b"three\n", b"one\n")
    said(containers, "echo two >/mnt/session/outputs/b")
    assert [each.identity for each in containers.outputs(container)] != [each.identity for each in found]


def test_links_and_other_things_are_neither_listed_nor_opened(
    containers: Containers, container: str, data_dir: Path
) -> None:
    secret = data_dir / "secret"
    secret.write_text("secret")
    said(
        containers,
        f"cd /mnt/session/outputs; ln -s {secret} link; ln -s {data_dir} folder; mkfifo fifo;"
        "echo x >file; ln -s file own",
    )
    assert [each.path for each in containers.outputs(container)] == ["file"]
    for path in (
        "link",
        "folder/secret",
        "fifo",
        "own",
        "nosuch",
        "",
        ".",
        "..",
        "../egress.jsonl",
        "/etc/passwd",
    ):
        with pytest.raises(FileNotFoundError):
            containers.open_output(container, path)
    assert read(containers, "file") == b"x\n"


def test_what_is_closed_to_all_but_its_owner_is_read(containers: Containers, container: str) -> None:
    """In a range of ids the owner may be one that the caller is not."""
    said(
        containers,
        "cd /mnt/session/outputs; mkdir in; echo x >in/f; chown -R 33:33 in; chmod 600 in/f; chmod 700 in",
    )
    assert [each.path for each in containers.outputs(container)] == ["in/f"]
    assert read(containers, "in/f") == b"x\n"
    with pytest.raises(FileNotFoundError):
        containers.open_output(container, "in/g")


def test_a_great_many_and_great_depths_are_cut(containers: Containers, container: str) -> None:
    said(
        containers,
        "cd /mnt/session/outputs; for n in 1 2 3; do echo >$n; done;"
        "for n in $(seq 150); do mkdir d; cd d; done; echo >f",
    )
    assert [each.path for each in containers.outputs(container, limit=2)] == ["1", "2"]
    assert len(containers.outputs(container)) == 3
    assert os.getcwd()


def test_of_a_flood_of_files_no_more_is_looked_at_than_there_is_memory_for(
    containers: Containers, container: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    said(containers, "cd /mnt/session/outputs; mkdir a b; touch $(seq 50); touch a/$(seq 9) b/x")
    monkeypatch.setattr(outputs, "_MOST", 20)
    assert len(containers.outputs(container)) < 20
    monkeypatch.undo()
    assert len(containers.outputs(container)) > 50


def test_who_looks_at_a_containers_files_takes_a_limited_memory(ids: IdMap) -> None:
    def work(size: int) -> None:
        chores.bounded(lambda: (len(bytearray(size)), ()))()

    as_owner(ids, lambda: work(1 << 20))
    with pytest.raises(SetupError, match="more files than can be looked at"):
        as_owner(ids, lambda: work(2 << 30))
