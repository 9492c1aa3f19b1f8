"""What can go wrong here, by whose doing it is.

Every exception has `hint` (what the reader can do, may be empty) and `exit_code` (what a command ends with).
A mistake of this package itself is none of these: it surfaces as whatever Python raises.
"""

from __future__ import annotations


class PackageError(Exception):
    """The common root; catch this to show `str(error)` and `error.hint`."""

    exit_code = 125

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class InputError(PackageError):
    """The user asked for something that can't be meant: a malformed spec, an unknown base or manager."""

    exit_code = 2


class HostError(PackageError):
    """The host lacks what the request needs: a package manager, a program, a permission."""


class StoreError(PackageError):
    """The store can't do it now: no space, in use, damaged, not writable."""


class BuildError(PackageError):
    """A package manager failed while a base or a layer was made. Nothing was published.

    `manager` is the layer's manager, or "base". `package` is the spec at fault when the log tells, else None.
    `tail` holds the last lines of the log, oldest first. `log` is the path where the whole log is kept.
    """

    def __init__(
        self,
        message: str,
        hint: str = "",
        *,
        manager: str,
        package: str | None = None,
        tail: tuple[str, ...] = (),
        log: str | None = None,
    ) -> None:
        super().__init__(message, hint)
        self.manager = manager
        self.package = package
        self.tail = tail
        self.log = log
