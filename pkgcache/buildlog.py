"""The log of one build: kept in a file, its last lines in memory, its marks set apart.

A build may say any amount. Of a log that grows too large the beginning and the end stay, with a line between them that
says how much was left out.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import IO

from pkgcache.report import Mark, read_mark

TAIL = 25
_LINE = 4096
# Octets of the file's beginning, and of its end at least.
_HEAD = _END = 4 << 20
_MARKS = 100_000


class BuildLog:
    """Feed it the output of phases. `said` is called with each line, made fit for a terminal.

    `tail` holds the last lines, `problems` the last that look like errors, `marks` what phases reported. `heard` is
    called with each mark as it comes.
    """

    def __init__(self, path: str, said: Callable[[str], None]) -> None:
        self.path = path
        self.tail: deque[str] = deque(maxlen=TAIL)
        self.lines: deque[str] = deque(maxlen=2000)
        self.marks: list[Mark] = []
        self.heard: Callable[[Mark], None] = lambda _: None
        self._said = said
        self._rest = b""
        self._within = False
        self._file: IO[bytes] = open(path, "w+b")  # noqa: SIM115
        self._kept = BoundedFile(self._file)

    def feed(self, data: bytes) -> None:
        """Take a piece of output of any size."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._cut(line)
            self._within = False
        # What rewrites its line is told at once.
        at = max(self._rest.rfind(b"\r") + 1, len(self._rest) - len(self._rest) % _LINE)
        if at:
            line, self._rest = self._rest[:at], self._rest[at:]
            self._within = True
            self._cut(line)

    def note(self, text: str) -> None:
        """A line of the builder's own."""
        self._text(text)

    def finish_line(self) -> None:
        """End a line that a phase left open."""
        if self._rest:
            line, self._rest = self._rest, b""
            self._cut(line)
            self._within = False

    def save(self, path: str) -> None:
        """Move the file to `path`, on the same file system: what is built is in order and keeps its log."""
        self._file.flush()
        os.rename(self.path, path)
        self.path = path

    def _cut(self, line: bytes) -> None:
        """A line or a piece of one. Only a whole one is a mark: what begins further on is what a program quotes."""
        pieces = [part[at : at + _LINE] for part in line.split(b"\r") for at in range(0, len(part), _LINE)]
        mark = None if self._within or len(pieces) != 1 else read_mark(pieces[0].decode("utf-8", "replace"))
        if mark is not None:
            if len(self.marks) < _MARKS:
                self.marks.append(tuple(printable(part) for part in mark))
            self.heard(mark)
            return
        for piece in pieces:
            self._text(piece.decode("utf-8", "replace"))

    def _text(self, text: str) -> None:
        text = printable(text).rstrip()
        if not text:
            return
        self._kept.write(f"{text}\n".encode())
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


class BoundedFile:
    """Writes lines to the end of `file`, which can be read and changed; its size stays bounded."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._left_out = (0, 0)
        self._head = self._size = file.seek(0, os.SEEK_END)
        if self._size > _HEAD:
            file.seek(0)
            self._head = file.read(_HEAD).rfind(b"\n") + 1

    def write(self, line: bytes) -> None:
        """Add a line with its end."""
        # Others may have added to it.
        self._file.seek(0, os.SEEK_END)
        self._file.write(line)
        self._size = self._file.tell()
        if self._size <= _HEAD:
            self._head = self._size
        elif self._size > _HEAD + 2 * _END:
            self._shorten()

    def close(self) -> None:
        self._file.close()

    def _shorten(self) -> None:
        """Take out what is neither the beginning nor the end, whole lines."""
        file, (lines, octets) = self._file, self._left_out
        # A line of ours stands there from the second time on.
        start = self._head + len(_omission(lines, octets) if lines else b"")
        file.seek(self._size - _END)
        file.readline()
        end = file.tell()
        kept = file.read(self._size - end)
        file.seek(start)
        for piece in iter(lambda: file.read(min(1 << 20, end - file.tell())), b""):
            lines, octets = lines + piece.count(b"\n"), octets + len(piece)
        self._left_out = lines, octets
        file.seek(self._head)
        file.write(_omission(lines, octets) + kept)
        file.truncate()
        self._size = file.tell()


def _omission(lines: int, octets: int) -> bytes:
    return f"[{lines} lines of {octets} bytes are left out here: the log was too large]\n".encode()


def printable(text: str) -> str:
    """The text without control characters: output of packages must not move a reader's cursor."""
    return text if text.isprintable() else "".join(c if c.isprintable() else " " for c in text)
