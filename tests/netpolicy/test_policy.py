"""From configuration to rules, and from a request to a verdict."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netpolicy.errors import InputError
from netpolicy.policy import (
    CODE_HOSTS,
    LEARNING,
    ConnectTo,
    Endpoint,
    Opening,
    Policy,
    Request,
    compile_policy,
    decide,
    listening_ports,
    may_be_private,
    opens_address,
    protocol_for,
    render,
    request_for,
    target_for,
)

MIRROR = Endpoint("http", "mirror.test", 80, "apt", "/etc/apt/sources.list")
INDEX = Endpoint("https", "Index.Test", 443, "pip", "built-in default")
PRIVATE = Endpoint("https", "private.test", 8443, "npm", "/root/.npmrc")
LITERAL = Endpoint("http", "203.0.113.9", 3142, "apt", "/etc/apt/sources.list")

LIMITED = compile_policy(
    "limited",
    [
        "a.test",
        "*.wild.test",
        "plain.test:80",
        "both.test",
        "both.test:80",
        "db.test:5432",
        "*.pool.test:5432",
    ],
    [MIRROR, INDEX, PRIVATE, LITERAL],
    True,
    openings=[Opening("mcp.test", "allow_mcp_servers: docs")],
)


@pytest.mark.parametrize(
    ("protocol", "host", "port"),
    [
        ("tls", "a.test", 443),
        ("tls", "x.wild.test", 443),
        ("tls", "y.x.wild.test", 443),
        ("http", "plain.test", 80),
        ("tls", "both.test", 443),
        ("http", "both.test", 80),
        ("tcp", "db.test", 5432),
        ("tls", "db.test", 5432),
        ("http", "db.test", 5432),
        ("tcp", "x.pool.test", 5432),
        ("http", "mirror.test", 80),
        ("tls", "index.test", 443),
        ("tls", "private.test", 8443),
        ("http", "203.0.113.9", 3142),
        ("tls", "mcp.test", 443),
        ("tls", "github.com", 443),
        ("dns", "anything.test", 53),
    ],
)
def test_what_an_entry_opens_is_allowed(protocol: str, host: str, port: int) -> None:
    verdict = decide(LIMITED, Request(protocol, host, port))  # type: ignore[arg-type]
    assert verdict.allow, verdict.reason
    assert verdict.reason


@pytest.mark.parametrize(
    ("protocol", "host", "port", "code", "reason", "hint"),
    [
        ("tls", "d.test", 443, "not-allowed", "not among the allowed hosts", "--allow d.test"),
        ("tls", "x.a.test", 443, "not-allowed", "not among", "--allow x.a.test"),
        ("tls", "wild.test", 443, "not-allowed", r"\*.wild.test covers the names below", "--allow wild.test"),
        ("tls", "evilwild.test", 443, "not-allowed", "not among", "--allow evilwild.test"),
        ("http", "d.test", 80, "not-allowed", "not among", "--allow d.test:80"),
        ("http", "a.test", 80, "plain-http", "allowed for TLS on port 443 only", "--allow a.test:80"),
        ("tls", "plain.test", 443, "port", "allowed for plain HTTP on port 80 only", "--allow plain.test"),
        ("tls", "a.test", 8443, "port", "not for TLS on port 8443", "--allow a.test:8443"),
        ("tcp", "a.test", 5432, "port", "not for TCP on port 5432", "--allow a.test:5432"),
        ("tcp", "private.test", 8443, "port", "not for TCP", "--allow private.test:8443"),
        ("tcp", "pool.test", 5432, "not-allowed", "names below", "--allow pool.test:5432"),
        ("tls", None, 443, "no-name", "names no server", ""),
        ("http", None, 80, "no-name", "names no host", ""),
        ("tcp", None, 5432, "no-name", "stands for no name", ""),
    ],
)
def test_everything_else_is_denied_with_reason_and_the_option_that_would_allow_it(
    protocol: str, host: str | None, port: int, code: str, reason: str, hint: str
) -> None:
    verdict = decide(LIMITED, Request(protocol, host, port))  # type: ignore[arg-type]
    assert not verdict.allow
    assert (verdict.code, verdict.hint, verdict.rule) == (code, hint, None)
    import re

    assert re.search(reason, verdict.reason)


@given(st.sampled_from(["tls", "http", "tcp"]), st.sampled_from([80, 443, 5432, 8443]))
def test_the_option_that_a_denial_names_allows_the_very_same_request(protocol: str, port: int) -> None:
    request = Request(protocol, "new.test", port)  # type: ignore[arg-type]
    if (protocol, port) in (("http", 443), ("tcp", 443), ("tls", 80), ("tcp", 80)):
        return  # those ports speak one protocol alone
    hint = decide(LIMITED, request).hint
    entry = hint.removeprefix("--allow ")
    assert decide(compile_policy("limited", [entry]), request).allow


def test_without_a_network_everything_is_denied_names_included() -> None:
    policy = compile_policy("none", ["a.test"])
    for protocol, port in (("tls", 443), ("http", 80), ("dns", 53)):
        verdict = decide(policy, Request(protocol, "a.test", port))  # type: ignore[arg-type]
        assert not verdict.allow
        assert verdict.code == "no-network"
    assert listening_ports(policy) == ()
    assert render(policy) == ["network: none"]


def test_limited_with_nothing_allows_nothing() -> None:
    policy = compile_policy("limited")
    assert policy == Policy("limited", (), ())
    assert not decide(policy, Request("tls", "a.test", 443)).allow


def test_registries_count_only_when_package_managers_are_allowed() -> None:
    off = compile_policy("limited", [], [MIRROR, INDEX], False)
    assert off.rules == ()
    on = compile_policy("limited", [], [MIRROR, INDEX], True)
    assert [rule.pattern.name for rule in on.rules] == ["mirror.test", "index.test", *CODE_HOSTS]
    assert "apt, /etc/apt/sources.list" in on.rules[0].origin


@pytest.mark.parametrize(
    ("host", "port", "private"),
    [
        ("mirror.test", 80, True),
        ("private.test", 8443, True),
        ("203.0.113.9", 3142, True),
        ("mirror.test", 443, False),
        ("x.mirror.test", 80, False),
        ("index.test", 443, False),
        ("a.test", 443, False),
        ("x.wild.test", 443, False),
        ("mcp.test", 443, False),
        ("github.com", 443, False),
    ],
)
def test_only_what_a_managers_configuration_names_may_be_private(host: str, port: int, private: bool) -> None:
    assert may_be_private(LIMITED, host, port) is private


@pytest.mark.parametrize(
    ("source", "private"),
    [
        ("/etc/pip.conf", True),
        ("environment", True),
        ("built-in default", False),
        ("the index", False),
        ("the registry", False),
        ("", False),
    ],
)
def test_what_another_server_named_is_no_configuration(source: str, private: bool) -> None:
    policy = compile_policy("limited", [], [Endpoint("https", "a.test", 443, "pip", source)], True)
    assert may_be_private(policy, "a.test", 443) is private


def test_a_configured_registry_may_be_private_though_it_is_allowed_otherwise_too() -> None:
    default = INDEX._replace(host="both.test")
    configured = default._replace(source="/etc/pip.conf")
    for endpoints in ([default, configured], [configured, default]):
        policy = compile_policy("limited", ["both.test"], endpoints, True)
        assert len([rule for rule in policy.rules if rule.pattern.name == "both.test"]) == 1
        assert may_be_private(policy, "both.test", 443)
    assert not may_be_private(compile_policy("limited", ["both.test"], [configured], False), "both.test", 443)


def test_a_nameless_greeting_is_for_the_address_only_where_a_registry_is_named_by_it() -> None:
    endpoint = Endpoint("https", "10.0.0.5", 443, "npm", "/root/.npmrc")
    policy = compile_policy("limited", ["a.test"], [endpoint], True)
    assert opens_address(policy, "10.0.0.5", 443)
    assert not opens_address(policy, "10.0.0.5", 8443)
    assert not opens_address(policy, "10.0.0.6", 443)
    assert not opens_address(policy, "a.test", 443)


def test_repeated_entries_become_one_rule() -> None:
    policy = compile_policy("limited", ["a.test", "A.TEST.", "https://a.test", "a.test:443"])
    assert len(policy.rules) == 1


@pytest.mark.parametrize(
    "arguments",
    [
        {"mode": "open"},
        {"mode": "unrestricted", "connect_to": [ConnectTo("a.test", 443, "127.0.0.1", None)]},
        {"mode": "limited", "allowed_hosts": ["http://a.test"]},
        {"mode": "none", "allowed_hosts": ["http://a.test"]},
        {"mode": "limited", "openings": [Opening("*", "--allow")]},
        {"mode": "limited", "connect_to": [ConnectTo("a.test", 443, "b.test", None)]},
        {"mode": "limited", "connect_to": [ConnectTo("a.test", 443, "127.1", None)]},
        {"mode": "limited", "connect_to": [ConnectTo("a.test", 443, "127.0.0.1", 0)]},
        {"mode": "limited", "connect_to": [ConnectTo("a/b", 443, "127.0.0.1", None)]},
        {
            "mode": "limited",
            "allow_package_managers": True,
            "endpoints": [Endpoint("https", "a b", 443, "pip", "pip.conf")],
        },
        {
            "mode": "limited",
            "allow_package_managers": True,
            "endpoints": [Endpoint("https", "a.test", 0, "pip", "pip.conf")],
        },
    ],
)
def test_configuration_that_can_t_be_meant_is_refused_with_a_hint(arguments: dict[str, object]) -> None:
    with pytest.raises(InputError) as caught:
        compile_policy(**arguments)  # type: ignore[arg-type]
    assert caught.value.hint


def test_a_bad_endpoint_is_told_with_its_manager_and_file() -> None:
    with pytest.raises(InputError, match=r"pip endpoint read from pip\.conf"):
        compile_policy("limited", [], [Endpoint("https", "a b", 443, "pip", "pip.conf")], True)


def test_ports_have_listeners_only_where_something_is_judged() -> None:
    assert listening_ports(compile_policy("limited")) == (
        ("dns-udp", 53),
        ("dns-tcp", 53),
        ("http", 80),
        ("tls", 443),
    )
    assert listening_ports(LIMITED)[2:] == (
        ("http", 80),
        ("tls", 443),
        ("http", 3142),
        ("tcp", 5432),
        ("tls", 8443),
    )


def test_an_unrestricted_session_hears_every_port() -> None:
    policy = compile_policy("unrestricted", ["a.test"])
    assert listening_ports(policy) == (
        ("dns-udp", 53),
        ("dns-tcp", 53),
        ("any-tcp", 0),
        ("any-udp", 0),
        ("raw", 0),
    )
    for port in (53, 80, 443, 5432):
        assert request_for(policy, "192.0.2.1", port) == Request("tcp", "192.0.2.1", port)


def test_what_the_proxy_would_ask_depends_on_the_port() -> None:
    asked = {port: request_for(LIMITED, "a.test", port).protocol for port in (443, 80, 3142, 5432, 8443, 9)}
    assert asked == {443: "tls", 80: "http", 3142: "http", 5432: "tcp", 8443: "tls", 9: "tcp"}


def test_a_learning_session_reaches_every_name_by_the_same_decisions() -> None:
    policy = compile_policy("limited", ["a.test"], learning=True)
    for protocol, port in (("tls", 443), ("http", 80), ("tcp", 5432)):
        verdict = decide(policy, Request(protocol, "new.test", port))  # type: ignore[arg-type]
        assert verdict.allow
        assert verdict.rule is not None
        assert verdict.rule.origin == LEARNING
    known = decide(policy, Request("tls", "a.test", 443)).rule
    assert known is not None
    assert known.origin == "allowed_hosts"
    assert not decide(policy, Request("tcp", None, 5432)).allow
    assert not decide(policy, Request("tls", "metadata.google.internal", 443)).allow
    assert listening_ports(policy)[-1] == ("any-tcp", 0)


def test_a_port_shared_by_protocols_is_told_apart_by_the_name_looked_up() -> None:
    policy = compile_policy("limited", ["raw.test:8443"], [PRIVATE], True)
    assert ("tcp", 8443) in listening_ports(policy)
    assert protocol_for(policy, "raw.test", 8443) == "tcp"
    assert protocol_for(policy, "private.test", 8443) == "tls"
    assert protocol_for(policy, "other.test", 8443) == "tcp"
    assert protocol_for(policy, None, 8443) == "tcp"


def test_a_named_target_for_the_port_goes_before_one_for_every_port() -> None:
    anywhere = ConnectTo("A.test", None, "10.0.0.1", None)
    here = ConnectTo("a.test", 443, "[::1]", 8443)
    policy = compile_policy("limited", ["a.test"], connect_to=[anywhere, here])
    assert target_for(policy, "a.test", 443) == ConnectTo("a.test", 443, "::1", 8443)
    assert target_for(policy, "a.test", 80) == ConnectTo("a.test", None, "10.0.0.1", None)
    assert target_for(policy, "b.test", 443) is None


def test_a_named_target_allows_nothing_by_itself() -> None:
    policy = compile_policy("limited", [], connect_to=[ConnectTo("a.test", None, "127.0.0.1", None)])
    assert not decide(policy, Request("tls", "a.test", 443)).allow


def test_the_rendered_policy_shows_every_opening_with_its_origin() -> None:
    lines = render(LIMITED)
    assert lines[0].startswith("network: limited")
    assert "  allow TLS to *.wild.test on port 443  (allowed_hosts)" in lines
    assert (
        "  allow plain HTTP to mirror.test on port 80, at a private address too  "
        "(allow_package_managers: apt, /etc/apt/sources.list)"
    ) in lines
    assert "  allow TLS to index.test on port 443  (allow_package_managers: pip, built-in default)" in lines
    assert len(lines) == 2 + len(LIMITED.rules), "one line more for what is always blocked"
    named = compile_policy("limited", connect_to=[ConnectTo("a.test", None, "10.0.0.1", 8443)])
    assert render(named)[2:] == ["  dial a.test on any port at 10.0.0.1 port 8443  (connect_to)"]
