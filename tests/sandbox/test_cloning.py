"""What the failure of a clone means. Real ones are in tests/emulator/test_repositories.py."""

from __future__ import annotations

import pytest

from sandbox.managed.cloning import command, error, judge

CASES = (
    (128, b"fatal: Authentication failed for 'https://git.example/a/b/'\n", "authentication"),
    (
        3,
        b"fatal: could not read Username for 'https://git.example': terminal prompts disabled",
        "authentication",
    ),
    (
        3,
        b"fatal: unable to access 'https://git.example/a/b/': The requested URL returned error: 403",
        "forbidden",
    ),
    (3, b"remote: Not Found\nfatal: repository 'https://git.example/a/b/' not found", "not_found"),
    (3, b"fatal: unable to access 'x': The requested URL returned error: 404", "not_found"),
    (3, b"fatal: repository '/remote' does not exist", "not_found"),
    (4, b"fatal: there is no branch gone", "checkout"),
    (3, b"fatal: unable to access 'x': The requested URL returned error: 502", "clone"),
    (127, b"", "clone"),
)


@pytest.mark.parametrize(("code", "errors", "kind"), CASES)
def test_a_failure_is_told_by_what_git_says(code: int, errors: bytes, kind: str) -> None:
    failed = judge(code, errors, timed_out=False)
    assert failed is not None
    assert failed.type == f"repository_{kind}_error"
    assert failed.message
    told = error(failed, "https://git.example/a/b")
    assert told["retry_status"] == {"type": "retrying"}
    assert told["repository_url"] == "https://git.example/a/b"


def test_what_a_server_says_is_made_readable_and_short() -> None:
    failed = judge(3, b"Cloning into '.'...\nremote: \x1b[31m" + b"x" * 5000, timed_out=False)
    assert failed is not None
    assert len(failed.message) <= 600
    assert failed.message.isprintable()


def test_a_clone_that_succeeds_or_takes_too_long() -> None:
    assert judge(0, b"warning: You appear to have cloned an empty repository.", timed_out=False) is None
    late = judge(137, b"", timed_out=True)
    assert late is not None
    assert late.type == "repository_clone_error"


def test_what_is_asked_for_stands_in_no_script() -> None:
    given = command("https://git.example/a/b", "/remote", {"type": "branch", "name": "$(id)"})
    assert given[-3:] == ("branch", "$(id)", "")
    assert "$(id)" not in given[2]
