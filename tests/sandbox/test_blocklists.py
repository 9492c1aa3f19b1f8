"""Which blocklists are read, and what happens where one can't be."""

from __future__ import annotations

from pathlib import Path

import pytest

from netpolicy.errors import InputError as ListMistake
from sandbox.blocklists import default_path, read
from sandbox.errors import InputError


def test_the_users_own_file_counts_without_being_named(tmp_path: Path) -> None:
    own = tmp_path / "sandboxsh" / "blocklist"
    environment = {"XDG_CONFIG_HOME": str(tmp_path)}
    assert read([], environment) == ()
    own.parent.mkdir()
    own.write_text("own.test\n")
    named = tmp_path / "named"
    named.write_text("192.0.2.0/24\n")
    origins = [block.origin for block in read([str(named)], environment)]
    assert origins == [f"blocklist: {own}:1", f"blocklist: {named}:1"]


def test_it_is_looked_for_in_the_home_directory() -> None:
    assert default_path({"HOME": "/home/a"}) == "/home/a/.config/sandboxsh/blocklist"
    assert default_path({"HOME": "/home/a", "XDG_CONFIG_HOME": "/c"}) == "/c/sandboxsh/blocklist"
    assert default_path({}) == ""


@pytest.mark.parametrize("content", [None, b"\xff\xfe", b"#" * (8 * 1024 * 1024 + 1)])
def test_a_list_that_can_not_be_read_is_never_left_out(content: bytes | None, tmp_path: Path) -> None:
    named = tmp_path / "named"
    if content is not None:
        named.write_bytes(content)
    with pytest.raises(InputError, match=str(named)):
        read([str(named)], {})
    own = tmp_path / "sandboxsh" / "blocklist"
    own.parent.mkdir()
    own.symlink_to(named)
    with pytest.raises(InputError, match=str(own)):
        read([], {"XDG_CONFIG_HOME": str(tmp_path)})


def test_a_wrong_line_is_named(tmp_path: Path) -> None:
    named = tmp_path / "named"
    named.write_text("a.test\nb/c\n")
    with pytest.raises(ListMistake, match=f"{named}:2"):
        read([str(named)], {})
