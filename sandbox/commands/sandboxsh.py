"""``sandboxsh``: the entry point. It begins the session first and loads the rest meanwhile."""

from sandbox.begin import begin
from sandbox.descriptors import hold_standard_streams


def main() -> None:
    """Run ``sandboxsh`` with this process's arguments; does not return."""
    hold_standard_streams()
    begun = begin()
    from sandbox.commands.adhoc import main as run

    run(begun)


if __name__ == "__main__":
    main()
