"""The command and containers under attack, in each mode of ids that this machine allows."""

from tests.containers.conftest import container, containers, ids, starter
from tests.sessions.conftest import any_sandbox, either_sandbox, sandbox

__all__ = ["any_sandbox", "container", "containers", "either_sandbox", "ids", "sandbox", "starter"]
