"""How the commands show what went wrong."""

import sys

_BUG = 125


def spoken(text: str) -> str:
    """``text`` for a person's terminal: what would move the cursor or change the screen is spelled out."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def tell(error: Exception, *, debug: bool, program: str = "sandboxsh") -> int:
    """Print the failure on standard error, with what to do about it; returns the exit code.

    Failures that a person can mend carry ``hint`` and ``exit_code``. Anything else is a bug of this program.
    """
    if debug:
        import traceback

        traceback.print_exception(error)
    code = getattr(error, "exit_code", None)
    if not isinstance(code, int):
        if not debug:
            import traceback

            traceback.print_exception(error)
        print(f"{program}: a bug: {type(error).__name__}: {error}", file=sys.stderr)
        return _BUG
    # File names, and what a session's set-up met, may be a stranger's.
    told = [str(error), getattr(error, "hint", "")]
    for text in filter(None, told):
        print(f"{program}: " + "\n".join(spoken(line) for line in text.split("\n")), file=sys.stderr)
    return code
