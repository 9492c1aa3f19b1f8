"""Environments by file and by name."""

from pathlib import Path

import pytest

from sandbox import environments
from sandbox.errors import HostError, InputError

TEXT = "name: tools\nnetworking: {type: limited, allow_package_managers: true}\npackages: {apt: [jq]}\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    place = tmp_path / "tools.yaml"
    place.write_text(TEXT)
    return place


def test_a_file_is_read(file: Path, tmp_path: Path) -> None:
    assert environments.find(str(file), str(tmp_path)).packages.apt == ("jq",)


def test_a_kept_environment_is_found_by_its_name_and_is_a_copy(file: Path, tmp_path: Path) -> None:
    data = str(tmp_path / "data")
    environments.keep(data, "tools", str(file))
    file.write_text("name: other\n")
    assert environments.names(data) == ["tools"]
    assert environments.find("tools", data).packages.apt == ("jq",)


def test_an_unknown_name_lists_those_that_are_known(file: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        environments.find("nothing", str(tmp_path))
    assert "env build" in caught.value.hint
    environments.keep(str(tmp_path), "tools", str(file))
    with pytest.raises(InputError) as caught:
        environments.find("nothing", str(tmp_path))
    assert "tools" in caught.value.hint


@pytest.mark.parametrize("name", ["", "a/b", "..", ".hidden", "a b", "a\n", "ä"])
def test_a_name_that_could_be_a_path_is_refused(name: str, file: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError):
        environments.keep(str(tmp_path), name, str(file))
    assert environments.names(str(tmp_path)) == []


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone\.yaml"):
        environments.find(str(tmp_path / "gone.yaml"), str(tmp_path))


def test_a_self_hosted_environment_has_nothing_to_run_here(tmp_path: Path) -> None:
    place = tmp_path / "own.yaml"
    place.write_text("name: own\nconfig: {type: self_hosted}\n")
    with pytest.raises(InputError, match="self_hosted"):
        environments.find(str(place), str(tmp_path))


def test_a_place_that_cannot_be_written_is_told(file: Path, tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file")
    with pytest.raises(HostError, match="tools"):
        environments.keep(str(tmp_path / "data"), "tools", str(file))
