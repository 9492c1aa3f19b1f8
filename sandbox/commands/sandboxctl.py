"""``sandboxctl``: the entry point."""

import atexit
import gc


def main() -> None:
    """Run ``sandboxctl`` with this process's arguments; leaves by SystemExit."""
    # What is loaded stays. Looking for garbage as often as Python does costs a short command 10 ms; a long one still
    # looks. At the end of the process the kernel takes all memory back at once.
    gc.set_threshold(20_000)
    atexit.register(gc.freeze)
    from sandbox.commands.lasting import main as run

    run()


if __name__ == "__main__":
    main()
