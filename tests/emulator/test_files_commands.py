"""``sandboxctl file`` on the records that a server serves at the same time."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import anthropic


def sandboxctl(data: Path, *arguments: str, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    command = [str(Path(sys.executable).with_name("sandboxctl")), "--data", str(data), "file", *arguments]
    return subprocess.run(command, input=given, capture_output=True, timeout=60, check=False, cwd=data)


def test_a_file_is_uploaded_listed_shown_and_deleted(
    client: anthropic.Anthropic, empty_data_dir: Path
) -> None:
    (empty_data_dir / "notes.md").write_bytes(b"hello")
    done = sandboxctl(empty_data_dir, "upload", str(empty_data_dir / "notes.md"), "--expires-in", "3600")
    assert done.returncode == 0, done.stderr
    made = client.beta.files.retrieve_metadata(done.stdout.decode().strip())
    assert (made.filename, made.mime_type, made.size_bytes) == ("notes.md", "text/markdown", 5)
    other = sandboxctl(
        empty_data_dir, "upload", "-", "--name", "a.bin", "--type", "image/png", "--json", given=b"x"
    )
    assert json.loads(other.stdout)["mime_type"] == "image/png"
    listed = sandboxctl(empty_data_dir, "list").stdout.decode().splitlines()
    assert [line.split()[0] for line in listed] == [json.loads(other.stdout)["id"], made.id]
    shown = json.loads(sandboxctl(empty_data_dir, "show", made.id).stdout)
    assert (shown["filename"], shown["downloadable"]) == ("notes.md", False)
    refused = sandboxctl(empty_data_dir, "download", made.id)
    assert refused.returncode == 2
    assert b"only what a session produced" in refused.stderr
    assert sandboxctl(empty_data_dir, "delete", made.id).stdout.decode().strip() == made.id
    assert [each.id for each in client.beta.files.list()] == [json.loads(other.stdout)["id"]]


def test_a_mistake_is_told_with_exit_code_2(empty_data_dir: Path) -> None:
    (empty_data_dir / "a").write_bytes(b"x")
    for arguments, told in (
        (("upload", "/nosuch"), b"/nosuch can't be read"),
        (("upload", "a", "--expires-in", "5"), b"expires_in_seconds"),
        (("upload", "a", "--name", "a:b"), b"can't be called"),
        (("show", "file_gone"), b"file_gone"),
        (("delete", "file_gone"), b"file_gone"),
    ):
        done = sandboxctl(empty_data_dir, *arguments)
        assert done.returncode == 2, arguments
        assert told in done.stderr
    assert list((empty_data_dir / "managed" / "files").iterdir()) == []
