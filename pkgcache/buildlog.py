"""The log of one build: kept whole in a file, its last lines in memory, its marks set apart."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import IO

from pkgcache.report import Mark, read_mark

TAIL = 25
_LINE = 4096
_MARKS = 100_000


class BuildLog:
    """Feed it the output of phases. `said` is called with each line, made fit for a terminal.

    `tail` holds the last lines, `problems` the last that look like errors, `marks` what phases reported.
    """

    def __init__(self, path: str, said: Callable[[str], None]) -> None:
        self.path = path
        self.tail: deque[str] = deque(maxlen=TAIL)
        self.lines: deque[str] = deque(maxlen=2000)
        self.marks: list[Mark] = []
        self._said = said
        self._rest = b""
        self._file: IO[str] = open(path, "w", encoding="utf-8")  # noqa: SIM115

    def feed(self, data: bytes) -> None:
        """Take a piece of output of any size."""
        *lines, self._rest = (self._rest + data).replace(b"\r", b"\n").split(b"\n")
        for line in lines:
            self._line(line)
        while len(self._rest) > _LINE:
            line, self._rest = self._rest[:_LINE], self._rest[_LINE:]
            self._line(line)

    def note(self, text: str) -> None:
        """A line of the builder's own."""
        self._line(text.encode())

    def finish_line(self) -> None:
        """End a line that a phase left open."""
        if self._rest:
            line, self._rest = self._rest, b""
            self._line(line)

    def save(self, path: str) -> None:
        """Move the file to `path`, on the same file system: what is built is in order and keeps its log."""
        self._file.flush()
        os.rename(self.path, path)
        self.path = path

    def _line(self, data: bytes) -> None:
        text = data.decode("utf-8", "replace")
        mark = read_mark(text)
        if mark is not None:
            if len(self.marks) < _MARKS:
                self.marks.append(tuple(printable(part) for part in mark))
            return
        text = printable(text).rstrip()
        if not text:
            return
        self._file.write(text + "\n")
        self.tail.append(text)
        self.lines.append(text)
        self._said(text)

    def __enter__(self) -> BuildLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.finish_line()
        finally:
            self._file.close()


def printable(text: str) -> str:
    """The text without control characters: output of packages must not move a reader's cursor."""
    return text if text.isprintable() else "".join(c if c.isprintable() else " " for c in text)
