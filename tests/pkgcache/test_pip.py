from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pkgcache.errors import InputError
from pkgcache.managers import pip
from pkgcache.records import Locked


@pytest.mark.parametrize(
    "text, name, canonical",
    [
        ("six", "six", "six"),
        ("pandas==2.2.0", "pandas", "pandas==2.2.0"),
        ("uvicorn[standard]>=0.30", "uvicorn", "uvicorn[standard]>=0.30"),
        ("Foo.Bar_baz", "foo-bar-baz", "foo-bar-baz"),
        ("a[Y,x_z , y] >= 1 , < 2", "a", "a[x-z,y]<2,>=1"),
        ("a<2,>=1", "a", "a<2,>=1"),
        ("a ~= 1.4.2", "a", "a~=1.4.2"),
        ("a==1.*", "a", "a==1.*"),
        ("a(>=1)", "a", "a>=1"),
        ("a===1.0", "a", "a===1.0"),
        ("a==1!2.0.post1+local", "a", "a==1!2.0.post1+local"),
    ],
)
def test_specs_as_pip_writes_them(text: str, name: str, canonical: str) -> None:
    spec = pip.parse(text)
    assert (spec.name, spec.text) == (name, canonical)


@pytest.mark.parametrize(
    "text",
    ["a==", "a=1", "==1", "a b", "a@1", "a @ https://evil.test/a.whl", "a; python_version>'3'", "a[", "a[x", "a>file",
     "a==1==2", "a==not-a-version", ".", "a/b", "_a", "a-", "a_", "1_", "a[x_]"],
)  # fmt: skip
def test_what_is_no_requirement_is_refused(text: str) -> None:
    with pytest.raises(InputError):
        pip.parse(text)


@given(st.from_regex(pip._PLAIN, fullmatch=True).filter(str.isascii))
def test_the_short_way_reads_what_the_whole_grammar_reads(text: str) -> None:
    assert pip.parse(text) == pip._parse_any(text)


@given(
    st.permutations(["a", "b-c", "d"]),
    st.permutations([">=1", "<3", "!=2.0"]),
    st.sampled_from(["", " ", "  "]),
)
def test_order_and_spacing_make_no_difference(extras: list[str], versions: list[str], space: str) -> None:
    text = f"Name{space}[{(',' + space).join(extras)}]{space}{(',' + space).join(versions)}"
    assert pip.parse(text) == pip.parse("name[a,b-c,d]!=2.0,<3,>=1")


def test_an_archive_in_the_working_directory_can_not_be_named() -> None:
    assert pip.parse("a.zip").text == "a-zip"


@pytest.mark.parametrize(
    "line, package",
    [
        ("ERROR: Could not find a version that satisfies the requirement nope (from versions: none)", "nope"),
        ("ERROR: No matching distribution found for pytest==99", "pytest"),
        ("ERROR: Failed building wheel for uwsgi", "uwsgi"),
        (
            "ERROR: Cannot install a==1 and b==2 because these package versions have conflicting dependencies.",
            "a",
        ),
    ],
)
def test_the_package_at_fault_is_read_from_the_log(line: str, package: str) -> None:
    told = pip.explain(["Collecting x", line])
    assert told is not None and told[0] == package and told[1]


def test_a_log_that_tells_nothing_blames_nobody() -> None:
    assert pip.explain(["WARNING: Retrying"]) is None


def test_what_pip_installs_becomes_part_of_the_layer() -> None:
    assert [phase.kept for phase in pip.recipe(("six",), "base-1")] == [True]


def test_all_locked_packages_are_pinned_and_extras_kept() -> None:
    packages = (Locked("uvicorn", "0.30.1"), Locked("h11", "0.14.0"))
    assert pip.again(("uvicorn[standard]>=0.30",), packages) == (
        "uvicorn[standard]>=0.30",
        "uvicorn==0.30.1",
        "h11==0.14.0",
    )
