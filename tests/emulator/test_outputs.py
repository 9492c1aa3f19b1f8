"""What sessions leave in /mnt/session/outputs, by the official client."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import anthropic
import httpx
import pytest

from sandbox.emulator.embedded import Emulator
from sandbox.managed import outputs
from tests.capabilities import need
from tests.emulator.talking import a_session, an_agent, an_environment, idle, message, run, said, send
from tests.sessions.running import eventually

OUT = "/mnt/session/outputs"


@pytest.fixture(autouse=True)
def _containers() -> None:
    need("user-namespaces", "overlay")


def names(client: anthropic.Anthropic, session: str) -> dict[str, str]:
    return {each.filename: each.id for each in client.beta.files.list(scope_id=session)}


def test_what_a_turn_leaves_is_listed_and_downloaded(
    client: anthropic.Anthropic, emulator: Emulator, tmp_path: Path
) -> None:
    session = a_session(client)
    assert names(client, session) == {}
    said(client, session, message(f"mkdir {OUT}/deep; printf 'a,b\\n' >{OUT}/deep/report.csv"))
    (found,) = client.beta.files.list(scope_id=session).data
    assert (found.filename, found.mime_type, found.size_bytes) == ("report.csv", "text/csv", 4)
    assert found.downloadable is True
    assert found.scope is not None and (found.scope.type, found.scope.id) == ("session", session)
    client.beta.files.download(found.id).write_to_file(tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == b"a,b\n"
    assert client.beta.files.retrieve_metadata(found.id) == found
    assert [each.id for each in client.beta.files.list()] == [found.id]
    older = httpx.get(
        f"{emulator.base_url}/v1/files", params={"session_id": session}, headers={"x-api-key": "k"}
    )
    assert [each["id"] for each in older.json()["data"]] == [found.id]
    assert names(client, "sesn_other") == {}

    async def stream() -> bytes:
        async with (
            anthropic.AsyncAnthropic(base_url=emulator.base_url, api_key="k") as asynchronous,
            asynchronous.beta.files.with_streaming_response.download(found.id) as answer,
        ):
            assert answer.headers["content-length"] == "4"
            return b"".join([part async for part in answer.iter_bytes()])

    assert asyncio.run(stream()) == b"a,b\n"


def test_outputs_are_listed_while_the_turn_runs(client: anthropic.Anthropic) -> None:
    session = a_session(client)
    with idle(client, session):
        send(client, session, message(f"echo x >{OUT}/a; until test -e /tmp/go; do sleep 0.05; done"))
        eventually(lambda: "a" in names(client, session), "the file in the list")
        assert client.beta.sessions.retrieve(session).status == "running"
        assert client.beta.files.download(names(client, session)["a"]).read() == b"x\n"
        assert [each.filename for each in client.beta.files.list()] == ["a"]
        run(client, session, "touch /tmp/go")


def test_a_change_is_seen_as_another_file(client: anthropic.Anthropic) -> None:
    session = a_session(client)
    run(client, session, f"echo one >{OUT}/a; echo same >{OUT}/b")
    first = names(client, session)
    assert names(client, session) == first
    run(client, session, f"echo second >>{OUT}/a")
    # What is listed already can be read, as it is now.
    assert client.beta.files.download(first["a"]).read() == b"one\nsecond\n"
    second = names(client, session)
    assert second["b"] == first["b"]
    assert second["a"] != first["a"]
    with pytest.raises(anthropic.NotFoundError):
        client.beta.files.download(first["a"])
    assert client.beta.files.retrieve_metadata(second["a"]).size_bytes == 11
    run(client, session, f"rm {OUT}/a")
    assert names(client, session) == {"b": first["b"]}


def test_outputs_outlast_processes_and_go_with_the_session(
    client: anthropic.Anthropic, emulator: Emulator
) -> None:
    session = a_session(client)
    run(client, session, f"echo kept >{OUT}/a")
    client.beta.sessions.archive(session)
    assert [each.filename for each in client.beta.files.list()] == ["a"]
    assert emulator.service.live.containers.running() == ()
    found = names(client, session)
    assert client.beta.files.download(found["a"]).read() == b"kept\n"
    assert [each.id for each in client.beta.files.list()] == [found["a"]]
    client.beta.sessions.delete(session)
    assert names(client, session) == {}
    with pytest.raises(anthropic.NotFoundError):
        client.beta.files.download(found["a"])
    with pytest.raises(anthropic.NotFoundError):
        client.beta.files.retrieve_metadata(found["a"])


def test_outputs_are_there_again_after_a_restart(empty_data_dir: Path) -> None:
    def client_of(emulator: Emulator) -> anthropic.Anthropic:
        return anthropic.Anthropic(base_url=emulator.base_url, api_key="k")

    with Emulator(str(empty_data_dir), keep=True) as first, client_of(first) as client:
        session = a_session(client)
        run(client, session, f"echo kept >{OUT}/a")
    with Emulator(str(empty_data_dir), keep=True) as second, client_of(second) as client:
        found = names(client, session)
        assert client.beta.files.download(found["a"]).read() == b"kept\n"


def test_a_deleted_output_is_listed_again_when_it_changes(client: anthropic.Anthropic) -> None:
    session = a_session(client)
    run(client, session, f"echo one >{OUT}/a")
    client.beta.files.delete(names(client, session)["a"])
    assert names(client, session) == {}
    assert client.beta.files.list().data == []
    run(client, session, f"echo two >>{OUT}/a")
    found = names(client, session)
    assert client.beta.files.download(found["a"]).read() == b"one\ntwo\n"


def test_links_and_odd_things_lead_nowhere(client: anthropic.Anthropic, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("of the host")
    session = a_session(client)
    run(
        client,
        session,
        f"cd {OUT}; ln -s {secret} link; ln -s / root; ln -s ../../../.. up; mkfifo fifo; mkdir -p d/e;"
        " echo x >d/e/real; ln /etc/hosts hard 2>/dev/null; ln -s d linked; mknod null c 1 3 2>/dev/null;"
        " echo y >plain; true",
    )
    found = names(client, session)
    assert set(found) == {"real", "plain"}
    assert client.beta.files.download(found["real"]).read() == b"x\n"
    run(client, session, f"cd {OUT}; rm plain; ln -s {secret} plain")
    with pytest.raises(anthropic.NotFoundError):
        client.beta.files.download(found["plain"])
    run(client, session, f"cd {OUT}; rm plain; mkfifo plain; mv d d2; ln -s d2 d")
    for name in ("plain", "real"):
        with pytest.raises(anthropic.NotFoundError):
            client.beta.files.download(found[name])
    assert set(names(client, session)) == {"real"}


def test_names_of_any_bytes_become_names(client: anthropic.Anthropic, emulator: Emulator) -> None:
    session = a_session(client)
    script = (
        f"cd {OUT}; echo 1 >\"$(printf 'a\\nb')\"; echo 2 >\"$(printf '\\377.txt')\"; echo 3 >'q\"<>.txt'; echo 4 >-rf;"
        " echo 5 >\"$(printf 'x: y\\r')\"; echo 6 >ä"
    )
    run(client, session, ["bash", "-c", script])
    found = names(client, session)
    assert set(found) == {"a_b", "_.txt", "q___.txt", "-rf", "x_ y_", "ä"}
    contents = {client.beta.files.download(each).read() for each in found.values()}
    assert contents == {b"%d\n" % number for number in range(1, 7)}
    raw = client.beta.files.with_raw_response.download(found["ä"])
    assert raw.headers["content-disposition"] == "attachment; filename*=UTF-8''%C3%A4"


def test_files_of_another_user_of_the_session_are_read(client: anthropic.Anthropic) -> None:
    session = a_session(client)
    run(
        client,
        session,
        f"mkdir -m 700 {OUT}/d; echo x >{OUT}/d/a; chmod 0 {OUT}/d/a; chown -R 33:33 {OUT}/d; true",
    )
    found = names(client, session)
    assert client.beta.files.download(found["a"]).read() == b"x\n"


def test_no_more_than_so_many_are_seen(client: anthropic.Anthropic, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outputs, "MOST", 10)
    session = a_session(client)
    run(client, session, f"cd {OUT}; for i in $(seq 100 130); do echo $i >$i; done")
    assert set(names(client, session)) == {str(number) for number in range(100, 110)}


def test_a_huge_hole_is_cut_off_where_the_client_hangs_up(
    client: anthropic.Anthropic, emulator: Emulator
) -> None:
    session = a_session(client)
    run(client, session, f"truncate -s 1T {OUT}/hole")
    (found,) = client.beta.files.list(scope_id=session).data
    assert found.size_bytes == 1 << 40
    headers = {"x-api-key": "k", "range": "bytes=1099511627770-"}
    url = f"{emulator.base_url}/v1/files/{found.id}/content"
    assert httpx.get(url, headers=headers).content == bytes(6)
    with httpx.stream("GET", url, headers={"x-api-key": "k"}) as answer:
        assert next(answer.iter_bytes(1000)) == bytes(1000)
    assert httpx.get(f"{emulator.base_url}/health").status_code == 200


def test_the_command_shows_and_downloads_outputs(
    client: anthropic.Anthropic, empty_data_dir: Path, tmp_path: Path
) -> None:
    session = a_session(client)
    run(client, session, f"printf x >{OUT}/made.bin")
    command = [str(Path(sys.executable).with_name("sandboxctl")), "--data", str(empty_data_dir), "file"]

    def sandboxctl(*arguments: str) -> Any:
        return subprocess.run(
            [*command, *arguments], capture_output=True, timeout=60, check=False, cwd=tmp_path, env=os.environ
        )

    listed = sandboxctl("list", "--session", session)
    assert listed.returncode == 0, listed.stderr
    file_id = listed.stdout.decode().split()[0]
    assert names(client, session) == {"made.bin": file_id}
    assert sandboxctl("download", file_id).stdout == b"made.bin\n"
    assert (tmp_path / "made.bin").read_bytes() == b"x"
    again = sandboxctl("download", file_id)
    assert (again.returncode, b"--output" in again.stderr) == (2, True)
    assert sandboxctl("download", file_id, "-o", "-").stdout == b"x"


def test_two_sessions_of_one_environment_have_outputs_of_their_own(client: anthropic.Anthropic) -> None:
    agent, environment = an_agent(client), an_environment(client)
    first, second = (a_session(client, agent=agent, environment_id=environment) for _ in range(2))
    for session in (first, second):
        run(client, session, f"echo {session} >{OUT}/a")
    for session in (first, second):
        found = names(client, session)
        assert client.beta.files.download(found["a"]).read().decode().strip() == session
    assert len(client.beta.files.list().data) == 2
