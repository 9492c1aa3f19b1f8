"""What is written down of a container is the same when it is read."""

import pytest

from netpolicy.policy import ConnectTo, compile_policy
from sandbox.containers.record import from_text, to_text
from sandbox.containers.spec import Attachment, ContainerSpec, Repository
from sandbox.spec import HostMount, RootFs

SPEC = ContainerSpec(
    RootFs("/base", ("/one", "/two\udcff")),
    compile_policy(
        "limited",
        ["example.com", "*.example.org"],
        connect_to=[ConnectTo("a.example", None, "127.0.0.1", 80)],
    ),
    (("A", "b"),),
    held=("/one",),
    mounts=(HostMount("/a", "/b", True),),
    repositories=(Repository("r", "/workspace/r"),),
)


def test_a_specification_survives() -> None:
    assert from_text(to_text(SPEC)) == SPEC


def test_a_list_of_attachments_survives() -> None:
    attached = (Attachment("a", "/x"), Attachment("b", "/y"))
    assert from_text(to_text(attached)) == attached
    assert from_text(to_text(())) == ()


def test_a_field_that_came_later_has_its_default() -> None:
    text = to_text(SPEC).replace(',"repositories":[{"":"Repository","name":"r","target":"/workspace/r"}]', "")
    assert from_text(text) == SPEC._replace(repositories=())


@pytest.mark.parametrize("text", ["", "{", '{"a":1}', '{"":"Path"}', '{"":"RootFs","nosuch":1}'])
def test_what_is_no_record_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        from_text(text)


def test_what_cannot_be_kept_is_refused() -> None:
    with pytest.raises(TypeError):
        to_text(SPEC._replace(environment=(("A", b"bytes"),)))  # type: ignore[arg-type]
