"""What is attached to a host: values, and which request gets what."""

from __future__ import annotations

import copy
import json
import pickle
import posixpath
import traceback
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netpolicy.blocklist import parse_blocklist
from netpolicy.credentials import (
    Credential,
    Grant,
    Remote,
    Secret,
    authority,
    checked,
    decode,
    encode,
    judge,
    plain_path,
    repository,
    with_credential,
    with_ports,
)
from netpolicy.errors import InputError
from netpolicy.httprules import Forward
from netpolicy.policy import compile_policy, listening_ports

TOKEN = "t0ps3cret"
OURS = repository("https://git.test/me/ours", TOKEN)
CLOSED = compile_policy("limited")
OPEN = compile_policy("limited", ["git.test"])

PLAIN = {
    b"/": "/",
    b"/a": "/a",
    b"/a/b.git/info/refs?service=x/../y": "/a/b.git/info/refs",
    b"/a/": "/a/",
    b"/%61/%7Eb": "/a/~b",
    b"/.git": "/.git",
    b"/a..b/...c": "/a..b/...c",
    b"/a@b:c+d,e=f": "/a@b:c+d,e=f",
}
NOT_PLAIN = [
    b"",
    b"a",
    b"*",
    b"//",
    b"//a",
    b"/a//b",
    b"/a/./b",
    b"/a/../b",
    b"/a/..",
    b"/..",
    b"/a/.../b",
    b"/a/%2e%2e/b",
    b"/a/%2E/b",
    b"/a%2fb",
    b"/a%252fb",
    b"/a%",
    b"/a%4",
    b"/a%zz",
    b"/a\\b",
    b"/a;x/b",
    b"/a/b;x",
    b"/a\x00",
    b"/a b",
    b"/a#b",
    b"/\xc3\xa9",
    b"/%c3%a9",
    b"https://git.test/a",
]


@pytest.mark.parametrize(("target", "path"), PLAIN.items())
def test_a_plain_path_is_read(target: bytes, path: str) -> None:
    assert plain_path(target) == path


@pytest.mark.parametrize("target", NOT_PLAIN)
def test_a_path_that_servers_may_read_otherwise_is_none(target: bytes) -> None:
    assert plain_path(target) is None


@given(st.binary(max_size=40) | st.from_regex(rb"/[a./%\\;2eEfFoursme]{0,30}", fullmatch=True))
def test_what_gets_a_credential_is_below_its_path_for_every_reader(target: bytes) -> None:
    path = plain_path(target)
    if path is None:
        return
    raw = target.partition(b"?")[0].decode("latin-1")
    for reading in (raw, unquote(raw), unquote(unquote(raw)), unquote(raw).replace("\\", "/")):
        assert posixpath.normpath(reading) == posixpath.normpath(path)
    assert plain_path(path.encode()) == path


def granted(target: str, *credentials: Credential, policy: object = CLOSED, method: bytes = b"GET") -> Grant:
    held = credentials or (OURS,)
    return judge(policy, held, "git.test", 443, method, target.encode(), [])  # type: ignore[arg-type]


def test_a_credential_is_for_its_paths_and_what_is_below_them() -> None:
    for target in ("/me/ours", "/me/ours.git", "/me/ours/", "/me/ours.git/info/refs?x", "/%6de/ours/x"):
        found = granted(target)
        assert found.verdict.allow
        assert found.credential == OURS
        assert found.verdict.rule is not None
        assert found.verdict.rule.origin == "repository https://git.test/me/ours"
    for target in ("/me/our", "/me/oursx", "/me/ours.gitx", "/me", "/", "/x/me/ours", "/me/ours/../x"):
        found = granted(target)
        assert (found.verdict.allow, found.verdict.code, found.credential) == (False, "not-attached", None)
        assert "--allow git.test" in found.verdict.hint
        found = granted(target, policy=OPEN)
        assert (found.verdict.allow, found.credential) == (True, None)


def test_the_longest_path_of_several_counts_and_the_first_of_equals() -> None:
    deep = repository("https://git.test/me/ours/deep", "other")
    again = repository("https://git.test/me/ours", "again")
    everything = Credential("git.test", 443, "all", value=Secret("x"))
    held = (everything, OURS, again, deep)
    for order in (held, held[::-1]):
        assert granted("/me/ours/deep/x", *order).credential == deep
        assert granted("/else", *order).credential == everything
    assert granted("/me/ours/x", *held).credential == OURS
    assert granted("/me/ours/x", *held[::-1]).credential == again


def test_methods_that_say_back_or_destroy_get_nothing() -> None:
    assert granted("/me/ours", method=b"POST").credential == OURS
    for method in (b"TRACE", b"DELETE", b"OPTIONS", b"get", b"CONNECT", b"\xff"):
        assert granted("/me/ours", method=method).credential is None


def test_blocklists_and_no_network_go_before_credentials() -> None:
    blocked = compile_policy("limited", blocks=parse_blocklist("git.test\n", "list"))
    assert granted("/me/ours", policy=blocked).verdict.code == "blocked"
    assert granted("/me/ours", policy=compile_policy("none")).verdict.code == "no-network"
    free = compile_policy("unrestricted")
    assert granted("/me/ours", policy=free).credential == OURS
    assert granted("/me/theirs", policy=free).verdict.allow


def outgoing(target: str, credential: Credential | None, path: str, *headers: tuple[bytes, bytes]) -> Forward:
    forward = Forward("git.test", target.encode(), [(b"host", b"git.test"), *headers])
    verdict = granted(target, policy=OPEN).verdict
    return with_credential(forward, Grant(verdict, credential, path))


def test_the_header_replaces_the_clients_own() -> None:
    own = [(b"authorization", b"Bearer x"), (b"x", b"1"), (b"proxy-authorization", b"y")]
    made = outgoing("/me/ours/%61?q=%2e", OURS, "/me/ours", *own)
    value = b"Basic eC1hY2Nlc3MtdG9rZW46dDBwczNjcmV0"
    assert made.headers == [(b"host", b"git.test"), (b"x", b"1"), (b"authorization", value)]
    assert made.target == b"/me/ours/a?q=%2e", "what was judged, in the form that was judged"
    odd = Forward("git.test", b"/me/ours", [(b"host", b"GIT.Test.:443")])
    assert with_credential(odd, granted("/me/ours")).headers[0] == (b"host", b"git.test")
    assert outgoing("/x/%2e", None, "", *own).headers == [(b"host", b"git.test"), *own[:2]]
    assert outgoing("/x/%2e", None, "").target == b"/x/%2e"
    key = Credential("git.test", 443, "key", (), "x-key", Secret("k"))
    made = outgoing("/", key, "", *own, (b"x-key", b"mine"), (b"x_key", b"mine"))
    assert made.headers == [(b"host", b"git.test"), (b"x", b"1"), (b"x-key", b"k")]


@pytest.mark.parametrize(
    ("url", "target", "expected"),
    [
        ("https://127.0.0.1:8443/srv/o.git", "/me/ours.git/info/refs?s=1", "/srv/o.git/info/refs?s=1"),
        ("https://127.0.0.1:8443/srv/o.git/", "/me/ours", "/srv/o.git"),
        ("http://mirror.test", "/me/ours/HEAD", "/HEAD"),
        ("http://mirror.test/", "/me/ours", "/"),
    ],
)
def test_a_rewritten_path_keeps_what_is_below(url: str, target: str, expected: str) -> None:
    ours = repository("https://git.test/me/ours", TOKEN, rewrite=url)
    grant = granted(target, ours)
    made = with_credential(Forward("git.test", target.encode(), [(b"host", b"git.test")]), grant)
    assert made.target.decode() == expected
    assert ours.remote is not None
    assert made.headers[0] == (b"host", authority(ours.remote))
    assert made.host == "git.test"


def test_a_remotes_authority_names_its_port_where_it_is_unusual() -> None:
    assert authority(Remote("https", "m.test", 443)) == b"m.test"
    assert authority(Remote("http", "m.test", 80)) == b"m.test"
    assert authority(Remote("http", "m.test", 443)) == b"m.test:443"
    assert authority(Remote("https", "::1", 8443)) == b"[::1]:8443"


def test_a_repository_is_known_by_its_url() -> None:
    for url in (
        "https://Git.Test/me/ours",
        "https://git.test/me/ours.git",
        "https://git.test:443/me/ours/",
        "HTTPS://git.test./me/ours.git/",
    ):
        assert repository(url, TOKEN) == OURS
    assert OURS.paths == ("/me/ours.git", "/me/ours")
    other = repository("https://git.test:8443/a/b/c")
    assert (other.port, other.value, other.origin) == (8443, None, "repository https://git.test:8443/a/b/c")
    remote = repository("https://git.test/a/b", rewrite="https://[::1]:99/x", ca=b"pem").remote
    assert remote == Remote("https", "::1", 99, "/x", b"pem")


BAD_URLS = [
    "http://git.test/me/ours",
    "ssh://git.test/me/ours",
    "git@git.test:me/ours",
    "https://git.test",
    "https://git.test/",
    "https://git.test/.git",
    "https://git.test/a/../b",
    "https://git.test/a%2fb",
    "https://git.test/a?b",
    "https://git.test/a#b",
    "https://git.test:0/a",
    "https://git.test:99999/a",
    "https://git.test:80/a",
    "https://git.test:x/a",
    "https://127.0.0.1/a/b",
    "https://[::1]/a/b",
    "https://bad_-.test/a",
    "https:///a",
    "",
]


@pytest.mark.parametrize("url", BAD_URLS)
def test_a_url_that_can_t_be_attached_is_refused_with_the_reason(url: str) -> None:
    with pytest.raises(InputError) as error:
        repository(url, TOKEN)
    assert TOKEN not in str(error.value)
    assert error.value.hint


def test_no_message_shows_a_secret() -> None:
    for url in (f"https://x:{TOKEN}@git.test/me/ours", f"https://{TOKEN}@git.test/me/ours"):
        for attempt in (
            lambda url=url: repository(url),
            lambda url=url: repository("https://a.test/b", rewrite=url),
        ):
            with pytest.raises(InputError) as error:
                attempt()
            assert TOKEN not in f"{error.value} {error.value.hint}"
    for token in (f"{TOKEN}é", f"{TOKEN}\U0001f511"):
        with pytest.raises(InputError) as error:
            repository("https://git.test/me/ours", token)
        assert TOKEN not in str(error.value)
    for value in (f"{TOKEN}\r\nX: y", f" {TOKEN}", "", f"{TOKEN}\x00", TOKEN * 2000):
        with pytest.raises(InputError) as error:
            checked(Credential("git.test", 443, "o", value=Secret(value)))
        assert TOKEN not in str(error.value)
    shown = f"{OURS} {OURS!r} {OURS.value} {[OURS]!r} {granted('/me/ours')}"
    assert TOKEN not in shown
    assert "eC1hY2Nlc3" not in shown
    for dump in (lambda: json.dumps(OURS), lambda: pickle.dumps(OURS), lambda: copy.deepcopy(OURS)):
        with pytest.raises(TypeError) as failure:
            dump()
        assert TOKEN not in "".join(traceback.format_exception(failure.value))


@pytest.mark.parametrize(
    "wrong",
    [
        {"host": "127.0.0.1"},
        {"host": "no host"},
        {"port": 0},
        {"port": 80},
        {"port": 65536},
        {"paths": ("a",)},
        {"paths": ("/a/",)},
        {"paths": ("/a/../b",)},
        {"paths": ("/",)},
        {"name": "host"},
        {"name": "Content-Length"},
        {"name": "a b"},
        {"name": ""},
        {"origin": ""},
        {"origin": "a\nb"},
        {"remote": Remote("http", "m.test", 80)},
    ],
    ids=str,
)
def test_a_credential_that_can_t_be_used_is_refused(wrong: dict[str, object]) -> None:
    good = Credential("Git.test.", 443, "o", (), "Authorization", Secret("x"))
    assert checked(good) == good._replace(host="git.test", name="authorization")
    with pytest.raises(InputError):
        checked(good._replace(**wrong))


def test_credentials_pass_to_a_running_proxy_unchanged() -> None:
    rewritten = repository("https://git.test/me/ours", TOKEN, rewrite="https://m.test/x", ca=b"\x00\xff")
    held = (OURS, rewritten, Credential("a.test", 8443, "o"))
    line = encode(held, b"roots\xff\n")
    assert line.count(b"\n") == 1
    assert decode(line) == (held, b"roots\xff\n")
    assert decode(encode((), b"")) == ((), b"")


def test_a_session_listens_on_the_ports_of_what_is_attached() -> None:
    held = [OURS, repository("https://git.test:8443/a/b"), repository("https://x.test:8443/a/b")]
    assert ("tls", 8443) in listening_ports(with_ports(CLOSED, held))
    assert with_ports(CLOSED, [OURS]) == CLOSED
    shared = compile_policy("limited", ["a.test:8443"])
    assert ("tcp", 8443) in listening_ports(with_ports(shared, held))
    none = compile_policy("none")
    assert listening_ports(with_ports(none, held)) == ()
    free = compile_policy("unrestricted")
    assert with_ports(free, held) == free
