from __future__ import annotations

import os
import subprocess
from hashlib import sha256
from pathlib import Path

import pytest

from pkgcache.errors import InputError
from pkgcache.managers import apt
from pkgcache.records import Locked


@pytest.mark.parametrize(
    "text, name",
    [
        ("jq", "jq"),
        ("g++", "g++"),
        ("libstdc++-12-dev", "libstdc++-12-dev"),
        ("python3.13", "python3.13"),
        ("0ad", "0ad"),
        ("jq=1.7.1-6+deb13u4", "jq"),
        ("vim=2:9.1.1230-2", "vim"),
        ("libc6:i386", "libc6:i386"),
        ("libc6:i386=2.41-12~bpo1", "libc6:i386"),
    ],
)
def test_specs_as_apt_writes_them(text: str, name: str) -> None:
    spec = apt.parse(text)
    assert (spec.name, spec.text) == (name, text)


@pytest.mark.parametrize(
    "text",
    ["j", "JQ", "jq-", "jq^", "jq*", "jq?", "jq/trixie", "jq=", "jq==1", "jq=1 2", "jq=-1", "jq:=1", "jq@1", "jq>1",
     "?name(x)", "~njq", "./jq.deb", "jq=1/x"],
)  # fmt: skip
def test_what_apt_would_take_for_something_else_is_refused(text: str) -> None:
    with pytest.raises(InputError):
        apt.parse(text)


def test_packages_are_fetched_where_the_cache_can_be_written_and_installed_where_it_can_not() -> None:
    download, install = apt.recipe(("jq",), "base-1")
    assert download.online and all(cache.writable for cache in download.caches)
    assert install.kept and not any(cache.writable for cache in install.caches)
    assert [cache.name for cache in download.caches] == [cache.name for cache in install.caches]
    assert download.arguments == install.arguments == ("jq",)
    assert download.lock


@pytest.mark.parametrize(
    "line, package",
    [
        ("E: Unable to locate package no-such", "no-such"),
        ("E: Version '9' for 'jq' was not found", "jq"),
        ("E: Package 'jq' has no installation candidate", "jq"),
        ("dpkg: error processing package postfix (--configure):", "postfix"),
        (" jq : Depends: libjq1 (= 1) but it is not installable", "jq"),
    ],
)
def test_the_package_at_fault_is_read_from_the_log(line: str, package: str) -> None:
    told = apt.explain(["Reading package lists...", line, "E: Sub-process returned an error code"])
    assert told is not None and told[0] == package and told[1]


def test_a_log_that_tells_nothing_blames_nobody() -> None:
    assert apt.explain(["Reading package lists...", "E: Some index files failed to download"]) is None


def test_locked_packages_are_pinned_with_their_architecture() -> None:
    packages = (Locked("jq:amd64", "1.7"), Locked("tzdata:all", "2026a"))
    assert apt.again(("jq", "bash"), packages) == ("jq:amd64=1.7", "tzdata=2026a", "bash")
    assert all(apt.parse(spec) for spec in apt.again(("jq", "bash"), packages))


@pytest.mark.parametrize(
    "hash_, ended",
    [(sha256(b"archive").hexdigest(), 0), (sha256(b"other").hexdigest(), 1), (None, 1)],
    ids=["as indexed", "changed", "not indexed"],
)
def test_only_archives_that_the_index_knows_are_unpacked(
    tmp_path: Path, hash_: str | None, ended: int
) -> None:
    (tmp_path / "a.deb").write_bytes(b"archive")
    stanza = "" if hash_ is None else f"Package: a\nVersion: 1:2\nArchitecture: all\nSHA256: {hash_}\n"
    (tmp_path / "stanza").write_text(stanza)
    program = tmp_path / "apt-cache"
    program.write_text(f"#!/bin/sh\ncat {tmp_path}/stanza\n")
    program.chmod(0o755)
    script = apt._PACKAGES.replace(apt._HOOKS, str(tmp_path)).replace(apt._ARCHIVES, str(tmp_path))
    told = f"VERSION 3\nAPT::Architecture=amd64\n\na - - none < 1:2 all none {tmp_path}/a.deb\n"
    done = subprocess.run(
        ["/bin/sh", "-c", script], input=told, env={"PATH": f"{tmp_path}:{os.defpath}"},
        capture_output=True, text=True, timeout=20, check=False,
    )  # fmt: skip
    assert done.returncode == ended, done.stderr
    assert ("E: not as indexed: a" in done.stdout) == bool(ended)
    assert f"@sandbox\tpackage\ta:all\t1:2\tsha256:{sha256(b'archive').hexdigest()}" in done.stdout
