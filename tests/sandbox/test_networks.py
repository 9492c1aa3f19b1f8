"""Where an allowed host is dialled, as the user writes it; and policies for the command line."""

from typing import Any

import pytest

from netpolicy.policy import ConnectTo, Request, decide
from sandbox.environment import Networking
from sandbox.errors import InputError
from sandbox.networks import Access, combine, make_policy, parse_connect_to


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a.test=127.0.0.1", ConnectTo("a.test", None, "127.0.0.1", None)),
        ("a.test:443=127.0.0.1:8443", ConnectTo("a.test", 443, "127.0.0.1", 8443)),
        ("a.test=127.0.0.1:8443", ConnectTo("a.test", None, "127.0.0.1", 8443)),
        ("a.test:443=[::1]:8443", ConnectTo("a.test", 443, "::1", 8443)),
        ("a.test=[::1]", ConnectTo("a.test", None, "::1", None)),
        ("a.test=::1", ConnectTo("a.test", None, "::1", None)),
    ],
)
def test_a_place_to_connect_to(text: str, expected: ConnectTo) -> None:
    assert parse_connect_to(text) == expected


@pytest.mark.parametrize(
    "text",
    ["a.test", "=127.0.0.1", "a.test=", "a.test:0=1.2.3.4", "a.test:x=1.2.3.4", "a.test=1.2.3.4:70000"],
)
def test_what_is_none(text: str) -> None:
    with pytest.raises(InputError):
        parse_connect_to(text)


def test_package_managers_are_let_out_only_when_they_are_allowed() -> None:
    endpoints = [("npm", "https", "npm.test", 443, "built-in default"), ("apt", "http", "deb.test", 80, "f")]
    asked = Request("tls", "npm.test", 443)
    allowed = make_policy(Access(allow_package_managers=True), endpoints)
    assert decide(allowed, asked).allow
    assert decide(allowed, Request("http", "deb.test", 80)).allow
    assert not decide(make_policy(Access(), endpoints), asked).allow
    assert not decide(make_policy(Access("none"), endpoints), asked).allow


def test_options_add_to_an_environment_and_each_rule_keeps_its_origin() -> None:
    given = Networking("limited", ("env.test",), False, True)
    access = combine(given, allow=["option.test"], connect_to=["env.test=127.0.0.1"])
    assert access.hosts == ("env.test", "option.test")
    assert access.allow_package_managers
    rules = make_policy(access).rules[:2]
    assert [(rule.pattern.name, rule.origin) for rule in rules] == [
        ("env.test", "allowed_hosts"),
        ("option.test", "--allow"),
    ]


def test_an_option_goes_before_the_environments_mode() -> None:
    given = Networking("limited", ("env.test",))
    assert combine(given, mode="none") == Access("none")
    assert combine(None) == Access("limited")


@pytest.mark.parametrize("options", [{"allow": ["a.test"]}, {"allow_package_managers": True}])
def test_what_limits_nothing_is_refused(options: dict[str, Any]) -> None:
    for mode in ("none", "unrestricted"):
        with pytest.raises(InputError, match="mean nothing"):
            combine(None, mode=mode, **options)
    assert combine(None, mode="limited", **options).mode == "limited"
