"""A repository's token in a container: the proxy adds it, nothing in the container or on disk knows it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from netpolicy.credentials import Credential, repository
from sandbox.containers.containers import Containers
from sandbox.containers.starting import Starter
from sandbox.errors import SetupError
from sandbox.idmap import IdMap
from tests.capabilities import need
from tests.containers.conftest import SPEC
from tests.githost import GitHost

URL = "https://git.test/me/ours"
TOKEN, LATER = "canary-9921-s3cret", "canary-9922-s3cret"


@pytest.fixture
def host(tmp_path: Path) -> Iterator[GitHost]:
    need("git")
    with GitHost(tmp_path, {"me/ours": TOKEN}, "git.test") as made:
        (tmp_path / "me").mkdir()
        made.make("me/ours", "hello\n")
        yield made


class Kept:
    """What is attached, as its owner keeps it."""

    def __init__(self, host: GitHost) -> None:
        self.host = host
        self.token: str | None = TOKEN

    def credentials(self, _id: str = "") -> tuple[Credential, ...]:
        remote = f"https://127.0.0.1:{self.host.port}/me/ours"
        return (repository(URL, self.token, rewrite=remote, ca=self.host.ca),)


@pytest.fixture
def kept(host: GitHost) -> Kept:
    return Kept(host)


@pytest.fixture
def attached(
    containers: Containers, starter: Starter, ids: IdMap, data_dir: Path, kept: Kept
) -> Iterator[Containers]:
    made = Containers(str(data_dir), ids, starter, credentials=kept.credentials)
    made.create("git", SPEC)
    yield made
    made.delete("git")


def listed(containers: Containers) -> int:
    return containers.run(
        "git", ["git", "ls-remote", URL], environment={"GIT_TERMINAL_PROMPT": "0"}, timeout_s=60
    ).ended.code


def test_it_is_attached_at_every_start_and_replaced_while_it_runs(attached: Containers, kept: Kept) -> None:
    assert listed(attached) == 0
    attached.set_credentials("git", ())
    assert listed(attached) != 0
    attached.set_credentials("git", kept.credentials())
    assert listed(attached) == 0
    kept.host.tokens["me/ours"], kept.token = LATER, LATER
    assert listed(attached) != 0
    attached.stop("git")
    attached.set_credentials("git", ())
    assert listed(attached) == 0
    assert kept.host.heard[-1].token == LATER


def test_a_credential_that_cannot_be_used_leaves_the_others(attached: Containers, kept: Kept) -> None:
    assert listed(attached) == 0
    with pytest.raises(SetupError, match="8443"):
        attached.set_credentials("git", (repository("https://git.test:8443/me/ours", TOKEN),))
    assert listed(attached) == 0


def test_the_token_is_nowhere(attached: Containers, kept: Kept, data_dir: Path) -> None:
    assert listed(attached) == 0
    assert kept.host.heard[-1].token == TOKEN
    secret = TOKEN.encode()
    folder = data_dir / "containers"
    looked = 0
    for path in folder.rglob("*"):
        if path.is_file() and os.access(path, os.R_OK):
            looked += 1
            assert secret not in path.read_bytes(), path
    assert looked > 3
    for process in Path("/proc").iterdir():
        for name in ("environ", "cmdline"):
            try:
                found = (process / name).read_bytes() if process.name.isdecimal() else b""
            except OSError:
                continue
            assert secret not in found, process
    inside = attached.run(
        "git", ["sh", "-c", "env; cat /proc/*/environ /proc/*/cmdline; cat /root/.git* /etc/git*"]
    )
    assert secret not in inside.output + inside.errors
    assert b"PATH=" in inside.output
