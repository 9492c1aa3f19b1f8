"""What bodies have in common."""

from __future__ import annotations

import pytest
from pydantic import Field

from sandbox.managed.client_events import SendEvents
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


@pytest.mark.parametrize(
    ("events", "told"),
    [
        ([{"type": "nope"}], "events.0.type: 'nope' is none of 'user.message', "),
        ([{}], "events.0.type: is required"),
        ([3], "events.0: "),
        ([{"type": "user.message", "content": "text"}], "events.0.content: Input should be a valid list"),
        ([{"type": "user.message", "content": [{"type": "text"}]}], "events.0.content.0.text: is required"),
        (
            [{"type": "user.message", "content": [{"type": "image", "source": {}}]}],
            "events.0.content.0.source.type: is required",
        ),
    ],
)
def test_a_field_is_named_as_its_author_wrote_it(events: object, told: str) -> None:
    with pytest.raises(Refused) as caught:
        read(SendEvents, {"events": events, "body": 1})
    mistakes = str(caught.value).split("; ")
    assert mistakes[0].startswith(told)
    assert mistakes[1:] == ["body: unknown or unsupported field"]
