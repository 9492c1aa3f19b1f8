"""What would allow what was refused: an option to whoever has options, else a field of the environment."""

from __future__ import annotations

import pytest

from netpolicy.advice import Terms
from netpolicy.credentials import judge, repository
from netpolicy.policy import Policy, Request, compile_policy, decide, judge_address

ENVIRONMENT = Terms("environment")


def policy(mode: str, terms: Terms, *hosts: str) -> Policy:
    return compile_policy(mode, hosts, terms=terms)  # type: ignore[arg-type]


@pytest.mark.parametrize("terms", [Terms(), ENVIRONMENT])
def test_the_same_is_decided_whoever_is_told(terms: Terms) -> None:
    ours = policy("limited", terms, "a.test")
    assert decide(ours, Request("tls", "a.test", 443)).allow
    denied = decide(ours, Request("tls", "b.test", 443))
    assert (denied.allow, denied.entry) == (False, "b.test")
    assert decide(policy("limited", terms, denied.entry), Request("tls", "b.test", 443)).allow


@pytest.mark.parametrize(
    ("request_", "entry"),
    [
        (Request("tls", "b.test", 443), "b.test"),
        (Request("http", "b.test", 80), "b.test:80"),
        (Request("tcp", "a.test", 5432), "a.test:5432"),
        (Request("tls", "wild.test", 443), "wild.test"),
    ],
)
def test_an_environment_s_user_is_told_what_to_add_to_it(request_: Request, entry: str) -> None:
    hint = decide(policy("limited", ENVIRONMENT, "a.test", "*.wild.test"), request_).hint
    assert f'add "{entry}" to networking.allowed_hosts of the environment' in hint
    assert "new session" in hint
    assert "--" not in hint


def test_switches_are_named_that_are_not_set_and_no_others() -> None:
    request = Request("tls", "b.test", 443)
    for unset in ((), ("allow_package_managers",), ("allow_package_managers", "allow_mcp_servers")):
        hint = decide(policy("limited", Terms("environment", unset)), request).hint
        named = {field for field in ("allow_package_managers", "allow_mcp_servers") if field in hint}
        assert named == set(unset)


def test_what_no_environment_can_open_is_told_as_such() -> None:
    ours = judge_address(policy("unrestricted", ENVIRONMENT), "10.1.2.3")
    options = judge_address(policy("unrestricted", Terms()), "10.1.2.3")
    assert ours is not None and options is not None
    assert options.hint == "--allow-private 10.1.2.3/32"
    assert ours.hint == f"no environment can; a session of sandboxsh can, with {options.hint}"
    never = judge_address(policy("unrestricted", ENVIRONMENT), "127.0.0.1")
    assert never is not None and never.hint == ""


def test_without_a_network_another_environment_is_what_helps() -> None:
    hint = decide(policy("none", ENVIRONMENT), Request("tls", "b.test", 443)).hint
    assert '"b.test"' in hint and "limited" in hint and "--" not in hint
    assert (
        decide(policy("none", Terms()), Request("tls", "b.test", 443)).hint == "--net limited --allow b.test"
    )
    assert decide(policy("none", Terms()), Request("tls", None, 443)).hint == "--net limited"


def test_what_is_beside_an_attached_repository_is_refused_in_the_same_words() -> None:
    attached = [repository("https://git.test/owner/name")]
    grant = judge(policy("limited", ENVIRONMENT), attached, "git.test", 443, b"GET", b"/other", [])
    assert (grant.verdict.code, grant.verdict.entry) == ("not-attached", "git.test")
    assert "networking.allowed_hosts" in grant.verdict.hint


def test_a_build_is_told_both_for_it_serves_both() -> None:
    hint = decide(policy("limited", Terms("either")), Request("tls", "b.test", 443)).hint
    assert hint == '--allow b.test, or "b.test" in networking.allowed_hosts of the environment'
