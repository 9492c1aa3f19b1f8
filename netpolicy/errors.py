"""The failures of this package that are not its own bugs."""


class InputError(Exception):
    """The user's configuration can't be accepted.

    The message says what was given and why it is refused; `hint` says what to write instead.
    """

    exit_code = 2

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class PeerError(Exception):
    """Bytes from a peer break their protocol, or leave open what they ask for.

    `code` is a short fixed word for logs and response headers. The message never contains bytes of the peer
    that were not checked first.
    """

    def __init__(self, message: str, code: str = "malformed") -> None:
        super().__init__(message)
        self.code = code
