"""``sandboxctl cache``, the real command, on a store whose layers hold a file each."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import NamedTuple

import pytest

from pkgcache.build import build
from pkgcache.image import Image, lease
from pkgcache.store import Store
from pkgcache.survey import surveyed
from sandbox import idmap, images
from tests.pkgcache.scripted import Scripted, add_base, installs_files, remove
from tests.sessions.running import control


class Kept(NamedTuple):
    data: Path
    store: Store
    image: Image


@pytest.fixture
def kept(empty_data_dir: Path) -> Kept:
    store = images.store(str(empty_data_dir), idmap.choose(idmap.read_host_ids()))
    base = store.base(add_base(store).id)
    Path(base, "manifest").write_text(surveyed(store, base))
    image = build(
        store, "debian", {"npm": ["tsx"], "pip": ["six"]}, runner=Scripted(installs_files), remove=remove
    )
    return Kept(empty_data_dir, store, image)


def test_an_empty_cache_is_listed(empty_data_dir: Path) -> None:
    done = control(empty_data_dir / "none", "cache", "list")
    assert (done.code, done.out.splitlines()[-1]) == (0, "0 kept, 0 B on disk; downloads 0 B more")


def test_the_list_names_layers_their_packages_and_their_base(kept: Kept) -> None:
    with lease(kept.image):
        lines = control(kept.data, "cache", "list").out.splitlines()
    _, base, npm, pip, _ = (line.split() for line in lines)
    assert base[1] == "base" and base[-1] == "debian"
    assert npm[0] == kept.image.keys[0][:12] and npm[-2:] == ["debian-1", "tsx"]
    assert (pip[1], pip[-1]) == ("pip", "six") and "in use" in lines[3]


def test_the_list_as_json_adds_up(kept: Kept) -> None:
    told = json.loads(control(kept.data, "cache", "list", "--json").out)
    assert [entry["name"] for entry in told["kept"]] == ["debian", "npm", "pip"]
    assert told["size"] == sum(entry["size"] for entry in told["kept"]) > 0
    assert told["kept"][2]["id"] == kept.image.keys[1]


def test_pruning_says_what_goes_and_leaves_what_is_in_use(kept: Kept) -> None:
    with lease(kept.image):
        done = control(kept.data, "cache", "prune", "--max-size", "0")
        assert (done.code, done.out) == (0, "removed 0 B in all\n")
    dry = control(kept.data, "cache", "prune", "--max-size", "0", "--dry-run")
    assert dry.code == 0 and dry.out.startswith("would remove layer ")
    assert os.path.isdir(kept.store.layer(kept.image.keys[1]))
    done = control(kept.data, "cache", "prune", "--max-size", "0")
    assert done.out == dry.out.replace("would remove", "removed")
    assert not os.path.exists(kept.store.layer(kept.image.keys[1]))


def test_downloads_go_only_when_asked_for(kept: Kept) -> None:
    place = Path(kept.store.downloads("pip"))
    (place / "wheel").write_bytes(b"x" * 100_000)
    assert control(kept.data, "cache", "prune").code == 0
    assert place.exists()
    told = json.loads(control(kept.data, "cache", "prune", "--downloads", "--json").out)
    assert told["freed"] >= 100_000 and not place.exists()


@pytest.mark.parametrize(
    ("option", "value"), [("--max-size", "lots"), ("--older-than", "soon"), ("--older-than", "30")]
)
def test_a_limit_that_is_none_is_refused(kept: Kept, option: str, value: str) -> None:
    done = control(kept.data, "cache", "prune", option, value)
    assert done.code == 2 and value in done.err and done.out == ""
    assert os.path.isdir(kept.store.layer(kept.image.keys[1]))


def test_damage_is_named_and_repaired(kept: Kept) -> None:
    fine = control(kept.data, "cache", "verify")
    assert control(kept.data, "cache", "fsck") == fine
    assert (fine.code, fine.out.splitlines()[-1]) == (0, "3 looked at, 0 damaged")
    layer = Path(kept.store.layer(kept.image.keys[1]))
    (layer / "upper/six").write_text("sax")
    found = control(kept.data, "cache", "verify", "--quiet")
    assert found.code == 1 and "  upper/six: changed: content" in found.out and "--repair" in found.err
    with lease(kept.image):
        assert control(kept.data, "cache", "verify", "--repair").code == 1
    repaired = control(kept.data, "cache", "verify", "--repair")
    assert repaired.code == 0 and not layer.exists()
    assert control(kept.data, "cache", "verify").code == 0


def test_why_names_what_is_there_and_what_differs(kept: Kept, tmp_path: Path) -> None:
    env = tmp_path / "env.yaml"
    env.write_text("name: x\nconfig: {type: cloud, packages: {npm: [tsx], pip: [six==1.17]}}\n")
    done = control(kept.data, "cache", "why", str(env))
    npm, pip = done.out.splitlines()
    assert (done.code, npm.split()[-1]) == (0, "hit")
    nearest = kept.image.keys[1][:12]
    assert pip.endswith(f"miss: nearest is {nearest}: it lacks six==1.17; it has six")
    told = json.loads(control(kept.data, "cache", "why", str(env), "--json").out)
    assert told[1]["differs"] == [{"input": "specs", "wanted": "six==1.17", "there": "six"}]
    assert "no npm layer yet" in control(kept.data / "none", "cache", "why", str(env)).out
