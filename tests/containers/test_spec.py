"""What may name a container."""

import pytest

from sandbox.containers.spec import is_name


@pytest.mark.parametrize("name", ["a", "sesn_01AbC", "0-x", "x" * 128])
def test_names(name: str) -> None:
    assert is_name(name)


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "-a", "_a", "a\n", "a\0", "ä", "x" * 129, ".new-1"])
def test_what_would_be_another_file_is_no_name(name: str) -> None:
    assert not is_name(name)
