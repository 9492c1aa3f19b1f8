"""What patches make of metadata."""

import pytest

from sandbox.managed.failures import Refused
from sandbox.managed.metadata import merge


def test_a_patch_deletes_with_null_and_with_nothing() -> None:
    assert merge({"a": "1", "b": "2", "c": "3"}, {"a": None, "b": "", "d": "4"}) == {"c": "3", "d": "4"}
    full = {str(number): "x" for number in range(16)}
    assert len(merge(full, {"0": None, "new": "y"})) == 16
    with pytest.raises(Refused, match="17 pairs"):
        merge(full, {"new": "y"})
