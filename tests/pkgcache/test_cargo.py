from __future__ import annotations

import pytest

from pkgcache.errors import InputError
from pkgcache.managers import cargo
from pkgcache.recipe import SEAL
from pkgcache.records import Locked


@pytest.mark.parametrize(
    "text",
    ["ripgrep", "ripgrep@14.1.1", "cargo-edit@^0.12", "a_b@~1.2", "a@=1.0.0-rc.1", "a@>=1", "a@1.2.3+b"],
)
def test_specs_as_cargo_writes_them(text: str) -> None:
    assert cargo.parse(text).text == text


def test_dash_and_underscore_name_one_crate() -> None:
    assert cargo.parse("A_b").name == cargo.parse("a-b").name == "a-b"


@pytest.mark.parametrize(
    "text, canonical",
    [
        ("a@14", "a@~14"),
        ("a@14.1", "a@~14.1"),
        ("a@14.1.1", "a@14.1.1"),
        ("a@ ^1.2", "a@^1.2"),
        ("a@<3, >= 1", "a@<3,>=1"),
    ],
)
def test_a_number_that_is_not_whole_means_the_newest_of_its_kind(text: str, canonical: str) -> None:
    assert cargo.parse(text).text == canonical


@pytest.mark.parametrize(
    "text",
    [
        "a@1,",
        "a@>=1,2",
        "a@>=1;id",
        "1a",
        "a@",
        "a@latest",
        "a@1.2.3.4",
        "a@01",
        "a@1 2",
        "a b",
        "a/b",
        "a" * 65,
        "a==1",
    ],
)
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises(InputError):
        cargo.parse(text)


def test_build_scripts_run_without_writing_to_the_kept_downloads() -> None:
    download, install = cargo.recipe(("ripgrep@14.1.1",), "base-1")
    assert [cache.writable for cache in (*download.caches, *install.caches)] == [True, False]
    assert download.apart and not install.apart
    assert download.caches[0].name == install.caches[0].name
    assert download.arguments == ("ripgrep@14.1.1",)
    assert "--offline" in install.script and "RUSTC_WRAPPER" not in install.script
    fetch, _, after = download.script.partition(SEAL)
    assert "RUSTC_WRAPPER" in fetch and after.endswith(install.script)


@pytest.mark.parametrize(
    "line, package, why",
    [
        ("error: could not find `a-b` in registry `x` with version `*`", "a-b", "no such crate"),
        ("error: could not find `a` in registry `x` with version `=9.0.0`", "a", "no such version"),
        ("error: there is nothing to install in `a v1.0.0`, because it has no binaries", "a", "no program"),
        ("error: cannot install package `a 1.2.3`, it requires rustc 1.99 or newer", "a", "newer Rust"),
        ("error: failed to run custom build command for `a-sys v1.0.0`", "a-sys", "build script"),
        ("error: could not compile `a` (lib) due to 1 previous error", "a", "compiling"),
        ("error: binary `x` already exists in destination as part of `a v1.0.0`", "a", "of that name"),
        (
            "sandbox: a@~1: its servers can't be reached, and nothing of it is kept",
            "a@~1",
            "can't be reached",
        ),
    ],
)
def test_the_package_at_fault_is_read_from_the_log(line: str, package: str, why: str) -> None:
    told = cargo.explain(["    Updating index", "warning: spurious network error", line])
    assert told is not None and told[0] == package and why in told[1]


def test_a_log_that_tells_nothing_blames_nobody() -> None:
    assert cargo.explain(["error: something else"]) is None


def test_a_lock_pins_what_was_asked_for() -> None:
    packages = [Locked("a_b", "1.2.0"), Locked("c", "1.0.0"), Locked("c", "2.0.0"), Locked("d", "3.0.0")]
    assert cargo.again(("a-b@~1", "c", "x"), packages) == ("a-b@1.2.0", "c", "x")
