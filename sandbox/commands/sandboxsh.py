"""``sandboxsh``: the entry point. It begins the session first and loads the rest meanwhile."""

import gc
import sys


def main() -> None:
    """Run ``sandboxsh`` with this process's arguments; does not return."""
    # Looking for garbage among what is being loaded costs 2 ms and finds none. sandbox.supervise switches it on again.
    gc.disable()
    from sandbox.begin import begin
    from sandbox.descriptors import hold_standard_streams

    hold_standard_streams()
    begun = begin()
    from sandbox.commands.adhoc import main as run

    run(begun, sys.argv[1:])


if __name__ == "__main__":
    main()
