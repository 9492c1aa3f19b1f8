"""Everything as one file, taken in elsewhere; and everything gone."""

from __future__ import annotations

import io
import json
import sqlite3
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anthropic
import httpx
import pytest

from sandbox import idmap, paths
from sandbox.emulator.embedded import Emulator
from sandbox.errors import InputError
from sandbox.managed import agents, credentials, environments, files, sessions, state, vaults
from sandbox.managed.agent_bodies import AgentCreate
from sandbox.managed.credential_bodies import CredentialCreate, Unrestricted, Variable
from sandbox.managed.database import dump
from sandbox.managed.environments import Changes, NewEnvironment
from sandbox.managed.failures import Refused
from sandbox.managed.files import Upload
from sandbox.managed.paging import Query
from sandbox.managed.service import Service, open_service
from sandbox.managed.session_bodies import SessionCreate
from sandbox.managed.vault_bodies import VaultCreate
from tests.emulator.talking import a_session, message, said, send, until

SECRET = "s3cret-that-appears-nowhere"


@pytest.fixture
def make(empty_data_dir: Path) -> Iterator[Callable[[str], Service]]:
    """Makes an installation."""
    ids, opened = idmap.choose(idmap.read_host_ids()), []

    def place(name: str) -> Service:
        data = str(empty_data_dir / name)
        paths.prepare(data, ids)
        opened.append(open_service(data, ids))
        return opened[-1]

    yield place
    for service in opened:
        service.close()


def fill(service: Service) -> dict[str, Any]:
    """One of everything; the ids."""
    environment = environments.create(service.database, NewEnvironment("e"))
    environments.update(service.database, environment["id"], Changes(description="d"))
    agent = agents.create(service.database, AgentCreate(name="a", model="m"))
    vault = vaults.create(service.database, VaultCreate(display_name="v"))
    auth = Variable(
        type="environment_variable",
        secret_name="TOKEN",
        secret_value=SECRET,
        networking=Unrestricted(type="unrestricted"),
    )
    credential = credentials.create(
        service.database, service.secrets, vault["id"], CredentialCreate(auth=auth)
    )
    with Upload(service) as upload:
        upload.write(b"content")
        file = upload.finish("f.txt")
    body = SessionCreate(agent=agent["id"], environment_id=environment["id"], title="t")
    found = {
        "environment": environment,
        "agent": agent,
        "vault": vault,
        "credential": credential,
        "file": file,
        "session": sessions.create(service, body),
    }
    return {name: document["id"] for name, document in found.items()}


def exported(service: Service, **options: bool) -> bytes:
    target = io.BytesIO()
    state.export(service, target, **options)
    return target.getvalue()


def content(service: Service, file_id: str) -> bytes:
    with open(files.open_content(service, file_id).descriptor, "rb") as found:
        return found.read()


def test_what_is_carried_over_is_the_same_elsewhere(make: Callable[[str], Service]) -> None:
    here, there = make("here"), make("there")
    ids = fill(here)
    summary = state.load(there, io.BytesIO(exported(here)))
    assert summary.counts["agents"] == summary.counts["files"] == summary.counts["sessions"] == 1
    assert summary.counts["environment_revisions"] == 2
    assert environments.get(there.database, ids["environment"]) == environments.get(
        here.database, ids["environment"]
    )
    assert environments.find(there.database, "e")["id"] == ids["environment"]
    assert environments.revision(there.database, ids["environment"]) == 2
    assert agents.get(there.database, ids["agent"]) == agents.get(here.database, ids["agent"])
    assert content(there, ids["file"]) == b"content"
    assert files.get(there, ids["file"]) == files.get(here, ids["file"])
    session = sessions.get(there.database, ids["session"])
    assert (session["status"], session["title"]) == ("terminated", "t")
    assert session["archived_at"]
    assert sessions.get(here.database, ids["session"])["status"] == "idle"
    assert sessions.delete(there, ids["session"])["type"] == "session_deleted"


def test_secrets_are_carried_only_on_request(make: Callable[[str], Service]) -> None:
    here, without, with_, other = (make(name) for name in ("here", "without", "with", "other"))
    ids = fill(here)
    fill(other)
    plain, secret = exported(here), exported(here, with_secrets=True)
    assert SECRET.encode() not in plain + secret
    assert {"secrets.key"} == names(secret) - names(plain)
    assert state.load(without, io.BytesIO(plain)).without_secret == 1
    assert credentials.reveal(without.database, without.secrets, ids["credential"]) == {}
    assert state.load(with_, io.BytesIO(secret)).without_secret == 0
    state.load(other, io.BytesIO(secret), replace=True)
    for service in (with_, other):
        found = credentials.reveal(service.database, service.secrets, ids["credential"])
        assert found == {"secret_value": SECRET}


def test_records_are_not_mixed(make: Callable[[str], Service]) -> None:
    here, there = make("here"), make("there")
    ids, others = fill(here), fill(there)
    text = exported(here)
    with pytest.raises(Refused, match="1 agents"):
        state.load(there, io.BytesIO(text))
    assert agents.get(there.database, others["agent"])
    state.load(there, io.BytesIO(text), replace=True)
    assert content(there, ids["file"]) == b"content"
    for identifier in (ids["agent"], others["agent"]):
        assert (there.database.get("agents", identifier) is None) == (identifier == others["agent"])
    with pytest.raises(Refused):
        files.get(there, others["file"])
    assert len(agents.list_page(there.database, Query()).rows) == 1


def names(text: bytes) -> set[str]:
    with tarfile.open(fileobj=io.BytesIO(text)) as tar:
        return set(tar.getnames())


def changed(text: bytes, name: str, content: bytes | None) -> bytes:
    """The state with one member replaced, added, or taken out."""
    target = io.BytesIO()
    with tarfile.open(fileobj=io.BytesIO(text)) as old, tarfile.open(fileobj=target, mode="w") as new:
        for member in old:
            if member.name != name:
                new.addfile(member, old.extractfile(member))
        if content is not None:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            new.addfile(member, io.BytesIO(content))
    return target.getvalue()


def member(text: bytes, name: str) -> bytes:
    with tarfile.open(fileobj=io.BytesIO(text)) as tar:
        found = tar.extractfile(name)
        assert found is not None
        return found.read()


def with_records(text: bytes, place: Path, statement: str) -> bytes:
    path = place / "changed.db"
    path.write_bytes(member(text, "records.db"))
    database = sqlite3.connect(path)
    database.executescript(statement)
    database.close()
    return changed(text, "records.db", path.read_bytes())


@pytest.mark.parametrize("replace", [False, True])
def test_what_is_no_whole_state_is_refused_and_changes_nothing(
    make: Callable[[str], Service], tmp_path: Path, replace: bool
) -> None:
    here, there = make("here"), make("there")
    fill(here)
    before = fill(there) if replace else {}
    text = exported(here)
    about = json.loads(member(text, "state.json"))
    damaged: tuple[tuple[bytes, str], ...] = (
        (b"", "can't be read"),
        (b"no tar at all" * 100, "can't be read"),
        (text[: len(text) // 2], "can't be read|cut short"),
        (changed(text, "state.json", None), "cut short"),
        (changed(text, "state.json", json.dumps({**about, "format": 2}).encode()), "format 2"),
        (changed(text, "../escaped", b"x"), "nothing that a state holds"),
        (changed(text, "files/../../escaped", b"x"), "nothing that a state holds"),
        (changed(text, "records.db", b"no database" * 1000), "can't be read"),
        (with_records(text, tmp_path, "DROP TABLE agents"), "another version"),
        (with_records(text, tmp_path, "UPDATE files SET id = '../escaped'"), "no id"),
        (with_records(text, tmp_path, "UPDATE agents SET doc = 'x'"), "a document that is none"),
    )
    for broken, told in damaged:
        with pytest.raises(InputError, match=told):
            state.load(there, io.BytesIO(broken), replace=replace)
    if replace:
        assert agents.get(there.database, before["agent"])
        assert content(there, before["file"]) == b"content"
    else:
        assert agents.list_page(there.database, Query()).rows == ()
    assert not [path for path in Path(there.folder).iterdir() if path.name.startswith(".state-")]
    assert not list(Path(there.data).rglob("escaped"))
    state.load(there, io.BytesIO(text), replace=replace)


def test_what_a_session_produced_is_carried_over(
    empty_data_dir: Path, make: Callable[[str], Service]
) -> None:
    with (
        Emulator(str(empty_data_dir), keep=True) as emulator,
        anthropic.Anthropic(base_url=emulator.base_url, api_key="k") as client,
    ):
        session = a_session(client)
        said(client, session, message("echo produced >/mnt/session/outputs/made.txt"))
        here = open_service(str(empty_data_dir), idmap.choose(idmap.read_host_ids()))
        try:
            text = exported(here)
        finally:
            here.close()
        events = [event.id for event in client.beta.sessions.events.list(session)]
    there = make("elsewhere")
    state.load(there, io.BytesIO(text))
    (file,) = files.list_page(there, Query(), scope_id=session).documents()
    assert (file["filename"], file["downloadable"]) == ("made.txt", True)
    assert content(there, file["id"]) == b"produced\n"
    with there.database.read() as connection:
        assert [
            row[0] for row in connection.execute("SELECT id FROM events WHERE superseded = 0 ORDER BY seq")
        ] == events


def test_a_reset_removes_everything(empty_data_dir: Path) -> None:
    with (
        Emulator(str(empty_data_dir)) as emulator,
        anthropic.Anthropic(base_url=emulator.base_url, api_key="k") as client,
    ):
        for _ in range(2):
            session = a_session(client)
            said(client, session, message("echo produced >/mnt/session/outputs/made.txt"))
            busy = a_session(client, environment_id=client.beta.sessions.retrieve(session).environment_id)
            with client.beta.sessions.events.stream(busy) as stream:
                send(client, busy, message("sleep 600"))
                until(stream, lambda event: bool(event.type == "agent.tool_use"))
            client.beta.files.upload(file=("f.txt", b"content"))
            assert list(empty_data_dir.glob("*/files/*"))
            answer = httpx.post(f"{emulator.base_url}/sandbox/reset", headers={"x-api-key": "k"}, timeout=60)
            assert answer.json() == {"type": "reset"}
            for listed in (
                client.beta.environments,
                client.beta.files,
                client.beta.sessions,
                client.beta.agents,
            ):
                assert list(listed.list()) == []
            assert not list(empty_data_dir.glob("*/files/*"))
            assert not list(empty_data_dir.glob("containers/*/*"))


def test_a_server_that_keeps_things_is_not_reset(empty_data_dir: Path) -> None:
    with (
        Emulator(str(empty_data_dir), keep=True) as emulator,
        anthropic.Anthropic(base_url=emulator.base_url, api_key="k") as client,
    ):
        client.beta.environments.create(name="a")
        answer = httpx.post(f"{emulator.base_url}/sandbox/reset", headers={"x-api-key": "k"})
        assert answer.status_code == 403
        assert "--allow-reset" in answer.json()["error"]["message"]
        assert len(list(client.beta.environments.list())) == 1


def test_the_document_of_a_file_whose_content_is_gone_is_left_out(make: Callable[[str], Service]) -> None:
    here, there = make("here"), make("there")
    ids = fill(here)
    gone = files.get(here, ids["file"]) | {"id": "file_gone"}
    here.database.insert("files", gone)
    assert dump(gone)
    target = io.BytesIO()
    assert state.export(here, target).without_content == 1
    state.load(there, io.BytesIO(target.getvalue()))
    assert there.database.get("files", "file_gone") is None
    assert content(there, ids["file"]) == b"content"
