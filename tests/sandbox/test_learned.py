"""What a session reached, as the environment that would have sufficed."""

from __future__ import annotations

from typing import Any

import pytest

from netpolicy.policy import Request, decide
from sandbox.environment import known_checks, read
from sandbox.learned import entries, fragment
from sandbox.networks import Access, combine, make_policy

LEARNING = Access(allowed_hosts=("known.test", "*.wild.test"), learning=True)


def reached(protocol: str, host: str, port: int) -> dict[str, Any]:
    return {"protocol": protocol, "host": host, "port": port, "count": 1}


REACHED = [
    reached("tls", "known.test", 443),
    reached("tls", "a.wild.test", 443),
    reached("tls", "b.test", 443),
    reached("tls", "a.b.test", 443),
    reached("http", "b.test", 80),
    reached("tcp", "db.test", 5432),
    reached("tls", "b.test", 443),
    reached("tcp", "names.test", 53),
]


def test_only_what_was_not_allowed_before_is_learned_once_and_in_the_form_of_an_entry() -> None:
    assert entries(make_policy(LEARNING), REACHED) == ["b.test", "b.test:80", "a.b.test", "db.test:5432"]


@pytest.mark.parametrize("managers", [False, True])
def test_the_fragment_is_an_environment_that_allows_what_was_reached(managers: bool) -> None:
    access = LEARNING._replace(allow_package_managers=managers)
    text = fragment(make_policy(access), access, {"allowed": REACHED, "omitted": {}})
    found = read(text, known_checks(), source="learned")
    assert found.networking.allowed_hosts[:2] == ("known.test", "*.wild.test")
    assert found.networking.allow_package_managers is managers
    policy = make_policy(combine(found.networking))
    for each in REACHED[:-1]:
        assert decide(policy, Request(each["protocol"], each["host"], each["port"])).allow
    assert not decide(policy, Request("tls", "c.test", 443)).allow


def test_a_session_that_reached_nothing_needs_nothing() -> None:
    text = fragment(make_policy(Access(learning=True)), Access(), {"allowed": [], "omitted": {"allowed": 3}})
    assert read(text, known_checks(), source="learned").networking.allowed_hosts == ()
    assert "3 further connections" in text
