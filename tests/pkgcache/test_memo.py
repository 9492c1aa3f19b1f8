from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pkgcache.build import build
from pkgcache.image import Image
from pkgcache.memo import recall, remember
from pkgcache.store import Store, open_store
from tests.pkgcache.scripted import Scripted, add_base, installs_files, remove

PACKAGES = {"apt": ["jq"], "pip": ["six", "idna"]}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = open_store(str(tmp_path))
    add_base(made)
    return made


@pytest.fixture
def image(store: Store) -> Image:
    return build(store, "debian", PACKAGES, runner=Scripted(installs_files), remove=remove)


def test_the_same_words_give_the_same_image(store: Store, image: Image) -> None:
    assert recall(store, "debian", PACKAGES) == image


@pytest.mark.parametrize(
    "packages",
    [{}, None, {"apt": ["jq"]}, {**PACKAGES, "pip": ["six", "idna", "x"]}, {**PACKAGES, "pip": ["six,idna"]}],
)
def test_other_words_are_another_question(
    store: Store, image: Image, packages: dict[str, list[str]] | None
) -> None:
    assert recall(store, "debian", packages) is None


def test_another_base_or_need_is_another_question(store: Store, image: Image) -> None:
    assert recall(store, "debian-minimal", PACKAGES) is None
    assert recall(store, "host", PACKAGES) is None
    assert recall(store, "../names/debian", PACKAGES) is None
    assert recall(store, "debian\0", PACKAGES) is None
    assert recall(store, "debian", PACKAGES, need_endpoints=True) is None


def test_a_base_made_again_is_another_question(store: Store, image: Image) -> None:
    add_base(store, identity="debian-2")
    assert recall(store, "debian", PACKAGES) is None


def test_an_answer_whose_layer_is_gone_is_no_answer(store: Store, image: Image) -> None:
    shutil.rmtree(store.layer(image.keys[0]))
    assert recall(store, "debian", PACKAGES) is None


def test_a_damaged_answer_is_no_answer(store: Store, image: Image) -> None:
    (answer,) = Path(store.path, "memo").iterdir()
    text = answer.read_text()
    for damaged in ("", text[:-1], text[: len(text) // 2], "x" + text):
        answer.write_text(damaged)
        assert recall(store, "debian", PACKAGES) is None
    answer.write_text(text)
    assert recall(store, "debian", PACKAGES) == image


def test_an_answer_that_can_not_be_kept_is_no_failure(store: Store, image: Image) -> None:
    shutil.rmtree(f"{store.path}/memo")
    Path(store.path, "memo").touch()
    remember(store, "debian", PACKAGES, False, image)
    assert recall(store, "debian", PACKAGES) is None


def test_an_answer_with_a_line_break_in_it_is_not_kept(tmp_path: Path) -> None:
    odd = open_store(str(tmp_path / "line\nbreak"))
    add_base(odd)
    made = build(odd, "debian", PACKAGES, runner=Scripted(installs_files), remove=remove)
    assert made.base is not None and recall(odd, "debian", PACKAGES) is None


def test_finding_an_image_loads_nothing_heavy(store: Store, image: Image) -> None:
    script = """
import sys
from pkgcache.image import lease
from pkgcache.memo import recall
from pkgcache.store import open_store
found = recall(open_store(sys.argv[1]), "debian", {"apt": ["jq"], "pip": ["six", "idna"]})
with lease(found):
    print(sorted(set(sys.modules) & set(sys.argv[2].split())), len(found.layers))
"""
    heavy = (
        "json hashlib dataclasses logging subprocess packaging pathlib ctypes pkgcache.specs pkgcache.phases"
    )
    done = subprocess.run(
        [
            sys.executable,
            "-I",
            "-S",
            "-c",
            f"import sys; sys.path[:0] = {sys.path!r}\n{script}",
            os.path.dirname(store.path),
            heavy,
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("[] 2\n", "")
