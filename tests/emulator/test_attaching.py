"""Files and repositories of sessions, by the official client: at creation and while the session lives."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import anthropic
import httpx
import pytest

from sandbox.emulator.embedded import Emulator
from sandbox.emulator.gate import BETA
from tests.capabilities import need
from tests.emulator.talking import a_session, an_agent, an_environment, message, run, said
from tests.githost import GitHost, git

TOKEN, LATER = "canary-7741-s3cret", "canary-7742-s3cret"
URL = "https://git.test/me/ours"


@pytest.fixture(autouse=True)
def _containers() -> None:
    need("user-namespaces", "overlay")


@pytest.fixture
def host(tmp_path: Path) -> Iterator[GitHost]:
    need("git")
    made = GitHost(tmp_path / "git", {"me/ours": TOKEN}, "git.test")
    (made.root / "me").mkdir(parents=True)
    made.make("me/ours", "hello\n")
    with made:
        yield made


@pytest.fixture
def emulator_options(empty_data_dir: Path, request: pytest.FixtureRequest) -> dict[str, Any]:
    options: dict[str, Any] = {"data": str(empty_data_dir), "keep": True}
    if "host" in request.fixturenames:
        host: GitHost = request.getfixturevalue("host")
        options["rewrites"] = {"https://git.test": f"https://127.0.0.1:{host.port}"}
        options["rewrites_ca"] = host.ca
    return options


def uploaded(client: anthropic.Anthropic, content: bytes = b"content\n", name: str = "a.txt") -> str:
    return client.beta.files.upload(file=(name, content)).id


def output(client: anthropic.Anthropic, session: str, command: str) -> str:
    return str(run(client, session, command)["stdout"])


def a_file(file_id: str, path: str | None = None) -> dict[str, Any]:
    return {"type": "file", "file_id": file_id, **({"mount_path": path} if path else {})}


def a_repository(token: str | None = TOKEN, **more: Any) -> dict[str, Any]:
    return {"type": "github_repository", "url": URL, "authorization_token": token, **more}


def test_files_are_in_place_when_the_creation_answers(client: anthropic.Anthropic) -> None:
    first, second = uploaded(client), uploaded(client, b"other\n")
    session = a_session(client, resources=[a_file(first), a_file(second, "/data/deep/er.txt")])
    made = client.beta.sessions.retrieve(session)
    shown = list(client.beta.sessions.resources.list(session))
    assert made.resources == shown
    one, two = shown
    assert one.type == "file" and two.type == "file"
    assert (one.mount_path, two.mount_path) == (f"/mnt/session/uploads/{first}", "/data/deep/er.txt")
    assert one.id.startswith("sesrsc_")
    assert one.file_id not in (first, second)
    copy = client.beta.files.retrieve_metadata(one.file_id)
    assert copy.scope is not None and copy.scope.id == session
    assert (copy.filename, copy.size_bytes, copy.downloadable) == ("a.txt", 8, False)
    client.beta.files.delete(first)
    assert output(client, session, f"cat {one.mount_path} {two.mount_path}") == "content\nother\n"
    assert output(client, session, f"echo x 2>&1 >{two.mount_path} || rm -f {two.mount_path} 2>&1 || true")
    assert output(client, session, f"cat {two.mount_path}") == "other\n"
    assert client.beta.sessions.resources.retrieve(one.id, session_id=session) == one


def test_a_file_comes_and_goes_while_the_session_lives(client: anthropic.Anthropic) -> None:
    session = a_session(client)
    output(client, session, "true")
    added = client.beta.sessions.resources.add(
        session, file_id=uploaded(client), type="file", mount_path="/data/a"
    )
    assert added.type == "file"
    assert output(client, session, "cat /data/a") == "content\n"
    assert client.beta.sessions.retrieve(session).resources == [added]
    said(client, session, message("cp /data/a /mnt/session/outputs/b"))
    assert {each.filename for each in client.beta.files.list(scope_id=session)} == {"a.txt", "b"}
    gone = client.beta.sessions.resources.delete(added.id, session_id=session)
    assert (gone.id, gone.type) == (added.id, "session_resource_deleted")
    assert output(client, session, "test -e /data/a || echo gone") == "gone\n"
    assert client.beta.sessions.retrieve(session).resources == []
    with pytest.raises(anthropic.NotFoundError):
        client.beta.files.retrieve_metadata(added.file_id)
    with pytest.raises(anthropic.NotFoundError):
        client.beta.sessions.resources.retrieve(added.id, session_id=session)
    with pytest.raises(anthropic.NotFoundError):
        client.beta.sessions.resources.delete(added.id, session_id=session)


def test_a_file_that_cannot_stand_there_is_refused_and_leaves_nothing(client: anthropic.Anthropic) -> None:
    file_id, session = uploaded(client), a_session(client)
    client.beta.sessions.resources.add(session, file_id=file_id, type="file", mount_path="/data/a")
    before = client.beta.sessions.retrieve(session).resources
    for path in (
        "/usr/share",
        "/data/a",
        "/data/a/b",
        "relative",
        "/../x",
        "/proc/x",
        "/mnt/session/outputs/x",
    ):
        with pytest.raises(anthropic.BadRequestError, match="mount_path"):
            client.beta.sessions.resources.add(session, file_id=file_id, type="file", mount_path=path)
    with pytest.raises(anthropic.NotFoundError, match="file_gone"):
        client.beta.sessions.resources.add(session, file_id="file_gone", type="file")
    assert client.beta.sessions.retrieve(session).resources == before
    assert len(list(client.beta.files.list())) == 2
    assert output(client, session, "cat /data/a") == "content\n"
    agent, environment = an_agent(client), an_environment(client, "other")
    for wrong in (a_file(file_id, "/usr/share"), {"type": "memory_store", "memory_store_id": "m"}):
        with pytest.raises(anthropic.BadRequestError):
            client.beta.sessions.create(
                agent=agent,
                environment_id=environment,
                resources=[a_file(file_id), wrong],  # type: ignore[list-item]
            )
    assert len(list(client.beta.sessions.list())) == 1
    assert len(list(client.beta.files.list())) == 2


def test_what_is_refused_by_name(client: anthropic.Anthropic, emulator: Emulator) -> None:
    session = a_session(client)
    url = f"{emulator.base_url}/v1/sessions/{session}/resources"
    headers = {"x-api-key": "k", "anthropic-beta": BETA}
    for body, told in (
        (a_repository(), "github_repository"),
        ({"type": "memory_store", "memory_store_id": "m"}, "memory_store"),
        ({"type": "file", "file_id": "file_1", "colour": "red"}, "colour"),
        ({"file_id": "file_1"}, "type"),
    ):
        answer = httpx.post(url, json=body, headers=headers)
        assert answer.status_code == 400
        assert told in answer.json()["error"]["message"]
        assert TOKEN not in answer.text
    assert httpx.get(url.replace(session, "sesn_gone"), headers=headers).status_code == 404


def test_an_archived_session_gets_nothing_more(client: anthropic.Anthropic) -> None:
    file_id = uploaded(client)
    session = a_session(client, resources=[a_file(file_id)])
    client.beta.sessions.archive(session)
    with pytest.raises(anthropic.BadRequestError):
        client.beta.sessions.resources.add(session, file_id=file_id, type="file")
    assert len(list(client.beta.sessions.resources.list(session))) == 1


def test_resources_are_listed_at_once_or_a_page_at_a_time(client: anthropic.Anthropic) -> None:
    file_id = uploaded(client)
    session = a_session(client, resources=[a_file(file_id, f"/data/{number}") for number in range(30)])
    everything = client.beta.sessions.resources.list(session)
    assert (len(everything.data), everything.next_page) == (30, None)
    paged = list(client.beta.sessions.resources.list(session, limit=7))
    assert paged == everything.data
    with pytest.raises(anthropic.BadRequestError, match="limit"):
        client.beta.sessions.resources.list(session, limit=1001)
    assert output(client, session, "cat /data/* | wc -l").strip() == "30"


def test_many_files_come_at_once_to_one_session(client: anthropic.Anthropic) -> None:
    file_id, session = uploaded(client), a_session(client)

    def add(number: int) -> bool:
        try:
            client.beta.sessions.resources.add(
                session, file_id=file_id, type="file", mount_path=f"/data/{number % 4}"
            )
        except anthropic.BadRequestError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(add, range(8))) == 4
    assert len(client.beta.sessions.retrieve(session).resources) == 4
    assert output(client, session, "cat /data/*") == "content\n" * 4


def test_what_one_session_produced_is_another_s_file(client: anthropic.Anthropic) -> None:
    agent, environment = an_agent(client), an_environment(client)
    first = a_session(client, agent=agent, environment_id=environment)
    output(client, first, "echo made >/mnt/session/outputs/a; mkdir -m 0 /mnt/session/outputs/closed")
    (made,) = client.beta.files.list(scope_id=first).data
    second = a_session(
        client, agent=agent, environment_id=environment, resources=[a_file(made.id, "/data/a")]
    )
    client.beta.sessions.resources.add(second, file_id=made.id, type="file", mount_path="/data/b")
    output(client, first, "echo again >>/mnt/session/outputs/a")
    client.beta.sessions.delete(first)
    assert output(client, second, "cat /data/a /data/b") == "made\nmade\n"
    copies = client.beta.files.list(scope_id=second).data
    assert [(each.size_bytes, each.downloadable) for each in copies] == [(5, True)] * 2
    assert client.beta.files.download(copies[0].id).read() == b"made\n"


def test_deleting_a_session_takes_its_copies_along(client: anthropic.Anthropic, empty_data_dir: Path) -> None:
    file_id = uploaded(client)
    session = a_session(client, resources=[a_file(file_id)])
    assert len(os.listdir(empty_data_dir / "managed/files")) == 2
    client.beta.sessions.delete(session)
    assert os.listdir(empty_data_dir / "managed/files") == [file_id]
    with pytest.raises(anthropic.NotFoundError):
        client.beta.sessions.resources.list(session)


def test_a_repository_is_there_and_its_token_changes(host: GitHost, client: anthropic.Anthropic) -> None:
    session = a_session(client, resources=[a_repository(checkout={"type": "branch", "name": "main"})])
    (shown,) = client.beta.sessions.retrieve(session).resources
    assert shown.type == "github_repository"
    assert (shown.url, shown.mount_path) == (URL, "/workspace/ours")
    assert shown.checkout is not None and shown.checkout.type == "branch" and shown.checkout.name == "main"
    assert list(client.beta.sessions.events.list(session)) == []
    push = (
        "cd /workspace/ours; export GIT_TERMINAL_PROMPT=0; git -c user.name=A -c user.email=a@a.test"
        " commit -q --allow-empty -m {0} && git fetch -q && git push -q origin HEAD:refs/heads/{0} && echo done"
    )
    assert output(client, session, push.format("one")) == "done\n"
    host.tokens["me/ours"] = LATER
    assert output(client, session, push.format("two")) == ""
    changed = client.beta.sessions.resources.update(shown.id, session_id=session, authorization_token=LATER)
    assert changed.type == "github_repository" and changed.updated_at > shown.updated_at
    assert output(client, session, push.format("three")) == "done\n"
    branches = git("-C", f"{host.root}/me/ours.git", "branch", "--format=%(refname:short)").split()
    assert branches == ["main", "one", "three"]
    client.beta.sessions.resources.delete(shown.id, session_id=session)
    assert output(client, session, push.format("four")) == ""
    assert output(client, session, "cat /workspace/ours/hello") == "hello\n"


def test_a_clone_that_fails_is_an_event_and_the_session_goes_on(
    host: GitHost, client: anthropic.Anthropic
) -> None:
    session = a_session(client, resources=[a_repository("wrong")])
    (event,) = client.beta.sessions.events.list(session)
    assert event.type == "session.error"
    assert event.error.type == "repository_authentication_error"
    assert event.error.repository_url == URL
    assert event.error.retry_status.type == "retrying"
    assert client.beta.sessions.retrieve(session).status == "idle"
    assert output(client, session, "ls -A /workspace/ours; echo on") == "on\n"


def test_the_token_is_nowhere(
    host: GitHost,
    client: anthropic.Anthropic,
    emulator: Emulator,
    empty_data_dir: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("DEBUG")
    session = a_session(client, resources=[a_repository()])
    said(client, session, message("cd /workspace/ours; git fetch; env; git config -l; cat .git/config"))
    assert host.heard[-1].token == TOKEN
    inside = output(
        client,
        session,
        "env; cat /proc/*/environ /proc/*/cmdline | tr '\\0' '\\n'; find /workspace /root /tmp -name '.git*'",
    )
    assert "/workspace/ours/.git" in inside
    places: dict[str, bytes] = {
        "inside": inside.encode(),
        "log": b"".join(
            # Not the client's own.
            each.getMessage().encode()
            for each in caplog.records
            if not each.name.startswith(("anthropic", "http"))
        ),
        "events": str(list(client.beta.sessions.events.list(session))).encode(),
        "session": client.beta.sessions.with_raw_response.retrieve(session).read(),
        "resources": client.beta.sessions.resources.with_raw_response.list(session).read(),
    }
    for path in empty_data_dir.rglob("*"):
        if path.is_file() and not path.is_symlink() and os.access(path, os.R_OK):
            places[str(path)] = path.read_bytes()
    for process in Path("/proc").iterdir():
        for name in ("environ", "cmdline"):
            try:
                places[f"{process}/{name}"] = (
                    (process / name).read_bytes() if process.name.isdecimal() else b""
                )
            except OSError:
                continue
    assert any(URL.encode() in content for content in places.values())
    assert any(place.endswith(("state.db-wal", "state.db")) for place in places)
    assert [place for place, content in places.items() if TOKEN.encode() in content] == []
    assert b"/v1/sessions" in places["log"]
    with emulator.service.database.read() as connection:
        (sealed,) = connection.execute("SELECT secret FROM resources").fetchone()
    assert sealed and TOKEN.encode() not in sealed


def test_a_session_of_somebody_else_s_machine_takes_no_files(client: anthropic.Anthropic) -> None:
    environment = an_environment(client, type="self_hosted")
    with pytest.raises(anthropic.BadRequestError, match="self_hosted"):
        a_session(client, environment_id=environment, resources=[a_file(uploaded(client))])
