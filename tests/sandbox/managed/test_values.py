"""What bodies have in common."""

from __future__ import annotations

import pytest
from pydantic import Field

from sandbox.managed.failures import Refused
from sandbox.managed.values import Metadata, Strict, read


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
