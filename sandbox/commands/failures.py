"""How the commands show what went wrong."""

import sys

_BUG = 125


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
    print(f"{program}: {error}", file=sys.stderr)
    hint = getattr(error, "hint", "")
    if hint:
        print(f"{program}: {hint}", file=sys.stderr)
    return code
