from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from pkgcache.recipe import (
    CLEAN,
    MISSING,
    NOT_CLOSED,
    SEAL,
    SEALABLE,
    UNREACHED,
    fetch_and_install,
    require,
    settle,
)


def shell(script: str, path: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["/bin/sh", "-c", script], env={"PATH": path}, capture_output=True, text=True, timeout=60, check=False
    )


def test_a_phase_whose_manager_is_not_there_says_so_and_ends(tmp_path: object) -> None:
    ended = shell(require("npm", "npm --version") + "echo went on\n", str(tmp_path))
    assert ended.returncode == MISSING
    assert ended.stdout == "@sandbox\tmissing\tnpm\n"


def test_a_phase_whose_manager_is_there_goes_on() -> None:
    ended = shell(require("sh", "command -v sh") + "echo went on\n", os.defpath)
    assert (ended.returncode, ended.stdout) == (0, "went on\n")


def settled(
    tmp_path: Path, found: str, said: str, spec: str = "a@1"
) -> tuple[subprocess.CompletedProcess[str], str]:
    """What the text of `settle` does for one package, and what it planned."""
    script = settle("CACHE", "PLAN").replace("/var/tmp", "MADE")
    script = script.replace("/tmp/found", f"{tmp_path}/found").replace("/tmp/said", f"{tmp_path}/said")
    # Last, for these paths may themselves begin with one of those.
    script = script.replace("CACHE", f"{tmp_path}/cache").replace("PLAN", f"{tmp_path}/plan")
    script = script.replace("MADE", str(tmp_path))
    (tmp_path / "found").write_text(found)
    (tmp_path / "said").write_text(said)
    ended = shell(f"{script}tool=1.0 spec='{spec}'\nsettle\n", os.defpath)
    plan = tmp_path / "plan"
    return ended, plan.read_text() if plan.exists() else ""


def test_what_a_package_came_to_counts_when_its_servers_do_not_answer(tmp_path: Path) -> None:
    ended, plan = settled(tmp_path, "a 1.2\n", "")
    assert (ended.returncode, plan) == (0, "a 1.2\n")
    ended, plan = settled(tmp_path, "", "curl: Could not resolve host: index.test")
    assert (ended.returncode, plan) == (0, "a 1.2\n")
    ended, plan = settled(tmp_path, "a 1.3\n", "")
    assert (ended.returncode, plan) == (0, "a 1.3\n")


def test_what_a_server_refused_is_refused_whatever_is_kept(tmp_path: Path) -> None:
    settled(tmp_path, "a 1.2\n", "")
    ended, plan = settled(tmp_path, "", "404 Not Found")
    assert ended.returncode == 1 and plan == ""


@pytest.mark.parametrize(
    "said", ["dial tcp: lookup x on [::1]:53: read", "[7] Couldn't connect to server", "EOF"]
)
def test_another_package_is_not_taken_for_it(tmp_path: Path, said: str) -> None:
    settled(tmp_path, "a 1.2\n", "")
    ended, plan = settled(tmp_path, "", said, "a@2")
    assert ended.returncode == 1 and plan == ""
    told = re.search(UNREACHED[0], ended.stdout.strip())
    assert told is not None and told["package"] == "a@2"


def in_one(tmp_path: Path, fetch: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """What the first of two phases does, whose downloads are below a directory of the test's."""
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "file").touch()
    install = f"echo installed $own; test ! -e {kept}/file || echo open\n"
    first, second = fetch_and_install("x", str(kept), ("spec",), fetch, install)
    assert (first.name, second.name, second.script) == ("download", "install", install)
    assert first.seals and first.apart and not second.apart
    script = first.script.replace("find /tmp", f"find {tmp_path}/none").replace("cd /workspace", "cd /")
    # Here a file stands for the right to write.
    script = script.replace(f'grep -q " {kept} ro[, ]" /proc/self/mountinfo', f"test ! -e {kept}/file")
    script = script.replace("left=1000", "left=2")
    return subprocess.run(
        ["/bin/sh", "-c", script, "sh", "spec"],
        env={"PATH": os.defpath, **variables},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_phase_that_was_not_offered_it_leaves_the_rest_to_the_next(tmp_path: Path) -> None:
    ended = in_one(tmp_path, 'echo fetched "$@"\n')
    assert (ended.returncode, ended.stdout) == (0, "fetched spec\n")


def test_one_whose_downloads_stay_open_leaves_the_rest_to_the_next(tmp_path: Path) -> None:
    ended = in_one(tmp_path, 'echo fetched "$@"\n', **{SEALABLE: "1"})
    assert (ended.returncode, ended.stdout) == (NOT_CLOSED, f"fetched spec\n{SEAL}\n")


def test_one_that_had_them_closed_goes_on_without_what_it_had_set(tmp_path: Path) -> None:
    ended = in_one(tmp_path, f'own=its; echo fetched "$@"; rm {tmp_path}/kept/file\n', **{SEALABLE: "1"})
    assert (ended.returncode, ended.stdout) == (0, f"fetched spec\n{SEAL}\ninstalled\n")


def test_one_that_could_not_fetch_asks_for_nothing_and_ends_as_it_did(tmp_path: Path) -> None:
    ended = in_one(tmp_path, "exit 90\n", **{SEALABLE: "1"})
    assert (ended.returncode, ended.stdout) == (90, "")


@pytest.mark.parametrize("name", ["x", ".x", "..x", "a b", "dangling"])
@pytest.mark.parametrize("folder", ["tmp", "var/tmp", "root/.cache", "root/.npm"])
def test_what_is_temporary_goes_whatever_its_name(tmp_path: Path, folder: str, name: str) -> None:
    place = tmp_path / folder
    place.mkdir(parents=True)
    if name == "dangling":
        (place / name).symlink_to("/nowhere")
    else:
        (place / name).mkdir()
    stays = tmp_path / "root" / "stays"
    stays.mkdir(parents=True)
    (tmp_path / "var" / "tmp").mkdir(parents=True, exist_ok=True)
    ended = shell(CLEAN.replace(" /", f" {tmp_path}/"), os.defpath)
    assert ended.returncode == 0
    assert stays.exists()
    assert not place.exists() or list(place.iterdir()) == []


def test_nothing_is_run_where_nothing_is_temporary(tmp_path: Path) -> None:
    ended = shell(CLEAN.replace(" /", f" {tmp_path}/"), "/nowhere")
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
