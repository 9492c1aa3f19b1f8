"""Where the commands keep things."""

import os
from pathlib import Path

import click
import pytest

from sandbox.commands import place
from sandbox.errors import HostError, InputError


def context(data: Path) -> click.Context:
    return click.Context(click.Command("x"), obj=lambda: place.find(str(data), "single"))


def test_the_place_is_made_when_something_is_to_be_kept(empty_data_dir: Path) -> None:
    wanted = empty_data_dir / "new" / "data"
    found = place.prepared(context(wanted))
    assert (found.data, found.ids.mode) == (str(wanted), "single")
    assert wanted.is_dir()


def test_looking_makes_nothing(empty_data_dir: Path) -> None:
    assert place.find(str(empty_data_dir / "new"), "single").data == str(empty_data_dir / "new")
    assert os.listdir(empty_data_dir) == []


def test_a_file_in_the_way_is_told(empty_data_dir: Path) -> None:
    (empty_data_dir / "data").write_text("")
    with pytest.raises((HostError, InputError), match="data"):
        place.prepared(context(empty_data_dir / "data"))
