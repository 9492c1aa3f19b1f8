"""What bodies have in common."""

from __future__ import annotations

import pytest
from pydantic import Field

from sandbox.managed.failures import Refused
from sandbox.managed.values import Metadata, Strict, merge, read


class Body(Strict):
    name: str
    count: int = 0
    metadata: Metadata = Field(default_factory=dict)


def test_a_body_is_read_strictly_and_all_its_mistakes_are_told() -> None:
    assert read(Body, {"name": "a"}) == Body(name="a")
    with pytest.raises(Refused) as caught:
        read(Body, {"count": "1", "colour": 1, "metadata": {"": "x"}}, source="FILE")
    told = str(caught.value)
    assert told.startswith("FILE: ")
    for word in ("name: is required", "count: ", "colour: unknown or unsupported field", "metadata"):
        assert word in told
    assert caught.value.status == 400


def test_a_patch_deletes_with_null_and_with_nothing() -> None:
    assert merge({"a": "1", "b": "2", "c": "3"}, {"a": None, "b": "", "d": "4"}) == {"c": "3", "d": "4"}
    full = {str(number): "x" for number in range(16)}
    assert len(merge(full, {"0": None, "new": "y"})) == 16
    with pytest.raises(Refused, match="17 pairs"):
        merge(full, {"new": "y"})
