from __future__ import annotations

import pytest

from pkgcache.errors import InputError
from pkgcache.managers import npm
from pkgcache.records import Locked


@pytest.mark.parametrize(
    "text, name, canonical",
    [
        ("tsx", "tsx", "tsx"),
        ("express@4.18.0", "express", "express@4.18.0"),
        ("@scope/name@1.2", "@scope/name", "@scope/name@1.2"),
        ("@scope/name", "@scope/name", "@scope/name"),
        ("typescript@latest", "typescript", "typescript@latest"),
        ("a@^1.2  ||  >=3 <4", "a", "a@^1.2 || >=3 <4"),
        ("a@ 1.x", "a", "a@1.x"),
        ("a@*", "a", "a@*"),
        ("JSONStream", "JSONStream", "JSONStream"),
        ("a@1.0.0-rc.1+build", "a", "a@1.0.0-rc.1+build"),
    ],
)
def test_specs_as_npm_writes_them(text: str, name: str, canonical: str) -> None:
    spec = npm.parse(text)
    assert (spec.name, spec.text) == (name, canonical)


@pytest.mark.parametrize(
    "text",
    ["@scope", "@/name", "@scope/", "@scope/a/b", "user/repo", "github:user/repo", "a@user/repo", "a@github:u/r",
     "a@npm:b", "a@file:../x", "a@https://evil.test/x.tgz", "a@", "a@ ", "a.tgz", "a@b.tgz", "a@x.TAR.GZ", "a.tar",
     ".hidden", "_ a", "~", "~x", "a@./x", "a@.x", "a@~/x", "a b", "a@1;id", "a@-x", "a" * 215],
)  # fmt: skip
def test_what_npm_would_take_for_something_else_is_refused(text: str) -> None:
    with pytest.raises(InputError):
        npm.parse(text)


def test_the_code_of_packages_runs_without_the_kept_downloads() -> None:
    install, scripts = npm.recipe(("tsx",), "base-1")
    assert "--ignore-scripts" in install.script and install.caches
    assert "rebuild" in scripts.script and not scripts.caches
    assert install.kept and scripts.kept
    assert scripts.asked and not install.asked
    assert install.apart and not scripts.apart


@pytest.mark.parametrize(
    "line, package",
    [
        ("npm ERR! notarget No matching version found for tsx@99.", "tsx"),
        ("npm error notarget No matching version found for @a/b@99.", "@a/b"),
        ("npm ERR! 404  'no-such@*' is not in this registry.", "no-such"),
        ("npm error 404  '@a/no-such@*' is not in this registry.", "@a/no-such"),
        ("npm ERR! path /usr/local/lib/node_modules/bcrypt", "bcrypt"),
        ("npm error path /usr/local/lib/node_modules/a/node_modules/@b/c", "@b/c"),
    ],
)
def test_the_package_at_fault_is_read_from_the_log(line: str, package: str) -> None:
    told = npm.explain(["npm http fetch GET 404", line])
    assert told is not None and told[0] == package and told[1]


def test_a_log_that_tells_nothing_blames_nobody() -> None:
    assert npm.explain(["npm ERR! network"]) is None


def test_what_was_asked_for_is_pinned_unless_its_version_is_not_plain() -> None:
    packages = (Locked("@a/b", "1.2.3"), Locked("c", "1.0.0"), Locked("c", "2.0.0"), Locked("d", "4.0.0"))
    assert npm.again(("@a/b@^1", "c"), packages) == ("@a/b@1.2.3", "c")
