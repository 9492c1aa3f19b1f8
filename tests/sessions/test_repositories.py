"""Git in a session, fetching and pushing with a token that never enters it."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.capabilities import need
from tests.githost import GitHost, git
from tests.sessions.repositories import TOKEN, URL, Running

OTHER = "another-s3cret-0452"
SECRETS = (TOKEN, OTHER, base64.b64encode(f"x-access-token:{TOKEN}".encode()).decode())


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GitHost]:
    made = GitHost(tmp_path_factory.mktemp("git"), {"me/ours": TOKEN, "me/theirs": OTHER}, "git.test")
    for name in ("me/ours", "me/theirs", "me/public"):
        (made.root / "me").mkdir(exist_ok=True)
        made.make(name, f"hello from {name}\n")
    with made:
        yield made


@pytest.fixture(autouse=True)
def forget(host: GitHost) -> None:
    host.heard.clear()


FETCH_AND_PUSH = """
cd /workspace
git config --global user.name A; git config --global user.email a@a.test
git clone -q https://git.test/me/ours ours
cat ours/hello
cd ours
head -c 3000000 /dev/urandom > large
git checkout -qb topic; git add large; git commit -qm second
git push -q origin topic
git fetch -q origin; git log --oneline origin/topic | wc -l
! git ls-remote https://git.test/me/theirs
"""


@pytest.mark.parametrize("ids", ["range", "single"])
def test_git_fetches_and_pushes_and_never_learns_the_token(
    ids: str, data_dir: Path, tmp_path: Path, host: GitHost
) -> None:
    if ids == "range":
        need("subids")
    look = """
    grep -rlE 'SECRETS' / --exclude-dir=proc --exclude-dir=sys --exclude-dir=usr 2>/dev/null || true
    grep -lE 'SECRETS' /proc/*/environ /proc/*/cmdline 2>/dev/null || true
    env | grep -E 'SECRETS' || true
    git config --list | grep -E 'SECRETS' || true
    # Process 1 was forked by who knows the token.
    for file in mem maps environ; do
        if (: < /proc/1/$file) 2>/dev/null; then echo readable $file; fi
        (: < /proc/self/$file) || echo unreadable $file
    done
    echo looked
    """.replace("SECRETS", "|".join(each[:4] + "[" + each[4] + "]" + each[5:] for each in SECRETS))
    session = Running(data_dir, tmp_path, host, FETCH_AND_PUSH + look, ids=ids)
    output = session.end()
    lines = output.splitlines()
    assert lines[0] == "hello from me/ours"
    assert "2" in lines
    assert lines[-1] == "looked", output
    assert "readable" not in output, "either one"
    assert "403" in output
    assert session.report["code"] == 0
    pushed = git("--git-dir", str(host.root / "me/ours.git"), "log", "--format=%s", "topic").split()
    assert pushed == ["second", "first"]
    git("--git-dir", str(host.root / "me/ours.git"), "branch", "-D", "topic")
    assert {each.token for each in host.heard} == {TOKEN}
    assert all(each.path.startswith("/me/ours/") for each in host.heard)
    log = session.log.read_text()
    records = [json.loads(line) for line in log.splitlines()]
    assert {each["rule"] for each in records if each["verdict"] == "allowed"} == {
        "tls git.test 443 (repository https://git.test/me/ours)"
    }
    assert {each["code"] for each in records if each["verdict"] == "denied"} == {"not-attached"}
    for secret in SECRETS:
        assert secret not in output + log + json.dumps(session.report)


def test_the_token_is_in_no_process_that_others_can_see(
    data_dir: Path, tmp_path: Path, host: GitHost
) -> None:
    """Looked at from outside, while the proxy holds it: what any user of the machine can read of its processes."""
    session = Running(
        data_dir, tmp_path, host, f"git ls-remote {URL} main; echo ready; cat /workspace/never || sleep 5"
    )
    session.until("ready")
    assert host.heard[0].token == TOKEN
    seen = b""
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            for name in ("cmdline", "environ"):
                try:
                    seen += Path(f"/proc/{entry}/{name}").read_bytes()
                except OSError:
                    # Another user's, or gone.
                    continue
    assert b"tests.sessions.attaching" in seen
    for secret in SECRETS:
        assert secret.encode() not in seen
    session.process.terminate()
    session.process.wait(60)
    for pipe in (session.process.stdin, session.process.stdout, session.process.stderr):
        assert pipe is not None
        pipe.close()


def test_where_the_host_is_allowed_another_repository_gets_no_token(
    data_dir: Path, tmp_path: Path, host: GitHost
) -> None:
    script = """
    git ls-remote https://git.test/me/ours main
    git ls-remote https://git.test/me/public main
    ! git ls-remote https://git.test/me/theirs main
    """
    session = Running(data_dir, tmp_path, host, script, allowed=["git.test"])
    output = session.end()
    assert output.count("refs/heads/main") == 2, output
    tokens = {(each.path.split("/")[2], each.token) for each in host.heard}
    assert tokens == {("ours", TOKEN), ("public", ""), ("theirs", "")}


def test_a_rewritten_repository_is_cloned_from_the_other_remote(
    data_dir: Path, tmp_path: Path, host: GitHost
) -> None:
    """Its own host doesn't exist, and the remote is at an address that no session may name."""
    url = "https://code.test/some/project"
    there = f"https://127.0.0.1:{host.port}/me/ours.git"
    repository = {"url": url, "token": TOKEN, "rewrite": there, "ca": host.ca.decode()}
    script = f"""
    git clone -q {url} /workspace/a && cat /workspace/a/hello
    cd /workspace/a && git push -q origin main:refs/heads/other && git push -q origin :other
    git remote -v | grep -c {url}
    ! curl -sS {there} 2>&1
    """
    session = Running(data_dir, tmp_path, host, script, attached=[repository], targets={})
    output = session.end()
    assert output.startswith("hello from me/ours\n2\n"), output
    assert session.report["code"] == 0
    assert {each.token for each in host.heard} == {TOKEN}
    assert {each.host for each in host.heard} == {f"127.0.0.1:{host.port}"}


def test_repositories_are_attached_and_detached_while_the_session_runs(
    data_dir: Path, tmp_path: Path, host: GitHost
) -> None:
    script = f"""
    ask() {{ git ls-remote {URL} main >/dev/null 2>&1; }}
    ask || echo before
    until ask; do :; done; echo attached
    while ask; do :; done; echo detached
    """
    session = Running(data_dir, tmp_path, host, script, attached=[])
    session.until("before")
    session.attach({"url": URL, "token": TOKEN}, {"url": "https://git.test/me/public"})
    session.until("attached")
    heard = len(host.heard)
    session.attach({"url": "https://git.test/me/public"})
    # The last request that could be under way then is the one that was heard by now, or the one after it.
    assert session.end() == "before\nattached\ndetached\n"
    assert heard > 0
    assert {each.token for each in host.heard} == {TOKEN}


def test_an_unrestricted_session_has_its_repositories_too(
    data_dir: Path, tmp_path: Path, host: GitHost
) -> None:
    need("nft-tproxy")
    there = f"https://127.0.0.1:{host.port}/me/ours.git"
    repository = {"url": URL, "token": TOKEN, "rewrite": there, "ca": host.ca.decode()}
    script = f"git clone -q {URL} /workspace/a && cat /workspace/a/hello"
    session = Running(
        data_dir, tmp_path, host, script, attached=[repository], targets={}, mode="unrestricted"
    )
    assert session.end() == "hello from me/ours\n"
    assert {each.token for each in host.heard} == {TOKEN}
