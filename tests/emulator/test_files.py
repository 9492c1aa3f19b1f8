"""Files by the official client: uploaded, listed, read, expired, deleted; and nothing left of a broken upload."""

from __future__ import annotations

import asyncio
import fcntl
import io
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import anthropic
import httpx
import pytest

from sandbox.emulator.embedded import Emulator
from sandbox.idmap import choose, read_host_ids
from sandbox.managed import files
from sandbox.managed.service import Service, open_service
from tests.capabilities import need

HEADERS = {"x-api-key": "k"}


@pytest.fixture
def service(emulator: Emulator, empty_data_dir: Path) -> Iterator[Service]:
    """The same records, as a command beside the server has them."""
    opened = open_service(str(empty_data_dir), choose(read_host_ids(), None))
    yield opened
    opened.close()


def contents(folder: Path) -> list[str]:
    place = folder / "managed" / "files"
    return sorted(os.listdir(place)) if place.exists() else []


def until(check: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not check():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def produced(service: Service, content: bytes, name: str = "made.csv") -> str:
    """A file that may be downloaded."""
    with files.Upload(service) as upload:
        upload.write(content)
        document = upload.finish(name)
    document["downloadable"] = True
    service.database.replace("files", document)
    return str(document["id"])


def test_a_file_is_uploaded_and_described(client: anthropic.Anthropic, empty_data_dir: Path) -> None:
    made = client.beta.files.upload(file=("a/b/notes.txt", b"hello", "text/plain"))
    assert (made.filename, made.mime_type, made.size_bytes) == ("notes.txt", "text/plain", 5)
    assert (made.downloadable, made.expires_at, made.scope) == (False, None, None)
    assert client.beta.files.retrieve_metadata(made.id) == made
    assert client.files.retrieve_metadata(made.id).id == made.id
    (kept,) = contents(empty_data_dir)
    path = empty_data_dir / "managed" / "files" / kept
    assert (kept, path.read_bytes(), path.stat().st_mode & 0o777) == (made.id, b"hello", 0o600)


@pytest.mark.parametrize("chunk", [1, 7, 4096])
def test_what_looks_like_a_boundary_is_content(emulator: Emulator, empty_data_dir: Path, chunk: int) -> None:
    content = b"\r\n--edg\r\n--edge \r\n-\r--edge--x" * 3 + b"\r\n"
    body = (
        b'--edge\r\nContent-Disposition: form-data; name="file"; filename="\xc3\xa4.bin"\r\n\r\n'
        + content.replace(b"--edge", b"--edgX")
        + b"\r\n--edge--\r\n"
    )
    pieces = (body[at : at + chunk] for at in range(0, len(body), chunk))
    headers = {**HEADERS, "content-type": "multipart/form-data; boundary=edge"}
    answer = httpx.post(f"{emulator.base_url}/v1/files", content=pieces, headers=headers)
    assert answer.status_code == 200, answer.text
    assert answer.json()["filename"] == "ä.bin"
    (kept,) = contents(empty_data_dir)
    assert (empty_data_dir / "managed/files" / kept).read_bytes() == content.replace(b"--edge", b"--edgX")


def test_the_async_client_uploads_and_streams_back(emulator: Emulator, service: Service) -> None:
    content = os.urandom(3 << 20)
    made = produced(service, content, "big.bin")

    async def work() -> tuple[int, bytes]:
        async with anthropic.AsyncAnthropic(base_url=emulator.base_url, api_key="k") as client:
            uploaded = await client.beta.files.upload(file=io.BytesIO(content))
            async with client.beta.files.with_streaming_response.download(made) as answer:
                assert answer.headers["content-length"] == str(len(content))
                assert answer.headers["content-type"] == "application/octet-stream"
                assert "big.bin" in answer.headers["content-disposition"]
                return uploaded.size_bytes, b"".join([part async for part in answer.iter_bytes()])

    assert asyncio.run(work()) == (len(content), content)


def test_a_file_is_downloaded_whole_and_in_part(
    client: anthropic.Anthropic, emulator: Emulator, service: Service, tmp_path: Path
) -> None:
    made = produced(service, b"0123456789")
    client.beta.files.download(made).write_to_file(tmp_path / "there")
    assert (tmp_path / "there").read_bytes() == b"0123456789"
    assert client.beta.files.download(made).read() == b"0123456789"
    for asked, status, expected in (
        ("bytes=2-4", 206, b"234"),
        ("bytes=7-", 206, b"789"),
        ("bytes=-2", 206, b"89"),
        ("bytes=0-999", 200, b"0123456789"),
        ("bytes=10-", 416, b""),
        ("bytes=-0", 416, b""),
        ("bytes=1-2,4-5", 200, b"0123456789"),
        ("lines=1-2", 200, b"0123456789"),
    ):
        answer = httpx.get(
            f"{emulator.base_url}/v1/files/{made}/content", headers={**HEADERS, "range": asked}
        )
        assert (answer.status_code, answer.content) == (status, expected), asked
    empty = produced(service, b"")
    assert client.beta.files.download(empty).read() == b""


def test_clients_that_hang_up_leave_no_file_open(emulator: Emulator, service: Service) -> None:
    made = produced(service, bytes(8 << 20))
    where = urlsplit(emulator.base_url)
    assert where.hostname and where.port
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        with socket.create_connection((where.hostname, where.port)) as hasty:
            hasty.sendall(
                f"GET /v1/files/{made}/content HTTP/1.1\r\nHost: localhost\r\nx-api-key: k\r\n\r\n".encode()
            )
    whole = httpx.get(f"{emulator.base_url}/v1/files/{made}/content", headers=HEADERS)
    assert len(whole.content) == 8 << 20
    until(lambda: len(os.listdir("/proc/self/fd")) <= before + 4)


def test_what_was_uploaded_is_not_downloaded(client: anthropic.Anthropic) -> None:
    made = client.beta.files.upload(file=("a.txt", b"x"))
    with pytest.raises(anthropic.BadRequestError) as caught:
        client.beta.files.download(made.id)
    assert isinstance(caught.value, anthropic.types.FileNotDownloadableError)


def test_a_missing_file_is_told(client: anthropic.Anthropic) -> None:
    for call in (
        client.beta.files.retrieve_metadata,
        client.beta.files.download,
        client.beta.files.delete,
    ):
        with pytest.raises(anthropic.NotFoundError, match="file_missing"):
            call("file_missing")


def test_an_expired_file_loses_its_content_and_keeps_its_record(
    client: anthropic.Anthropic, service: Service, empty_data_dir: Path
) -> None:
    made = client.beta.files.upload(file=("a.txt", b"x"), expires_in_seconds=3600)
    assert made.expires_at is not None
    assert (made.expires_at - made.created_at).total_seconds() == 3600
    old = files.get(service, made.id) | {"expires_at": "2020-01-01T00:00:00.000000Z", "downloadable": True}
    service.database.replace("files", old, expires_at=old["expires_at"])
    with pytest.raises(anthropic.NotFoundError) as caught:
        client.beta.files.download(made.id)
    assert isinstance(caught.value, anthropic.types.FileExpiredError)
    assert contents(empty_data_dir) == []
    assert client.beta.files.retrieve_metadata(made.id).expires_at is not None
    assert files.sweep(service) == 0
    assert [each.id for each in client.beta.files.list()] == [made.id]


@pytest.mark.parametrize("seconds", [3599, 7_776_001, -1])
def test_a_time_of_life_out_of_range_is_refused(
    client: anthropic.Anthropic, empty_data_dir: Path, seconds: int
) -> None:
    with pytest.raises(anthropic.BadRequestError, match="expires_in_seconds"):
        client.beta.files.upload(file=("a.txt", b"x"), expires_in_seconds=seconds)
    assert contents(empty_data_dir) == []
    assert client.beta.files.upload(file=("a.txt", b"x"), expires_in_seconds=7_776_000).expires_at


def test_files_are_listed_a_page_at_a_time(client: anthropic.Anthropic, emulator: Emulator) -> None:
    made = [client.beta.files.upload(file=(f"{number}", b"x")).id for number in range(25)]
    first = client.beta.files.list()
    assert [each.id for each in first.data] == made[:4:-1]
    assert [each.id for each in client.beta.files.list(limit=7)] == made[::-1]
    assert [each.id for each in client.files.list(limit=7)] == made[::-1]
    answer = httpx.get(f"{emulator.base_url}/v1/files?limit=3&after_id={made[10]}", headers=HEADERS).json()
    assert [each["id"] for each in answer["data"]] == made[9:6:-1]
    assert (answer["has_more"], answer["first_id"], answer["last_id"]) == (True, made[9], made[7])
    for limit in (0, 1001):
        with pytest.raises(anthropic.BadRequestError, match="limit"):
            client.beta.files.list(limit=limit)


def test_files_are_listed_by_their_ids(client: anthropic.Anthropic) -> None:
    made = [client.beta.files.upload(file=(f"{number}", b"x")).id for number in range(3)]
    page = client.beta.files.list(ids=[made[0], made[2], made[2], "file_gone"])
    assert [each.id for each in page.data] == [made[2], made[0]]
    assert page.next_page is None
    with pytest.raises(anthropic.BadRequestError, match="ids"):
        client.beta.files.list(ids=[f"file_{number}" for number in range(101)])
    with pytest.raises(anthropic.BadRequestError, match="ids"):
        client.beta.files.list(ids=made, limit=2)


def test_a_deleted_file_is_gone(client: anthropic.Anthropic, empty_data_dir: Path) -> None:
    made, other = (client.beta.files.upload(file=(name, b"x")) for name in ("a", "b"))
    gone = client.beta.files.delete(made.id)
    assert (gone.id, gone.type) == (made.id, "file_deleted")
    assert contents(empty_data_dir) == [other.id]
    with pytest.raises(anthropic.NotFoundError):
        client.beta.files.retrieve_metadata(made.id)


FORM = b'--e\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nx\r\n'
BROKEN = (
    (b"", "e", "ends in the middle"),
    (FORM, "e", "ends in the middle"),
    (b"--e--\r\n", "e", "file: is required"),
    (FORM + FORM + b"--e--\r\n", "e", "there twice"),
    (FORM.replace(b'"file"', b'"colour"') + b"--e--\r\n", "e", "colour: unknown"),
    (FORM.replace(b'name="file"; ', b"") + b"--e--\r\n", "e", "unknown"),
    (FORM + b"--e\r\nX: " + b"y" * 20000, "e", ""),
    (b"--e\r\n\x00: x\r\n\r\n", "e", "no valid"),
    (b"nonsense", "e", "no valid"),
    (FORM + b"--e--\r\n", "", "multipart/form-data"),
    (
        FORM + FORM.replace(b'"file"; filename="a"', b'"expires_in_seconds"') + b"--e--\r\n",
        "e",
        "whole number",
    ),
)


@pytest.mark.parametrize(("body", "boundary", "told"), BROKEN)
def test_a_broken_form_leaves_nothing(
    emulator: Emulator, empty_data_dir: Path, body: bytes, boundary: str, told: str
) -> None:
    kind = f"multipart/form-data; boundary={boundary}" if boundary else "text/plain"
    url = f"{emulator.base_url}/v1/files"
    answer = httpx.post(url, content=body, headers={**HEADERS, "content-type": kind})
    assert answer.status_code == 400
    assert told in answer.json()["error"]["message"]
    assert contents(empty_data_dir) == []


def test_an_upload_that_is_cut_off_leaves_nothing(emulator: Emulator, empty_data_dir: Path) -> None:
    where = urlsplit(emulator.base_url)
    assert where.hostname and where.port
    with socket.create_connection((where.hostname, where.port)) as half:
        half.sendall(
            b"POST /v1/files HTTP/1.1\r\nHost: localhost\r\nx-api-key: k\r\nContent-Length: 1000000\r\n"
            b"Content-Type: multipart/form-data; boundary=e\r\n\r\n" + FORM[:-1] + b"y" * 5000
        )
        until(lambda: len(contents(empty_data_dir)) == 1)
    until(lambda: contents(empty_data_dir) == [])


def test_a_file_that_is_too_large_is_refused(
    client: anthropic.Anthropic, empty_data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "LARGEST", 1 << 20)
    assert client.beta.files.upload(file=("a", b"x" * (1 << 20))).size_bytes == 1 << 20
    with pytest.raises(anthropic.APIStatusError) as caught:
        client.beta.files.upload(file=("a", b"x" * ((1 << 20) + 1)))
    assert caught.value.status_code == 413
    assert caught.value.type == "request_too_large"
    assert len(contents(empty_data_dir)) == 1


def test_a_file_that_finds_no_room_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    """On a file system of 1 MiB, mounted in namespaces of the test's own."""
    need("user-namespaces")
    script = """
import os, sys
from sandbox.idmap import choose, read_host_ids
from sandbox.managed import files
from sandbox.managed.failures import Refused
from sandbox.managed.service import open_service
service = open_service(sys.argv[1], choose(read_host_ids(), None))
os.mkdir(sys.argv[1] + "/managed/files")
os.system("mount -t tmpfs -o size=1m none " + sys.argv[1] + "/managed/files")
with files.Upload(service) as upload:
    upload.write(bytes(1 << 19))
    upload.finish("fits")
try:
    with files.Upload(service) as upload:
        upload.write(bytes(1 << 20))
except Refused as refused:
    print(refused.status, refused.details["error_code"], len(os.listdir(sys.argv[1] + "/managed/files")))
"""
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", sys.executable, "-c", script, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout == "400 storage_quota_exceeded 1\n", done.stderr


def test_what_a_killed_process_left_is_swept(service: Service, empty_data_dir: Path) -> None:
    kept, lost = (produced(service, b"x") for _ in range(2))
    place = empty_data_dir / "managed" / "files"
    (place / "file_orphan").write_bytes(b"x")
    (place / ".part-dead").write_bytes(b"x")
    (place / lost).unlink()
    with files.Upload(service) as arriving:
        arriving.write(b"x")
        assert files.sweep(service) == 3
        assert kept in contents(empty_data_dir)
        assert len(contents(empty_data_dir)) == 2
        with pytest.raises(BlockingIOError), (place / contents(empty_data_dir)[0]).open() as held:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert contents(empty_data_dir) == [kept]
    assert [each["id"] for each in files.list_page(service, files.Query()).documents()] == [kept]


def test_a_session_s_copy_is_a_file_of_its_own(service: Service) -> None:
    first = produced(service, b"x", "a.txt")
    second = files.plan_copy(service, first, "sesn_1")
    with service.database.write():
        files.copy(service, first, second)
    assert second["scope"] == {"type": "session", "id": "sesn_1"}
    files.delete(service, first)
    content = files.open_content(service, second["id"])
    assert os.read(content.descriptor, 9) == b"x"
    os.close(content.descriptor)
    assert files.remove_scope(service, "sesn_1") == (second["id"],)
