"""Failures that a person can mend, each with what to do and the exit code it leads to.

Three kinds reach the user from here: their own input, a host that can't do what a session needs, and a set-up
that went wrong. Anything else that is raised is a bug of this project.
"""


class Failure(Exception):
    """Base of the failures that know how to show themselves.

    ``hint`` says what to do about it; empty when there is nothing to say. ``exit_code`` is what the commands
    exit with.
    """

    exit_code = 125

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class InputError(Failure):
    """The user's options, files or names are wrong. Nothing was started."""

    exit_code = 2


class HostError(Failure):
    """This machine can't put up a wall that a session needs, so the session does not start."""


class SetupError(Failure):
    """Setting up the session failed part-way; everything made so far is gone again."""
