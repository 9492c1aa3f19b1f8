"""Repositories and files in a container: cloned outside it, fetched and pushed in it, the token nowhere."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from netpolicy.policy import Policy, compile_policy
from sandbox import idmap, paths
from sandbox.containers.containers import Containers
from sandbox.containers.spec import ContainerSpec
from sandbox.containers.starting import Starter
from sandbox.managed import files, placing, resources
from sandbox.managed.failures import Refused
from sandbox.managed.resource_bodies import Resources
from sandbox.managed.rewrites import Rewrite, parse
from sandbox.managed.service import Service, open_service
from sandbox.managed.values import Strict, read
from sandbox.spec import RootFs, session_environment
from tests.capabilities import need
from tests.githost import GitHost, git

TOKEN, OTHER = "canary-3341-s3cret", "canary-3342-s3cret"
URL = "https://git.test/me/ours"
SPEC = ContainerSpec(RootFs(None), compile_policy("limited"), tuple(session_environment({}).items()))
Make = Callable[..., list[dict[str, Any]]]


class Body(Strict):
    resources: Resources


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GitHost]:
    need("git")
    made = GitHost(
        tmp_path_factory.mktemp("git"), {"me/ours": TOKEN, "me/theirs": OTHER}, "git.test", "localhost"
    )
    (made.root / "me").mkdir()
    for name in ("me/ours", "me/theirs", "me/public"):
        bare = made.make(name, f"hello from {name}\n")
        git("-C", f"{made.root}/{name}.work", "push", "--quiet", str(bare), "main:refs/heads/side/way")
    with made:
        yield made


@pytest.fixture(scope="module")
def starter() -> Iterator[Starter]:
    need("user-namespaces", "overlay")
    with Starter() as started:
        yield started


@pytest.fixture
def mode() -> str | None:
    """How the sessions' ids are made; None: the best that this machine allows."""
    return None


@pytest.fixture
def service(empty_data_dir: Path, host: GitHost, mode: str | None) -> Iterator[Service]:
    host.heard.clear()
    ids = idmap.choose(idmap.read_host_ids(), mode)
    paths.prepare(str(empty_data_dir), ids)
    rewrite = f"https://git.test=https://127.0.0.1:{host.port}"
    opened = open_service(str(empty_data_dir), ids, rewrites=[rewrite], rewrites_ca=host.ca)
    yield opened
    opened.close()


@pytest.fixture
def containers(service: Service, starter: Starter) -> Iterator[Containers]:
    made = Containers(
        service.data, service.ids, starter, credentials=lambda id_: placing.credentials(service, id_)
    )
    yield made
    assert [name for name in made.ids_of_all() if name.startswith("clone-")] == []
    made.sweep(())


@pytest.fixture
def make(service: Service, containers: Containers) -> Make:
    """A session's container with resources, as a session's creation makes it."""

    def make(
        *given: dict[str, Any], session: str = "sesn_1", policy: Policy = SPEC.policy
    ) -> list[dict[str, Any]]:
        planned = resources.plan(service, session, read(Body, {"resources": list(given)}).resources)
        spec = placing.prepared(service, SPEC._replace(policy=policy), planned)
        containers.create(session, spec)
        problems = placing.place(service, containers, spec, planned)
        resources.record(service, planned)
        return problems

    return make


def repository(url: str = URL, token: str | None = TOKEN, **more: Any) -> dict[str, Any]:
    return {"type": "github_repository", "url": url, "authorization_token": token, **more}


def said(containers: Containers, script: str, session: str = "sesn_1") -> str:
    environment = {"GIT_TERMINAL_PROMPT": "0"}
    done = containers.run(session, ["sh", "-ec", script], environment=environment, timeout_s=100)
    assert done.ended.code == 0, done
    return done.output.decode()


@pytest.mark.parametrize("mode", [None, "single"])
def test_a_repository_is_cloned_fetched_and_pushed_with_its_token(
    make: Make, containers: Containers, host: GitHost
) -> None:
    assert make(repository()) == []
    assert {each.token for each in host.heard} <= {"", TOKEN}
    script = """
    cd /workspace/ours; cat hello; git remote get-url origin; git branch --show-current
    git -c user.name=A -c user.email=a@a.test commit --quiet --allow-empty -m second
    git fetch --quiet; git push --quiet --force origin HEAD:refs/heads/pushed
    """
    assert said(containers, script) == f"hello from me/ours\n{URL}\nmain\n"
    pushed = git("-C", f"{host.root}/me/ours.git", "log", "-1", "--format=%s", "pushed")
    assert pushed == "second\n"
    assert host.heard[-1].token == TOKEN


def test_a_branch_or_a_commit_is_checked_out(make: Make, containers: Containers, host: GitHost) -> None:
    sha = git("-C", f"{host.root}/me/ours.git", "rev-parse", "main").strip()
    problems = make(
        repository(checkout={"type": "branch", "name": "side/way"}, mount_path="/a/deep/er"),
        repository(checkout={"type": "commit", "sha": sha}, mount_path="/b"),
    )
    assert problems == []
    assert said(containers, "cd /a/deep/er; git branch --show-current; cd /b; git rev-parse HEAD") == (
        f"side/way\n{sha}\n"
    )


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        (repository(token="wrong"), "authentication"),
        (repository(token=None), "authentication"),
        (repository("https://git.test/me/gone", None), "not_found"),
        (repository(checkout={"type": "branch", "name": "gone"}), "checkout"),
        (repository(checkout={"type": "commit", "sha": "0" * 40}), "checkout"),
    ],
)
def test_a_repository_that_is_not_there_is_told_and_the_session_goes_on(
    make: Make, containers: Containers, given: dict[str, Any], kind: str
) -> None:
    (problem,) = make({**given, "mount_path": "/r"}, repository("https://git.test/me/public", None))
    assert problem["type"] == f"repository_{kind}_error"
    assert problem["repository_url"] == given["url"]
    assert TOKEN not in str(problem)
    assert said(containers, "ls -A /r; cat /workspace/public/hello") == "hello from me/public\n"


def test_a_token_works_where_the_network_is_unrestricted(
    make: Make, containers: Containers, host: GitHost
) -> None:
    assert make(repository(), policy=compile_policy("unrestricted")) == []
    assert said(containers, f"git ls-remote {URL} main | wc -l") == "1\n"
    assert host.heard[-1].token == TOKEN


def test_a_server_in_a_private_network_is_reached_when_a_rewrite_names_it(
    containers: Containers, service: Service, host: GitHost
) -> None:
    """Loopback stands for the private network."""
    url = f"https://localhost:{host.port}/me/public"
    given = {"type": "github_repository", "url": url}
    planned = resources.plan(service, "sesn_1", read(Body, {"resources": [given]}).resources)

    def placed(rewrites: tuple[Rewrite, ...]) -> list[dict[str, Any]]:
        other = service._replace(rewrites=rewrites)
        spec = placing.prepared(other, SPEC, planned)
        containers.create("sesn_1", spec)
        try:
            return placing.place(other, containers, spec, planned)
        finally:
            containers.delete("sesn_1")

    (problem,) = placed(())
    assert problem["type"] == "repository_forbidden_error"
    assert host.heard == []
    named = f"https://localhost:{host.port}"
    assert placed((Rewrite(named, named, host.ca),)) == []


def test_a_repository_on_another_port_is_reached(
    make: Make, containers: Containers, service: Service, host: GitHost
) -> None:
    elsewhere = "https://git.test:8443/me/ours"
    assert service.rewrites
    rewrite = service.rewrites[0]._replace(url="https://git.test:8443")
    planned = resources.plan(service, "sesn_1", read(Body, {"resources": [repository(elsewhere)]}).resources)
    other = service._replace(rewrites=(rewrite,))
    spec = placing.prepared(other, SPEC, planned)
    containers.create("sesn_1", spec)
    assert placing.place(other, containers, spec, planned) == []
    resources.record(other, planned)
    again = containers.with_credentials(placing.credentials(other, "sesn_1"))
    assert said(again, f"git ls-remote {elsewhere} main | wc -l") == "1\n"
    assert host.heard[-1].token == TOKEN


def test_a_token_is_good_for_its_repository_alone(make: Make, containers: Containers, host: GitHost) -> None:
    assert make(repository(), repository("https://git.test/me/public", None)) == []
    assert said(containers, "git ls-remote https://git.test/me/public main | wc -l") == "1\n"
    host.heard.clear()
    refused = containers.run(
        "sesn_1", ["git", "ls-remote", "https://git.test/me/theirs"], environment={"GIT_TERMINAL_PROMPT": "0"}
    )
    assert refused.ended.code != 0
    assert [each for each in host.heard if each.token] == []
    assert said(containers, f"git ls-remote {URL} main | wc -l") == "1\n"
    assert host.heard[-1].token == TOKEN


def test_a_token_is_nowhere(
    make: Make, containers: Containers, service: Service, host: GitHost, empty_data_dir: Path
) -> None:
    assert make(repository()) == []
    inside = said(
        containers,
        "cd /workspace/ours; git fetch --quiet; env; cat /proc/*/environ /proc/*/cmdline | tr '\\0' '\\n';"
        " git config --list; find / -xdev -name .git-credentials; cat .git/config /root/.gitconfig || true",
    )
    assert host.heard[-1].token == TOKEN
    assert URL in inside
    assert TOKEN not in inside
    looked = 0
    for path in empty_data_dir.rglob("*"):
        if path.is_file() and not path.is_symlink() and os.access(path, os.R_OK):
            looked += 1
            assert TOKEN.encode() not in path.read_bytes(), path
    assert looked > 20
    for process in Path("/proc").iterdir():
        for name in ("environ", "cmdline"):
            try:
                found = (process / name).read_bytes() if process.name.isdecimal() else b""
            except OSError:
                continue
            assert TOKEN.encode() not in found, process
    assert TOKEN not in str(resources.all_of(service, "sesn_1"))
    assert "git.test" in Path(containers.egress("sesn_1")).read_text()


def test_a_local_remote_needs_no_network(
    make: Make, containers: Containers, service: Service, host: GitHost
) -> None:
    local = service._replace(rewrites=(parse(f"https://git.test={host.root}"),))
    planned = resources.plan(local, "sesn_2", read(Body, {"resources": [repository()]}).resources)
    spec = placing.prepared(local, SPEC, planned)
    containers.create("sesn_2", spec)
    host.heard.clear()
    assert placing.place(local, containers, spec, planned) == []
    assert host.heard == []
    script = "cd /workspace/ours; cat hello; git config remote.origin.url; git branch -r; git rev-parse HEAD"
    told = said(containers, script, "sesn_2").split("\n")
    assert told[:2] == ["hello from me/ours", URL]
    work = f"{host.root}/me/ours.work"
    git("-C", work, "commit", "--quiet", "--allow-empty", "-m", "later")
    git("-C", work, "push", "--quiet", f"{host.root}/me/ours.git", "main:later")
    later = "cd /workspace/ours; git fetch --quiet; git log -1 --format=%s origin/later"
    assert said(containers, later, "sesn_2") == "later\n"
    pushed = "cd /workspace/ours; git push --quiet origin HEAD:refs/heads/no 2>/dev/null || echo no"
    assert said(containers, pushed, "sesn_2") == "no\n"
    assert host.heard == []


def test_a_hostile_repository_reaches_nothing_of_the_host(
    make: Make, containers: Containers, host: GitHost, tmp_path: Path
) -> None:
    """Links, odd names and settings in what is cloned stay inside."""
    bare, work = host.make("me/public2", "x"), host.root / "me/public2.work"
    secret = tmp_path / "secret"
    secret.write_text("of the host")
    os.symlink(str(secret), work / "leak")
    os.symlink("/proc/self/environ", work / "environ")
    (work / ".gitattributes").write_text("* filter=evil\n")
    (work / ".gitmodules").write_text('[submodule "x"]\n\tpath = x\n\turl = -u./payload\n')
    git("-C", str(work), "add", "-A")
    git("-C", str(work), "commit", "--quiet", "-m", "links")
    git("-C", str(work), "push", "--quiet", str(bare), "main")
    assert make(repository("https://git.test/me/public2", None)) == []
    told = said(containers, "cd /workspace/public2; cat leak 2>&1 || true; readlink leak")
    assert "of the host" not in told
    assert str(secret) in told


def test_files_are_seen_read_only_and_stay_when_the_upload_goes(
    make: Make, containers: Containers, service: Service
) -> None:
    with files.Upload(service) as upload:
        upload.write(b"content\n")
        uploaded = upload.finish("a.txt")["id"]
    given = {"type": "file", "file_id": uploaded}
    assert make(given, {**given, "mount_path": "/data/deep/er.txt"}, repository()) == []
    files.delete(service, uploaded)
    there = f"/mnt/session/uploads/{uploaded}"
    assert said(containers, f"cat {there} /data/deep/er.txt") == "content\ncontent\n"
    assert (
        said(containers, f"(echo x >{there}) 2>/dev/null || (rm -f {there}) 2>/dev/null || echo no") == "no\n"
    )
    containers.stop("sesn_1")
    assert said(containers, f"cat {there}") == "content\n"
    documents = resources.all_of(service, "sesn_1")
    placing.detach(containers, "sesn_1", documents[0])
    assert said(containers, f"test -e {there} || echo gone") == "gone\n"


def test_a_file_where_the_session_has_a_directory_is_refused(make: Make, service: Service) -> None:
    with files.Upload(service) as upload:
        uploaded = upload.finish("a.txt")["id"]
    given = {"type": "file", "file_id": uploaded}
    with pytest.raises(Refused, match="mount_path"):
        make({**given, "mount_path": "/data/there"}, {**given, "mount_path": "/usr/share"})


def test_a_clone_that_was_killed_leaves_nothing(service: Service, containers: Containers) -> None:
    containers.create("clone-dead", SPEC)
    folder = Path(service.folder) / "clones"
    folder.mkdir()
    (folder / "clone-dead").touch()
    placing.sweep(service, containers)
    assert containers.ids_of_all() == ()
    assert list(folder.iterdir()) == []
