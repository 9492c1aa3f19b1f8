"""Host names and the patterns that users write."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netpolicy.errors import InputError, PeerError
from netpolicy.hosts import (
    HostPattern,
    looks_like_address,
    matches,
    name_problem,
    normalise_name,
    parse_pattern,
    parse_target,
    peer_name,
    presentation,
)

LABEL = st.from_regex(r"[a-z]([a-z0-9-]{0,10}[a-z0-9])?", fullmatch=True).filter(lambda x: x[:4] != "xn--")
NAME = st.lists(LABEL, min_size=1, max_size=4).map(".".join).filter(lambda x: not x.endswith("localhost"))


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        ("example.test", HostPattern("example.test", False, None)),
        ("EXAMPLE.Test", HostPattern("example.test", False, None)),
        ("example.test.", HostPattern("example.test", False, None)),
        ("https://example.test", HostPattern("example.test", False, None)),
        ("HTTPS://example.test:443", HostPattern("example.test", False, None)),
        ("example.test:443", HostPattern("example.test", False, 443)),
        ("example.test:80", HostPattern("example.test", False, 80)),
        ("example.test:8443", HostPattern("example.test", False, 8443)),
        ("*.example.test", HostPattern("example.test", True, None)),
        ("https://*.example.test", HostPattern("example.test", True, None)),
        ("*.example.test:80", HostPattern("example.test", True, 80)),
        ("intranet", HostPattern("intranet", False, None)),
        (
            "b\N{LATIN SMALL LETTER U WITH DIAERESIS}cher.example",
            HostPattern("xn--bcher-kva.example", False, None),
        ),
        (
            "*.B\N{LATIN CAPITAL LETTER U WITH DIAERESIS}CHER.example",
            HostPattern("xn--bcher-kva.example", True, None),
        ),
        ("xn--bcher-kva.example", HostPattern("xn--bcher-kva.example", False, None)),
        ("with_underscore.test", HostPattern("with_underscore.test", False, None)),
    ],
)
def test_an_entry_is_read_into_its_canonical_pattern(text: str, pattern: HostPattern) -> None:
    assert parse_pattern(text) == pattern


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        ("https://", "empty"),
        ("http://example.test", "http://"),
        ("ftp://example.test", "only https://"),
        ("https://example.test/", "path"),
        ("example.test/a", "path"),
        ("example.test?q", "query"),
        ("example.test#f", "fragment"),
        ("user@example.test", "user information"),
        ("https://user:pw@example.test", "user information"),
        ("a b.test", "white space"),
        ("a.test\n", "white space"),
        ("*", "stands only at the start"),
        ("*.", "empty"),
        ("*.*.test", "stands only at the start"),
        ("*a.test", "stands only at the start"),
        ("a.*.test", "stands only at the start"),
        ("127.0.0.1", "address"),
        ("*.127.0.0.1", "address"),
        ("127.1", "address"),
        ("0x7f.0x1", "address"),
        ("2130706433", "address"),
        ("\N{FULLWIDTH DIGIT ONE}27.0.0.1", "address"),
        ("::1", "address"),
        ("[::1]:443", "address"),
        ("2001:db8::1", "address"),
        ("a..test", "empty label"),
        (".a.test", "empty label"),
        ("a.test..", "empty label"),
        ("-a.test", "hyphen"),
        ("a-.test", "hyphen"),
        ("a$b.test", "character"),
        ("a\x00b.test", "character"),
        (f"{'a' * 64}.test", "label is longer"),
        (".".join(["a" * 60] * 5), "longer than 253"),
        ("a.test:", "port"),
        ("a.test:0", "port"),
        ("a.test:65536", "port"),
        ("a.test:+80", "port"),
        ("a.test:http", "port"),
        ("a.test:\N{ARABIC-INDIC DIGIT EIGHT}", "port"),
        ("a.test:53", "name server"),
        ("https://a.test:80", "plain HTTP"),
        ("localhost", "session itself"),
        ("db.localhost:5432", "session itself"),
        ("xn--a.test", "no host name|xn--a"),
        ("\N{SNOWMAN WITHOUT SNOW}\u200d.test", "Codepoint|codepoint|not allowed|invalid"),
    ],
)
def test_what_is_no_entry_is_refused_with_the_reason_and_a_hint(text: str, reason: str) -> None:
    with pytest.raises(InputError, match=reason) as caught:
        parse_pattern(text)
    assert caught.value.hint
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("pattern", "host", "covered"),
    [
        ("a.test", "a.test", True),
        ("a.test", "b.a.test", False),
        ("a.test", "ba.test", False),
        ("a.test", "a.test.evil", False),
        ("*.a.test", "b.a.test", True),
        ("*.a.test", "c.b.a.test", True),
        ("*.a.test", "a.test", False),
        ("*.a.test", "evila.test", False),
        ("*.a.test", "a.test.evil", False),
    ],
)
def test_a_pattern_covers_whole_labels_only(pattern: str, host: str, covered: bool) -> None:
    assert matches(parse_pattern(pattern), host) is covered


@given(NAME)
def test_a_wildcard_covers_any_depth_but_never_the_apex_nor_a_longer_last_label(name: str) -> None:
    pattern = parse_pattern(f"*.{name}")
    assert matches(pattern, f"x.{name}")
    assert matches(pattern, f"y.x.{name}")
    assert not matches(pattern, name)
    assert not matches(pattern, f"x{name}")


@given(NAME)
def test_normalising_is_idempotent_and_folds_case_and_the_final_dot(name: str) -> None:
    assert normalise_name(name) == name
    assert normalise_name(name.upper() + ".") == name
    assert peer_name(name.upper().encode(), "the name") == name


@given(st.text(max_size=40))
def test_any_text_is_either_refused_or_becomes_a_name_without_a_problem(text: str) -> None:
    try:
        pattern = parse_pattern(text)
    except InputError:
        return
    assert name_problem(pattern.name) is None
    assert parse_pattern(str(pattern)) == pattern


@given(st.binary(max_size=40))
def test_any_bytes_of_a_peer_are_either_refused_or_a_name_without_a_problem(raw: bytes) -> None:
    try:
        name = peer_name(raw, "the name")
    except PeerError as error:
        assert str(error).isascii()
        return
    assert name_problem(name) is None
    assert name.encode() == raw.lower()


@pytest.mark.parametrize(
    "raw", [b"a.test.", b"a.test\x00", b"a .test", b"\xc3\xa4.test", b"127.0.0.1", b"", b"::1"]
)
def test_a_peer_s_name_that_could_be_read_in_two_ways_is_refused(raw: bytes) -> None:
    with pytest.raises(PeerError) as caught:
        peer_name(raw, "the name")
    assert caught.value.code == "bad-name"


@pytest.mark.parametrize("text", ["1", "a.1", "0x", "a.0xff", "1.2.3.4", "[::1]", "::ffff:1.2.3.4"])
def test_what_resolvers_read_as_an_address_looks_like_one(text: str) -> None:
    assert looks_like_address(text)


@pytest.mark.parametrize("text", ["a1", "1.a", "0x.test", "x0", "a.0xg"])
def test_a_name_with_digits_does_not_look_like_an_address(text: str) -> None:
    assert not looks_like_address(text)


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("A.test.", ("a.test", 443)),
        ("https://a.test", ("a.test", 443)),
        ("a.test:80", ("a.test", 80)),
        ("192.0.2.1", ("192.0.2.1", 443)),
        ("192.0.2.1:25", ("192.0.2.1", 25)),
        ("2001:DB8::1", ("2001:db8::1", 443)),
        ("[2001:db8::1]:25", ("2001:db8::1", 25)),
    ],
)
def test_a_target_to_ask_about_is_one_name_or_address_and_a_port(text: str, target: tuple[str, int]) -> None:
    assert parse_target(text) == target


@pytest.mark.parametrize(
    "text", ["", "*.a.test", "a.test:x", "127.1", "192.0.2.1:", "192.0.2.1:0", "[::1", "a/b"]
)
def test_what_is_no_one_target_is_refused(text: str) -> None:
    with pytest.raises(InputError):
        parse_target(text)


def test_a_name_that_is_shown_can_be_no_other_name_and_no_command_to_a_terminal() -> None:
    assert presentation([b"_Http", b"A-1", b"test"]) == "_http.a-1.test"
    assert presentation([b"a.b", b"test"]) == "a\\046b.test"
    assert presentation([b"\x1b[31m\xc3\xa4"]) == "\\027\\09131m\\195\\164"
    assert presentation([]) == ""
