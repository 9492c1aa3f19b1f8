"""What a session's resources come to, before there is a session."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sandbox import paths
from sandbox.idmap import choose, read_host_ids
from sandbox.managed import files, resources
from sandbox.managed.failures import Refused
from sandbox.managed.paging import Query
from sandbox.managed.resource_bodies import Resources
from sandbox.managed.service import Service, open_service
from sandbox.managed.values import Strict, read

TOKEN = "ghp_canary0123456789"


class Body(Strict):
    resources: Resources


@pytest.fixture
def service(empty_data_dir: Path) -> Iterator[Service]:
    ids = choose(read_host_ids(), None)
    paths.prepare(str(empty_data_dir), ids)
    opened = open_service(str(empty_data_dir), ids)
    yield opened
    opened.close()


@pytest.fixture
def uploaded(service: Service) -> str:
    with files.Upload(service) as upload:
        upload.write(b"content")
        return str(upload.finish("a.txt")["id"])


def planned(service: Service, *given: dict[str, Any]) -> resources.Planned:
    return resources.plan(service, "sesn_1", read(Body, {"resources": list(given)}).resources)


def test_a_file_is_planned_as_a_copy_and_recorded(service: Service, uploaded: str) -> None:
    plan = planned(service, {"type": "file", "file_id": uploaded})
    (document,) = plan.documents
    assert document["mount_path"] == f"/mnt/session/uploads/{uploaded}"
    assert document["file_id"] != uploaded
    with pytest.raises(Refused):
        files.get(service, document["file_id"])
    resources.record(service, plan)
    assert files.get(service, document["file_id"])["scope"] == {"type": "session", "id": "sesn_1"}
    assert resources.get(service, "sesn_1", document["id"]) == document
    with pytest.raises(Refused):
        resources.get(service, "sesn_2", document["id"])


def test_a_token_is_sealed(service: Service, empty_data_dir: Path) -> None:
    plan = planned(
        service,
        {"type": "github_repository", "url": "https://git.example/acme/app", "authorization_token": TOKEN},
        {"type": "github_repository", "url": "https://git.example/acme/other.git"},
    )
    resources.record(service, plan)
    assert TOKEN not in repr(plan)
    kept = [token and token.reveal() for _, token in resources.tokens(service, "sesn_1")]
    assert kept == [TOKEN, None]
    assert [each["mount_path"] for each in plan.documents] == ["/workspace/app", "/workspace/other"]
    assert TOKEN not in str(resources.all_of(service, "sesn_1"))
    for path in empty_data_dir.rglob("*"):
        assert not path.is_file() or TOKEN.encode() not in path.read_bytes()


def test_forgetting_a_session_takes_its_copies_along(service: Service, uploaded: str) -> None:
    resources.record(service, planned(service, {"type": "file", "file_id": uploaded}))
    files.discard(service, resources.forget(service, "sesn_1"))
    assert resources.all_of(service, "sesn_1") == []
    assert files.sweep(service) == 0
    assert files.get(service, uploaded)


def test_many_are_listed_at_once_or_a_page_at_a_time(service: Service) -> None:
    given = [{"type": "github_repository", "url": f"https://git.example/a/r{number}"} for number in range(9)]
    plan = planned(service, *given)
    resources.record(service, plan)
    assert resources.all_of(service, "sesn_1") == plan.documents
    first = resources.list_page(service, "sesn_1", Query(limit=4))
    assert first.documents() == plan.documents[:4]
    second = resources.list_page(service, "sesn_1", Query(limit=4, page=first.next_page))
    assert second.documents() == plan.documents[4:8]


REPOSITORY = {"type": "github_repository", "url": "https://git.example/acme/app"}
MISTAKES: tuple[tuple[tuple[dict[str, Any], ...], str], ...] = (
    (({"type": "memory_store", "memory_store_id": "m"},), "memory_store resources are not supported"),
    (({"type": "disk"},), "resources.0"),
    (({"type": "file", "file_id": "file_gone"},), "resources.0.file_id: There is no file file_gone"),
    ((REPOSITORY, REPOSITORY), "exclude each other"),
    ((REPOSITORY, {**REPOSITORY, "mount_path": "/workspace/app/inner"}), "exclude each other"),
    (({**REPOSITORY, "mount_path": "/etc"},), "resources.0.mount_path"),
    (({**REPOSITORY, "url": "http://git.example/a/b"},), "https://"),
    (({**REPOSITORY, "url": "https://git.example"},), "https://"),
    (({**REPOSITORY, "url": f"https://x:{TOKEN}@git.example/a/b"},), "authorization_token"),
    (({**REPOSITORY, "url": "https://git.example/a/../b"},), "https://"),
    (({**REPOSITORY, "url": "https://git.example/a/b?x=y"},), "https://"),
    (({**REPOSITORY, "url": "ext::sh -c id"},), "https://"),
    (({**REPOSITORY, "authorization_token": f"{TOKEN}\r\nX: y"},), "token"),
    (({**REPOSITORY, "checkout": {"type": "branch", "name": "--upload-pack=x"}},), "branch"),
    (({**REPOSITORY, "checkout": {"type": "branch", "name": "a..b"}},), "branch"),
    (({**REPOSITORY, "checkout": {"type": "commit", "sha": "HEAD"}},), "sha"),
    (({**REPOSITORY, "checkout": {"type": "tag", "name": "v1"}},), "checkout"),
    (tuple({**REPOSITORY, "mount_path": f"/r{number}"} for number in range(33)), "32 are allowed"),
)


@pytest.mark.parametrize(("given", "told"), MISTAKES)
def test_a_mistake_is_named_and_nothing_is_made(
    service: Service, given: tuple[dict[str, Any], ...], told: str
) -> None:
    with pytest.raises(Refused) as caught:
        planned(service, *given)
    assert told in str(caught.value)
    assert TOKEN not in str(caught.value)


def test_a_thousand_files_are_one_too_many(service: Service, uploaded: str) -> None:
    given = [{"type": "file", "file_id": uploaded, "mount_path": f"/data/{number}"} for number in range(1000)]
    assert len(planned(service, *given[:999]).items) == 999
    with pytest.raises(Refused, match="999 are allowed"):
        planned(service, *given)
