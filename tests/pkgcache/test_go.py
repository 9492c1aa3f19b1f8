from __future__ import annotations

import pytest

from pkgcache.errors import InputError
from pkgcache.managers import go
from pkgcache.recipe import SEAL
from pkgcache.records import Locked


@pytest.mark.parametrize(
    "text, canonical",
    [
        ("example.test/x/tools/cmd/goimports@latest", "example.test/x/tools/cmd/goimports@latest"),
        ("example.test/tool", "example.test/tool@latest"),
        ("example.test/tool/v2@v2.1.0-rc.1+incompatible", "example.test/tool/v2@v2.1.0-rc.1+incompatible"),
        ("gopkg.test/yaml.v3@v3.0.1", "gopkg.test/yaml.v3@v3.0.1"),
        ("example.test/tool@main", "example.test/tool@main"),
    ],
)
def test_specs_as_go_writes_them(text: str, canonical: str) -> None:
    assert go.parse(text).text == canonical


@pytest.mark.parametrize(
    "text",
    ["tool", "tool@latest", "./tool", "example.test/../x", "example.test//x", "example.test/x@", "example.test/x@a b",
     "example.test/.x", "example.test/x.",
     "example.test/x@none", "example.test/x@upgrade", "example.test/x@patch",
     "https://example.test/x", "example.test/x@-v", "example.test/...", "a@b@c"],
)  # fmt: skip
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises(InputError):
        go.parse(text)


def test_packages_are_compiled_without_writing_to_the_kept_downloads() -> None:
    download, install = go.recipe(("example.test/tool@latest",), "base-1")
    assert [cache.writable for cache in (*download.caches, *install.caches)] == [True, False]
    assert download.apart and not install.apart
    # What was verified is not asked about again: the proof for a newer tree may not be among what is kept.
    fetch, _, _ = download.script.partition(SEAL)
    assert ("GOSUMDB=off" in fetch, "GOSUMDB=off" in install.script) == (False, True)
    assert download.arguments == install.arguments == ("example.test/tool@latest",)
    assert download.caches[0].name == install.caches[0].name


@pytest.mark.parametrize(
    "line, package, why",
    [
        (
            "go: host.test/x/cmd/y@latest: module host.test/x@latest found (v0.5.2), but does not contain package "
            "host.test/x/cmd/y",
            "host.test/x/cmd/y",
            "no such package",
        ),
        (
            "go: module host.test/x@v1.0.0 found, but does not contain package host.test/x/y",
            "host.test/x/y",
            "no such package",
        ),
        (
            "go: host.test/x@v9: reading https://proxy.test/host.test/x/@v/v9.info: 404 Not Found",
            "host.test/x",
            "no such module or version",
        ),
        ("go: host.test/x@v9.0.0: invalid version: unknown revision v9.0.0", "host.test/x", "no such module"),
        (
            "sandbox: host.test/x@latest: its servers can't be reached, and nothing of it is kept",
            "host.test/x@latest",
            "can't be reached",
        ),
        (
            "go: host.test/x@v1.0.0 requires go >= 1.99.0 (running go 1.24.4; GOTOOLCHAIN=local)",
            "host.test/x",
            "newer Go",
        ),
        ("# host.test/x/internal/y", "host.test/x/internal/y", "compiling"),
        ("go: host.test/x@v1.0.0: another package has a program called x too", "host.test/x", "of that name"),
    ],
)
def test_the_package_at_fault_is_read_from_the_log(line: str, package: str, why: str) -> None:
    told = go.explain(["go: downloading host.test/other v1.0.0", line])
    assert told is not None and told[0] == package and why in told[1]


def test_servers_that_did_not_answer_are_no_missing_module() -> None:
    lines = [
        'go: host.test/x@latest: module host.test/x: Get "https://proxy.test/": dial tcp: lookup proxy.test',
        "sandbox: host.test/x@latest: its servers can't be reached, and nothing of it is kept",
    ]
    told = go.explain(lines)
    assert told is not None and "can't be reached" in told[1]


def test_a_log_that_tells_nothing_blames_nobody() -> None:
    assert go.explain(["go: downloading host.test/other v1.0.0", "# a remark"]) is None


def test_a_lock_pins_the_module_that_a_package_is_in() -> None:
    packages = [
        Locked("host.test/x", "v1.0.0"),
        Locked("host.test/x/y", "v2.0.0"),
        Locked("host.test/xy", "v3.0.0"),
    ]
    asked = ("host.test/x/cmd@latest", "host.test/x/y/cmd@main", "host.test/xy@v3", "host.test/z@latest")
    assert go.again(asked, packages) == (
        "host.test/x/cmd@v1.0.0",
        "host.test/x/y/cmd@v2.0.0",
        "host.test/xy@v3.0.0",
        "host.test/z@latest",
    )
