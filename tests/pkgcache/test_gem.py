from __future__ import annotations

import pytest

from pkgcache.errors import InputError
from pkgcache.managers import gem
from pkgcache.recipe import SEAL
from pkgcache.records import Locked


@pytest.mark.parametrize(
    "text, canonical",
    [
        ("rails", "rails"),
        ("rails:7.1.0", "rails:7.1.0"),
        ("rails:~> 7.1", "rails:~>7.1"),
        ("a:< 3,>= 2", "a:<3,>=2"),
        ("a:>=2, <3", "a:<3,>=2"),
        ("a.b-c_d:1.0.0.pre1", "a.b-c_d:1.0.0.pre1"),
    ],
)
def test_specs_as_gem_writes_them(text: str, canonical: str) -> None:
    assert gem.parse(text).text == canonical


@pytest.mark.parametrize(
    "text", [".a", "a:", "a:,", "a:latest", "a:1 2", "a b", "a/b", "a.gem", "a:1;id", "a@1"]
)
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises(InputError):
        gem.parse(text)


def test_extensions_are_compiled_without_writing_to_the_kept_downloads() -> None:
    download, install = gem.recipe(("rails:7.1.0",), "base-1")
    assert [cache.writable for cache in (*download.caches, *install.caches)] == [True, False]
    assert download.apart and not install.apart
    assert download.caches[0].name == install.caches[0].name
    assert download.arguments == ("rails:7.1.0",)
    fetch, _, after = download.script.partition(SEAL)
    assert "--local" in install.script and "--local" not in fetch and after.endswith(install.script)


@pytest.mark.parametrize(
    "line, package, why",
    [
        ("gem: a-b: Unable to resolve dependency: user requested 'a-b (>= 0)'", "a-b", "no source has"),
        ("gem: a: Could not find a valid gem 'a' (= 9) in any repository", "a", "no source has"),
        ("gem: a: a requires Ruby version >= 9. The current ruby version is 3.3.13.", "a", "another Ruby"),
        ("gem: a: bad response Internal Server Error 500 (https://gems.test/info/a)", "a", "fetched"),
        (
            "ERROR:  Error installing /var/cache/gem/archives/0a/a-b_c-1.0.0-x86_64-linux.gem:",
            "a-b_c",
            "extension",
        ),
        ("ERROR:  Error installing /var/cache/gem/archives/0a/a-2-3.0.gem:", "a", "extension"),
        (
            "sandbox: a:~>1: its servers can't be reached, and nothing of it is kept",
            "a:~>1",
            "can't be reached",
        ),
    ],
)
def test_the_package_at_fault_is_read_from_the_log(line: str, package: str, why: str) -> None:
    told = gem.explain(["fetching a-1.0", line])
    assert told is not None and told[0] == package and why in told[1]


def test_a_log_that_tells_nothing_blames_nobody() -> None:
    assert gem.explain(["fetching a-1.0", "ERROR:  While executing gem"]) is None


def test_a_lock_pins_every_gem_that_is_there_once() -> None:
    packages = [Locked("a", "1.2"), Locked("b", "1"), Locked("b", "2"), Locked("c", "3.0.pre1")]
    assert gem.again(("a:~>1", "b"), packages) == ("a:1.2", "c:3.0.pre1", "b")
