"""Failures show themselves: one message, what to do, the exit code."""

import pytest

from netpolicy import errors as netpolicy_errors
from pkgcache import errors as pkgcache_errors
from sandbox.commands.failures import tell
from sandbox.errors import HostError, InputError, SetupError


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InputError("bad", hint="mend it"), 2),
        (HostError("cannot", hint="mend it"), 125),
        (SetupError("failed", hint="mend it"), 125),
        (netpolicy_errors.InputError("bad host", "mend it"), 2),
        (pkgcache_errors.InputError("bad spec", "mend it"), 2),
        (pkgcache_errors.StoreError("full", "mend it"), 125),
    ],
)
def test_a_failure_is_a_message_and_a_hint(
    error: Exception, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tell(error, debug=False) == code
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.splitlines() == [f"sandboxsh: {error}", "sandboxsh: mend it"]


def test_a_bug_is_called_one_and_shows_where(capsys: pytest.CaptureFixture[str]) -> None:
    assert tell(ZeroDivisionError("oops"), debug=False) == 125
    said = capsys.readouterr().err
    assert "a bug" in said
    assert "ZeroDivisionError" in said


def test_debugging_shows_where_a_failure_was_raised(capsys: pytest.CaptureFixture[str]) -> None:
    try:
        raise InputError("bad")
    except InputError as error:
        assert tell(error, debug=True, program="sandboxctl") == 2
    said = capsys.readouterr().err
    assert "Traceback" in said
    assert said.endswith("sandboxctl: bad\n")


def test_what_a_stranger_named_does_not_write_to_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    assert tell(InputError("bad \x1b[2Jname\r", hint="one\ntwo\x07"), debug=False) == 2
    assert capsys.readouterr().err == "sandboxsh: bad \\x1b[2Jname\\r\nsandboxsh: one\ntwo\\x07\n"
