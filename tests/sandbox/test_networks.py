"""Where an allowed host is dialled, as the user writes it; and policies for the command line."""

import pytest

from netpolicy.policy import ConnectTo, Request, decide
from sandbox.errors import InputError
from sandbox.networks import make_policy, parse_connect_to


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
    allowed = make_policy("limited", (), endpoints, allow_package_managers=True)
    assert decide(allowed, asked).allow
    assert decide(allowed, Request("http", "deb.test", 80)).allow
    assert not decide(make_policy("limited", (), endpoints), asked).allow
    assert not decide(make_policy("none", (), endpoints), asked).allow
