"""Environments by file, by name and by id."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox import environments
from sandbox.errors import HostError, InputError
from sandbox.managed import environments as managed
from sandbox.managed.database import Database

TEXT = "name: tools\nnetworking: {type: limited, allow_package_managers: true}\npackages: {apt: [jq]}\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    place = tmp_path / "tools.yaml"
    place.write_text(TEXT)
    return place


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    (tmp_path / "managed").mkdir()
    opened = Database(environments.records(str(tmp_path)))
    yield opened
    opened.close()


def keep(database: Database, file: Path) -> str:
    made = managed.put(database, managed.from_file(environments.read_file(str(file))))
    return str(made["id"])


def test_a_file_is_read(file: Path, tmp_path: Path) -> None:
    assert environments.find(str(file), str(tmp_path)).packages.apt == ("jq",)


def test_a_kept_environment_is_found_by_its_name_and_its_id_and_is_a_copy(
    file: Path, tmp_path: Path, database: Database
) -> None:
    identifier = keep(database, file)
    expected = environments.read_file(str(file))
    file.write_text("name: other\n")
    assert environments.names(str(tmp_path)) == ["tools"]
    for given in ("tools", identifier):
        found = environments.find(given, str(tmp_path))
        assert (found.networking, found.packages) == (expected.networking, expected.packages)
    database.close()
    assert environments.find("tools", str(tmp_path)).packages.apt == ("jq",)


def test_an_unknown_name_lists_those_that_are_known(file: Path, tmp_path: Path, database: Database) -> None:
    for data in (tmp_path, tmp_path / "nothing"):
        with pytest.raises(InputError) as caught:
            environments.find("nothing", str(data))
        assert "env create" in caught.value.hint
    keep(database, file)
    with pytest.raises(InputError) as caught:
        environments.find("nothing", str(tmp_path))
    assert "tools" in caught.value.hint


def test_an_archived_environment_is_used_no_more_and_its_name_is_free(
    file: Path, tmp_path: Path, database: Database
) -> None:
    identifier = keep(database, file)
    managed.archive(database, identifier)
    assert environments.names(str(tmp_path)) == []
    with pytest.raises(InputError, match="archived"):
        environments.find(identifier, str(tmp_path))
    with pytest.raises(InputError, match="no environment 'tools'"):
        environments.find("tools", str(tmp_path))
    assert keep(database, file) != identifier
    assert environments.find("tools", str(tmp_path)).packages.apt == ("jq",)


def test_a_record_that_is_not_understood_is_refused(file: Path, tmp_path: Path, database: Database) -> None:
    document = managed.get(database, keep(database, file))
    document["config"]["networking"]["type"] = "limitless"
    database.replace("environments", document)
    with pytest.raises(InputError, match=r"networking\.type"):
        environments.find("tools", str(tmp_path))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone\.yaml"):
        environments.find(str(tmp_path / "gone.yaml"), str(tmp_path))


def test_a_self_hosted_environment_has_nothing_to_run_here(tmp_path: Path) -> None:
    place = tmp_path / "own.yaml"
    place.write_text("name: own\nconfig: {type: self_hosted}\n")
    with pytest.raises(InputError, match="self_hosted"):
        environments.find(str(place), str(tmp_path))


def test_records_that_cannot_be_read_are_told(tmp_path: Path) -> None:
    (tmp_path / "managed").mkdir()
    (tmp_path / "managed/state.db").write_text("no database at all, but long enough to be looked at" * 20)
    with pytest.raises(HostError, match=r"state\.db"):
        environments.find("tools", str(tmp_path))
