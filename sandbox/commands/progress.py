"""Progress of long work on standard error: one line that renews itself on a terminal, plain lines elsewhere."""

import os
import sys
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pkgcache.phases import Event

_STEADY = ("waiting", "reuse", "done", "warning")


class Progress:
    """Shows events; clears its line at the end of the ``with`` block."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._live = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        self._told: tuple[str, str] | None = None

    def show(self, event: "Event") -> None:
        """Show one event of a build."""
        if self._quiet:
            return
        line = f"{event.manager:6} {event.phase:9} {event.elapsed_s:5.1f} s  {event.text}".rstrip()
        if self._live:
            width = os.get_terminal_size(sys.stderr.fileno()).columns
            end = "\n" if event.phase in _STEADY else ""
            sys.stderr.write(f"\r\x1b[K{line[: width - 1]}{end}")
            sys.stderr.flush()
        elif event.phase in _STEADY or self._told != (event.manager, event.phase):
            self._told = (event.manager, event.phase)
            print(line, file=sys.stderr, flush=True)

    def __enter__(self) -> "Progress":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live and not self._quiet:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
