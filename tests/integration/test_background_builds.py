"""Packages of environments that are made over the API: built in the background, waited for by sessions."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import pytest

from sandbox.emulator.embedded import Emulator
from tests.capabilities import need
from tests.emulator.talking import a_session, message, results, said

# The base is made first where there is none yet.
pytestmark = pytest.mark.timeout(900)
# No registry has a package of this name, which it is too long for.
NOBODY = "sandboxsh-nobody-has-this-" + "x" * 60


@pytest.fixture(scope="module")
def client(data_dir: Path) -> Iterator[anthropic.Anthropic]:
    need("user-namespaces", "overlay", "registries", "mmdebstrap")
    with (
        Emulator(str(data_dir)) as emulator,
        anthropic.Anthropic(base_url=emulator.base_url, api_key="k", max_retries=0) as made,
    ):
        yield made


def build_of(client: anthropic.Anthropic, identifier: str) -> Any:
    return client.get(f"/sandbox/environments/{identifier}/build", cast_to=object)


def test_a_session_waits_for_its_packages_and_has_them(client: anthropic.Anthropic) -> None:
    made = client.beta.environments.create(
        name="six", extra_body={"config": {"type": "cloud", "packages": {"pip": ["six"]}}}
    )
    session = a_session(client, environment_id=made.id)
    found = said(client, session, message("python3 -c 'import six; print(six.__name__)'"))
    assert results(found) == [("six", False)]
    assert build_of(client, made.id)["state"] == "ready"


def test_a_package_that_is_not_there_is_named_with_the_log_s_last_lines(client: anthropic.Anthropic) -> None:
    made = client.beta.environments.create(
        name="nobody", extra_body={"config": {"type": "cloud", "packages": {"pip": [NOBODY]}}}
    )
    session = a_session(client, environment_id=made.id)
    events = said(client, session, message("true"))
    (error,) = [event.error.message for event in events if event.type == "session.error"]
    assert "nobody" in error and "pip" in error and NOBODY in error
    build = build_of(client, made.id)
    assert build["state"] == "failed"
    assert (build["problem"]["manager"], build["problem"]["package"]) == ("pip", NOBODY)
    assert build["problem"]["lines"]
    assert Path(build["problem"]["log"]).exists()
