"""The user's file of names and networks, private networks that are opened, and what both do to a verdict."""

from __future__ import annotations

import pytest

from netpolicy.blocklist import METADATA_ORIGIN, parse_blocklist, parse_private
from netpolicy.errors import InputError
from netpolicy.policy import Block, Request, Rule, compile_policy, decide, judge_address, render

LISTED = parse_blocklist(
    "# what we keep out\nbad.test\n*.worse.test  # with a reason\n\n203.0.113.0/24\n2001:db8:66::/48\n192.0.2.9\n",
    "list",
)
OPEN = compile_policy("unrestricted", blocks=LISTED, private=["10.1.0.0/16"])


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("bad.test", "blocklist: list:2"),
        ("x.worse.test", "blocklist: list:3"),
        ("203.0.113.7", "blocklist: list:5"),
        ("::ffff:203.0.113.7", "blocklist: list:5"),
        ("64:ff9b::203.0.113.7", "blocklist: list:5"),
        ("2002:cb00:7107::1", "blocklist: list:5"),
        ("2001:db8:66::1", "blocklist: list:6"),
        ("192.0.2.9", "blocklist: list:7"),
        ("metadata.google.internal", METADATA_ORIGIN),
    ],
)
@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_what_is_listed_is_denied_with_the_line_that_says_so(host: str, origin: str, protocol: str) -> None:
    verdict = decide(OPEN, Request(protocol, host, 443))  # type: ignore[arg-type]
    assert (verdict.allow, verdict.code) == (False, "blocked")
    assert isinstance(verdict.rule, Block)
    assert verdict.rule.origin == origin
    assert origin in verdict.reason


@pytest.mark.parametrize(
    "host",
    [
        "good.test",
        "x.bad.test",
        "worse.test",
        "203.0.114.7",
        "2001:db8:67::1",
        "64:ff9b::203.0.114.7",
        "192.0.2.8",
        "10.1.2.3",
    ],
)
@pytest.mark.parametrize(("protocol", "port"), [("tcp", 1), ("udp", 65_535), ("tcp", 443)])
def test_what_is_not_listed_is_allowed_on_every_port(host: str, protocol: str, port: int) -> None:
    verdict = decide(OPEN, Request(protocol, host, port))  # type: ignore[arg-type]
    assert verdict.allow, verdict.reason
    assert isinstance(verdict.rule, Rule)
    assert verdict.rule.origin == "unrestricted networking"


@pytest.mark.parametrize(
    ("address", "hint"),
    [
        ("10.2.0.1", "--allow-private 10.2.0.1/32"),
        ("fd00::1", "--allow-private fd00::1/128"),
        ("127.0.0.1", ""),
        ("::1", ""),
        ("169.254.169.254", ""),
        ("fd00:ec2::254", ""),
        ("224.0.0.1", ""),
        ("0.0.0.0", ""),
        ("198.18.0.1", ""),
        ("::ffff:10.2.0.1", ""),
    ],
)
def test_what_is_not_public_is_denied_and_private_networks_can_be_opened(address: str, hint: str) -> None:
    verdict = decide(OPEN, Request("tcp", address, 443))
    assert (verdict.allow, verdict.code, verdict.hint) == (False, "private-address", hint)
    if hint:
        opened = compile_policy("unrestricted", private=[parse_private(hint.split()[1])])
        assert decide(opened, Request("tcp", address, 443)).allow


def test_a_block_goes_before_an_entry_that_would_allow_the_host() -> None:
    policy = compile_policy("limited", ["bad.test", "good.test"], blocks=LISTED, private=["10.1.0.0/16"])
    assert decide(policy, Request("tls", "bad.test", 443)).code == "blocked"
    assert decide(policy, Request("tls", "good.test", 443)).allow
    blocked = judge_address(policy, "203.0.113.7")
    assert blocked is not None
    assert blocked.code == "blocked"
    assert judge_address(policy, "203.0.114.7") is None
    assert judge_address(policy, "10.1.2.3") is None
    assert judge_address(policy, "10.2.2.3") is not None


def test_the_rendered_policy_tells_blocks_and_opened_networks() -> None:
    lines = render(OPEN)
    assert lines[0].startswith("network: unrestricted")
    assert "  refuse *.worse.test  (blocklist: list:3)" in lines
    assert "  refuse 203.0.113.0/24  (blocklist: list:5)" in lines
    assert any("metadata.google.internal" in line and METADATA_ORIGIN in line for line in lines)
    assert any("10.1.0.0/16" in line and "--allow-private" in line for line in lines)
    assert "  allow every host on every port  (unrestricted networking)" in lines


@pytest.mark.parametrize("text", ["a b", "http://a.test", "203.0.113.1/24", "a.test:443", "300.1.1.1", "*"])
def test_a_line_that_is_neither_is_refused_with_its_number(text: str) -> None:
    with pytest.raises(InputError, match="list:2") as caught:
        parse_blocklist(f"a.test\n{text}\n", "list")
    assert caught.value.hint


@pytest.mark.parametrize(
    "text", ["8.8.8.0/24", "10.0.0.0/7", "127.0.0.0/8", "169.254.0.0/16", "0.0.0.0/0", "x"]
)
def test_only_private_networks_can_be_opened(text: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_private(text)
    assert caught.value.hint
    assert parse_private("10.0.0.0/8") == "10.0.0.0/8"
