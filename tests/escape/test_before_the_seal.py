"""Class: package code against the downloads that builds share (docs/threats/builds.md).

What comes before the downloads are closed runs no code of packages; what comes after is all that counts as installed.
"""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from pkgcache import phases as phases_
from pkgcache.errors import BuildError
from pkgcache.managers import apt, cargo, npm
from pkgcache.phases import World, open_log
from pkgcache.recipe import Phase, fetch_and_install
from pkgcache.records import Locked
from pkgcache.report import packages
from pkgcache.runner import Job, Mount, Result, Root
from pkgcache.store import create
from sandbox import paths
from sandbox.idmap import IdMap
from tests.capabilities import need
from tests.integration.layers import Place
from tests.integration.test_layers import place_of

pytestmark = pytest.mark.timeout(600)


class Built:
    """Runs phases as a build does, with more mounts; what came of it."""

    def __init__(self, place: Place, base: str | None, given: Path, scratch: Path) -> None:
        self.place = place
        self.given = given
        self.mounts: list[Mount] = [Mount(str(given), "/opt/given")]
        self.said: list[str] = []
        self.installed: tuple[Locked, ...] = ()
        self.jobs = 0
        self._root = Root(base)
        self._scratch = str(scratch)

    def run(self, phases: Sequence[Phase], *, before: str = "", after: str = "") -> Result:
        """`before`: shell text ahead of each phase's own. `after`: what is run on the layer that was made."""

        def runner(job: Job) -> Result:
            self.jobs += 1
            script = before + job.argv[2].replace("left=1000", "left=20")
            argv = (*job.argv[:2], script, *job.argv[3:])
            return self.place.run_job(job._replace(argv=argv, mounts=(*job.mounts, *self.mounts)))

        os.mkdir(self._scratch)
        world = World(self.place.store, runner, (), (), None)
        with open_log(self.place.store, "attack", self.said.append) as log:
            result = phases_.run_phases(world, phases, self._root, log, lambda _: None, scratch=self._scratch)
            self.installed = packages(log.marks)
        if after:
            output = bytearray()
            layer = (f"{self._scratch}/upper",)
            job = Job(Root(self._root.base, layer), ("/bin/sh", "-c", after), output=output.extend)
            assert self.place.run_job(job).exit_code == 0, bytes(output)
            self.said.append(output.decode())
        return result

    def forget(self, name: str, file: str) -> None:
        """Remove a file of an earlier run from the kept downloads."""
        self.place.remove(os.path.join(self.place.store.downloads(name), file))

    def kept(self, name: str, *folders: str) -> list[str]:
        return os.listdir(os.path.join(self.place.store.downloads(name), *folders))


def _made(place: Place, base: str | None, tmp_path: Path) -> Iterator[Built]:
    given = tmp_path / "given"
    given.mkdir()
    scratch = Path(place.data, f"attack-{os.getpid()}-{tmp_path.name}")
    try:
        yield Built(place, base, given, scratch)
    finally:
        place.remove(str(scratch))


@pytest.fixture
def on_host(ids: IdMap, empty_data_dir: Path, tmp_path: Path) -> Iterator[Built]:
    need("user-namespaces", "overlay")
    paths.prepare(str(empty_data_dir), ids)
    place = Place(str(empty_data_dir), ids.mode)
    create(place.store)
    yield from _made(place, None, tmp_path)


@pytest.fixture
def on_debian(data_dir: Path, tmp_path: Path) -> Iterator[Built]:
    place = place_of("range", data_dir)
    image = place.build("debian", {})
    yield from _made(place, image.base, tmp_path)


def npm_package(given: Path, name: str, about: Mapping[str, object], **files: str) -> str:
    """An archive as a registry has them; where sessions see it."""
    with tarfile.open(given / f"{name}.tgz", "w:gz") as archive:
        contents = {"package.json": json.dumps({"name": name, "version": "1.0.0", **about}), **files}
        for file, text in contents.items():
            entry = tarfile.TarInfo(f"package/{file}")
            entry.size, entry.mode = len(text.encode()), 0o755
            archive.addfile(entry, io.BytesIO(text.encode()))
    return f"/opt/given/{name}.tgz"


FIND = """#!/bin/sh
echo the package was run
touch /var/cache/npm/by-package
exec /usr/bin/find "$@"
"""


def test_a_program_of_an_npm_package_is_not_run_while_the_downloads_are_open(on_host: Built) -> None:
    need("npm")
    package = npm_package(on_host.given, "handy", {"bin": {"find": "program"}}, program=FIND)
    result = on_host.run(npm.recipe((package,), ""), after="find /opt")
    assert result.exit_code == 0, on_host.said
    assert "the package was run" in on_host.said[-1]
    assert "by-package" not in on_host.kept("npm")


def test_what_a_git_repository_would_run_to_be_fetched_does_not_run_while_the_downloads_are_open(
    on_debian: Built, tmp_path: Path
) -> None:
    need("git")
    repository = on_debian.given / "repository"
    repository.mkdir()
    about = {"name": "dep", "version": "1.0.0", "scripts": {"prepare": "touch /var/cache/npm/by-prepare"}}
    (repository / "package.json").write_text(json.dumps(about))
    git = ("git", "-C", str(repository), "-c", "user.name=a", "-c", "user.email=a@b.test")
    for command in (("init", "-q"), ("add", "."), ("commit", "-qm", "first")):
        subprocess.run([*git, *command], check=True)
    (tmp_path / "gitconfig").write_text("[safe]\n\tdirectory = *\n")
    on_debian.mounts.append(Mount(str(tmp_path / "gitconfig"), "/root/.gitconfig"))
    package = npm_package(
        on_debian.given, "user", {"dependencies": {"dep": "git+file:///opt/given/repository"}}
    )
    on_debian.forget("npm", "by-prepare")
    # Refusing it is as good as fetching it without running anything.
    on_debian.run(npm.recipe((package,), ""))
    assert "by-prepare" not in on_debian.kept("npm"), on_debian.said


def test_scripts_of_npm_packages_do_not_see_the_kept_downloads(on_host: Built) -> None:
    """As docs/packages.md has it ("not there"): other environments' private packages are among them."""
    need("npm")
    script = "test ! -e /var/cache/npm/kept; echo seen=$?"
    os.makedirs(f"{on_host.place.store.downloads('npm')}/kept")
    package = npm_package(on_host.given, "curious", {"scripts": {"postinstall": script}})
    assert on_host.run(npm.recipe((package,), "")).exit_code == 0, on_host.said
    assert "seen=0" in on_host.said, on_host.said


MANIFEST = """[package]
name = "{name}"
version = "0.1.0"
edition = "2021"
{build}
"""
LINTS = """[lints.rust]
unexpected_cfgs = { level = "warn", check-cfg = ['cfg(x, values(" --print=y "))'] }
"""
BUILD = 'fn main() { let _ = std::fs::write("/var/cache/cargo/by-build-script", "x"); }\n'


@pytest.mark.parametrize(
    "name, folder, more",
    [("plain", ".", ""), ("folder", "a --print=b", ""), ("lint", ".", LINTS)],
    ids=["plain", "folder", "lint"],
)
def test_no_crate_talks_its_build_script_past_the_stop(
    on_debian: Built, tmp_path: Path, name: str, folder: str, more: str
) -> None:
    crate = on_debian.given / f"{name}-0.1.0"
    (crate / "src").mkdir(parents=True)
    (crate / folder).mkdir(exist_ok=True)
    (crate / "Cargo.toml").write_text(MANIFEST.format(name=name, build=f'build = "{folder}/build.rs"') + more)
    (crate / "Cargo.lock").write_text(f'version = 3\n\n[[package]]\nname = "{name}"\nversion = "0.1.0"\n')
    (crate / ".cargo-checksum.json").write_text(json.dumps({"files": {}, "package": "a" * 64}))
    (crate / "src/main.rs").write_text('fn main() { println!("installed"); }\n')
    (crate / folder / "build.rs").write_text(BUILD)
    (tmp_path / "config.toml").write_text(
        '[source.crates-io]\nreplace-with = "given"\n[source.given]\ndirectory = "/opt/given"\n'
    )
    on_debian.mounts.append(Mount(str(tmp_path / "config.toml"), "/root/.cargo/config.toml"))
    on_debian.forget("cargo", "by-build-script")
    result = on_debian.run(cargo.recipe((f"{name}@0.1.0",), ""))
    assert "by-build-script" not in on_debian.kept("cargo")
    assert result.exit_code == 0, on_debian.said


@pytest.mark.parametrize(
    "arguments, passed",
    [
        (("-vV",), True),
        (("-", "--crate-name", "___", "--print=file-names", "--print=cfg"), True),
        (("--crate-name", "build_script_build", "/tmp/cargo/x-1.0.0/build.rs"), False),
        (("--crate-name", "build_script_build", "/tmp/cargo/x-1.0.0/a --print=b/build.rs"), False),
        (
            ("--crate-name", "x", "--check-cfg", 'cfg(x, values(" -vV "))', "/tmp/cargo/x-1.0.0/main.rs"),
            False,
        ),
    ],
)
def test_the_compiler_is_asked_but_compiles_nothing(
    tmp_path: Path, arguments: tuple[str, ...], passed: bool
) -> None:
    found = re.search(r"<<'END'\n(#!/bin/sh\n.*?)END\n", cargo._DOWNLOAD, re.DOTALL)
    assert found is not None
    stop, compiler = tmp_path / "stop", tmp_path / "rustc"
    stop.write_text(found[1].replace("/tmp/", f"{tmp_path}/").replace('kill "$PPID"', "exit 9"))
    compiler.write_text("#!/bin/sh\necho compiler\n")
    compiler.chmod(0o755)
    ended = subprocess.run(
        ["/bin/sh", str(stop), str(compiler), *arguments], capture_output=True, text=True, check=False
    )
    assert (ended.stdout == "compiler\n") == passed


@pytest.mark.parametrize("shell", ["", "grep() { false; }\n"], ids=["in time", "late"])
def test_what_was_closed_but_did_not_go_on_is_not_taken_for_installed(on_host: Built, shell: str) -> None:
    """It may see too late that it was closed."""
    two = fetch_and_install("x", "/var/cache/x", ("a",), "echo fetched\n", "echo installed > /usr/local/x\n")
    result = on_host.run(two, before=shell, after="cat /usr/local/x || true")
    assert result.exit_code != 0 or on_host.said[-1] == "installed\n", (on_host.jobs, on_host.said)


@pytest.fixture
def holds_another() -> Iterator[Callable[[str], None]]:
    need("root")
    mounted: list[str] = []

    def mount(path: str) -> None:
        other = f"{path}.other"
        os.makedirs(path)
        os.mkdir(other)
        os.chmod(other, 0o777)
        subprocess.run(["mount", "--bind", other, path], check=True)
        mounted.append(path)

    yield mount
    for path in mounted:
        subprocess.run(["umount", path], check=True)


@pytest.mark.parametrize("one_session", [False, True])
def test_what_is_mounted_among_the_downloads_is_closed_as_well(
    on_host: Built, holds_another: Callable[[str], None], one_session: bool
) -> None:
    holds_another(f"{on_host.place.store.downloads('x')}/disk")
    two = fetch_and_install(
        "x", "/var/cache/x", ("a",), "true\n", "touch /var/cache/x/disk/by-package; true\n"
    )
    phases = [phase._replace(seals=one_session and phase.seals) for phase in two]
    assert on_host.run(phases).exit_code == 0
    assert on_host.kept("x", "disk") == []


def deb(given: Path, name: str, scripts: Mapping[str, str]) -> str:
    """A Debian package without files; where sessions see it."""
    control = f"Package: {name}\nVersion: 1.0\nArchitecture: all\nMaintainer: a <a@b.test>\nDescription: a\n"
    parts = [
        ("debian-binary", b"2.0\n"),
        ("control.tar", _tar({"control": control, **scripts})),
        ("data.tar", _tar({})),
    ]
    with open(given / f"{name}.deb", "wb") as file:
        file.write(b"!<arch>\n")
        for part, data in parts:
            file.write(f"{part:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(data):<10}`\n".encode())
            file.write(data + b"\n" * (len(data) % 2))
    return f"/opt/given/{name}.deb"


def _tar(files: Mapping[str, str]) -> bytes:
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w") as archive:
        for name, text in files.items():
            entry = tarfile.TarInfo(f"./{name}")
            entry.size, entry.mode = len(text.encode()), 0o755
            archive.addfile(entry, io.BytesIO(text.encode()))
    return held.getvalue()


@pytest.mark.parametrize(
    "more", ["", "mkdir -p /var/tmp/hooks && touch /var/tmp/hooks/open\n"], ids=["silent", "says so"]
)
def test_a_package_that_can_not_be_installed_can_not_say_that_it_was(
    on_debian: Built, tmp_path: Path, more: str
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "none").touch()
    on_debian.mounts += [
        Mount(str(tmp_path / "none"), "/etc/apt/sources.list"),
        Mount(str(tmp_path / "empty"), "/etc/apt/sources.list.d"),
    ]
    package = deb(on_debian.given, "failing", {"postinst": f"#!/bin/sh\n{more}echo it ran\nexit 1\n"})
    result = on_debian.run(apt.recipe((package,), "attack"))
    assert "it ran" in on_debian.said, on_debian.said
    assert result.exit_code != 0


def test_a_kept_archive_that_was_changed_is_not_installed(data_dir: Path) -> None:
    place = place_of("range", data_dir)
    packages = {"apt": ["hello"]}
    place.forget(place.build("debian", packages))
    # The time of the first member, which no program reads: the size stays.
    change = (
        "for file in /kept/hello_*.deb; do printf 7 | dd of=$file bs=1 seek=24 conv=notrunc status=none; done"
    )
    kept = Mount(place.store.downloads("apt/archives"), "/kept", writable=True)
    assert place.run_job(Job(Root(None), ("/bin/sh", "-ec", change), mounts=(kept,))).exit_code == 0
    try:
        with pytest.raises(BuildError) as failed:
            place.build("debian", packages)
        assert failed.value.package == "hello"
        assert "not what the index says" in str(failed.value)
    finally:
        place.run_job(Job(Root(None), ("/bin/sh", "-c", "rm /kept/hello_*.deb"), mounts=(kept,)))
    assert place.run(place.build("debian", packages), "hello")[0] == 0
