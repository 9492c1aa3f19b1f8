"""The command under attack, in each mode of ids that this machine allows."""

from tests.sessions.conftest import any_sandbox, either_sandbox, sandbox

__all__ = ["any_sandbox", "either_sandbox", "sandbox"]
