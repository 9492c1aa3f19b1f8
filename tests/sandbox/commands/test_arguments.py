"""The options of sandboxsh become values, or one clear error."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.commands import arguments
from sandbox.commands.arguments import parse
from sandbox.errors import InputError
from sandbox.spec import HostMount


def test_options_are_sorted_by_kind() -> None:
    options = parse(
        [
            "--net",
            "none",
            "--allow=a.test",
            "--allow",
            "b.test",
            "-q",
            "--json",
            "--pip",
            "x",
            "--",
            "ls",
            "-l",
        ]
    )
    assert options.value("net") == "none"
    assert options.value("env") is None
    assert options.all("allow") == ("a.test", "b.test")
    assert options.all("pip") == ("x",)
    assert options.all("npm") == ()
    assert options.flags == {"quiet", "json"}
    assert options.command == ("ls", "-l")


@pytest.mark.parametrize(
    ("given", "command"),
    [
        ([], ()),
        (["--"], ()),
        (["ls", "--net", "none"], ("ls", "--net", "none")),
        (["-v", "ls", "--", "x"], ("ls", "--", "x")),
        (["--", "--", "x"], ("--", "x")),
    ],
)
def test_the_first_word_that_is_no_option_begins_the_command(
    given: list[str], command: tuple[str, ...]
) -> None:
    assert parse(given).command == command


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["--nope"], "--nope"),
        (["--env"], "--env"),
        (["-x"], "-x"),
        (["--json=yes"], "--json"),
        (["--net", "some"], "none, limited, unrestricted"),
        (["--ids", "many"], "range, single"),
        (["--env", "a", "--env", "b"], "twice"),
    ],
)
def test_a_wrong_option_is_named(given: list[str], told: str) -> None:
    with pytest.raises(InputError, match=told):
        parse(given)


def test_every_option_is_in_the_help() -> None:
    for name in (*arguments._FLAGS, *arguments._VALUES, *arguments._LISTS):
        assert f"--{name}" in arguments.HELP


def test_a_mount_is_read_only_unless_it_says_otherwise(tmp_path: Path) -> None:
    place = str(tmp_path)
    assert arguments.host_mount(f"{place}:/data") == HostMount(place, "/data", False)
    assert arguments.host_mount(f"{place}:/data:ro") == HostMount(place, "/data", False)
    assert arguments.host_mount(f"{place}:/data:rw") == HostMount(place, "/data", True)


def test_a_source_may_have_colons(tmp_path: Path) -> None:
    odd = tmp_path / "a:b"
    odd.mkdir()
    assert arguments.host_mount(f"{odd}:/data").source == str(odd)
    assert arguments.host_mount(f"{odd}:/data:rw") == HostMount(str(odd), "/data", True)


@pytest.mark.parametrize(
    "target", ["data", "../x", "/a/../b", "/", "//", "/.", "/proc", "/proc/sys", "/sys", "/dev/x", "/dev"]
)
def test_a_place_that_escapes_or_is_the_sessions_own_is_refused(tmp_path: Path, target: str) -> None:
    with pytest.raises(InputError):
        arguments.host_mount(f"{tmp_path}:{target}")
    assert arguments.host_mount(f"{tmp_path}:/devices").target == "/devices"


def test_a_source_that_is_missing_is_named(tmp_path: Path) -> None:
    for read in (arguments.host_mount, arguments.file_copy):
        with pytest.raises(InputError, match="gone"):
            read(f"{tmp_path}/gone:/x")


def test_a_file_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("x")
    assert arguments.file_copy(f"{tmp_path}/f:/x") == (f"{tmp_path}/f", "/x")
    with pytest.raises(InputError, match="not a file"):
        arguments.file_copy(f"{tmp_path}:/x")


def test_a_directory_is_a_directory(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("x")
    assert arguments.directory("--workspace", str(tmp_path)) == str(tmp_path)
    with pytest.raises(InputError, match="--workspace"):
        arguments.directory("--workspace", str(tmp_path / "f"))


@pytest.mark.parametrize(
    ("text", "value"),
    [("90", 90.0), ("0.5", 0.5), ("90s", 90.0), ("5m", 300.0), ("1h", 3600.0), ("1.5m", 90.0)],
)
def test_times(text: str, value: float) -> None:
    assert arguments.seconds(text) == value


@pytest.mark.parametrize("text", ["", "s", "0", "-1", "nan", "inf", "1d", "five", "1e99", "0s"])
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(InputError):
        arguments.seconds(text)


@given(st.text(max_size=12))
def test_a_time_is_a_number_or_an_error(text: str) -> None:
    try:
        assert 0 < arguments.seconds(text) < 1e9
    except InputError:
        pass


def test_variables_are_set_and_passed_on() -> None:
    host = {"HOME": "/home/ann", "TOKEN": "t=1"}
    assert arguments.variables(("A=b=c", "E="), ("TOKEN", "UNSET"), host) == {
        "A": "b=c",
        "E": "",
        "TOKEN": "t=1",
    }


@pytest.mark.parametrize(("setenv", "pass_env"), [(("A",), ()), (("=b",), ()), ((), ("A=b",)), ((), ("",))])
def test_what_is_no_variable(setenv: tuple[str, ...], pass_env: tuple[str, ...]) -> None:
    with pytest.raises(InputError):
        arguments.variables(setenv, pass_env, {})


def test_files_are_read_by_their_place(tmp_path: Path) -> None:
    source = tmp_path / "gemrc"
    source.write_bytes(b":sources: []\n")
    assert arguments.file_copies([f"{source}:/etc/gemrc"]) == {"/etc/gemrc": b":sources: []\n"}
    with pytest.raises(InputError, match="does not exist"):
        arguments.file_copies([f"{tmp_path}/none:/etc/gemrc"])
