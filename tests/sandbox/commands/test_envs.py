"""``sandboxctl env``, the real command. That builds make layers is tested in tests/integration."""

import json
from pathlib import Path

import pytest
import yaml

from pkgcache.build import build
from sandbox import idmap, images
from tests.pkgcache.scripted import Scripted, add_base, installs_files, remove
from tests.sessions.running import control

PLAIN = "name: plain\nconfig: {type: cloud, networking: {type: limited, allowed_hosts: [example.com]}}\n"


def test_an_environment_is_kept_under_its_name(empty_data_dir: Path) -> None:
    file = empty_data_dir / "plain.yaml"
    file.write_text(PLAIN)
    data = empty_data_dir / "data"
    by_file = control(data, "env", "build", str(file))
    assert (by_file.code, by_file.out) == (0, "plain: ready (no packages; 0 layers)\n")
    file.unlink()
    by_name = control(data, "env", "build", "plain")
    assert (by_name.code, by_name.out) == (0, by_file.out)


def test_a_file_that_changed_is_the_next_revision(empty_data_dir: Path) -> None:
    file = empty_data_dir / "plain.yaml"
    for text in (PLAIN, PLAIN, PLAIN.replace("example.com", "example.org")):
        file.write_text(text)
        assert control(empty_data_dir / "data", "env", "build", str(file)).code == 0
    history = control(empty_data_dir / "data", "env", "history", "plain").out.splitlines()
    assert [line.split(maxsplit=2)[2] for line in history] == ["config.networking.allowed_hosts", "created"]


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("name: [", "plain.yaml"),
        ("name: plain\nconfig: {type: cloud, colour: red}\n", "colour"),
        ("name: plain\nconfig: {type: cloud, packages: {pip: [--index-url=x]}}\n", "pip"),
    ],
)
def test_a_bad_file_is_refused_and_not_kept(text: str, word: str, empty_data_dir: Path) -> None:
    file = empty_data_dir / "plain.yaml"
    file.write_text(text)
    data = empty_data_dir / "data"
    done = control(data, "env", "build", str(file))
    assert done.code == 2
    assert word in done.err
    assert control(data, "env", "build", "plain").code == 2


PACKAGES = "name: some\nconfig: {type: cloud, packages: {npm: [tsx], pip: [six]}}\n"


@pytest.fixture
def built(empty_data_dir: Path) -> Path:
    """A data directory that knows an environment whose layers hold a file each."""
    (empty_data_dir / "some.yaml").write_text(PACKAGES)
    store = images.store(str(empty_data_dir), idmap.choose(idmap.read_host_ids()))
    add_base(store)
    wanted = {"npm": ["tsx"], "pip": ["six"]}
    build(store, "debian", wanted, runner=Scripted(installs_files), remove=remove)
    return empty_data_dir


def test_the_lock_is_the_same_text_each_time(built: Path) -> None:
    first, again = (control(built, "env", "lock", str(built / "some.yaml")) for _ in range(2))
    assert first == again and first.code == 0
    lock = yaml.safe_load(first.out)
    assert [layer["manager"] for layer in lock["layers"]] == ["npm", "pip"]
    assert lock["layers"][1]["packages"] == [{"name": "six", "version": "1.0", "hash": "sha256:0"}]
    assert json.loads(control(built, "env", "lock", "--json", str(built / "some.yaml")).out) == lock


def test_a_lock_that_fits_needs_no_build_and_one_that_does_not_is_refused(built: Path) -> None:
    lock = built / "lock"
    lock.write_text(control(built, "env", "lock", str(built / "some.yaml")).out)
    done = control(built, "env", "build", str(built / "some.yaml"), "--locked", str(lock))
    assert (done.code, done.out) == (0, "some: ready (npm, pip; 2 layers)\n")
    lock.write_text(lock.read_text().replace("- six", "- seven"))
    refused = control(built, "env", "build", str(built / "some.yaml"), "--locked", str(lock))
    assert refused.code == 2 and "packages.pip is six, in the lock seven" in refused.err


def test_a_lock_needs_layers(empty_data_dir: Path) -> None:
    (empty_data_dir / "some.yaml").write_text(PACKAGES)
    for command in ("lock", "outdated"):
        done = control(empty_data_dir / "data", "env", command, str(empty_data_dir / "some.yaml"))
        assert done.code == 125 and "not all layers are built" in done.err and done.out == ""


def test_options_that_contradict_each_other_are_refused(built: Path) -> None:
    done = control(built, "env", "build", str(built / "some.yaml"), "--refresh", "--locked", "x")
    assert done.code == 2 and "--locked" in done.err


def test_the_bill_of_materials_has_what_the_layers_have(built: Path) -> None:
    done = control(built, "env", "sbom", str(built / "some.yaml"))
    assert done.code == 0
    found = sorted(entry["purl"] for entry in json.loads(done.out)["components"])
    assert found == ["pkg:npm/tsx@1.0", "pkg:pypi/six@1.0"]
