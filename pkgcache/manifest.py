"""What a base or a layer holds, file by file, as written down when it was published.

A manifest is text. Its first line is `manifest 1 <bytes> <entries>`: what the files take on disk, one with several
names counted once. Then one line for each file, sorted by path:

    <kind> <mode> <owner>:<group> <detail> <attributes> <path>

`kind` is a letter as `ls -l` has it; `mode` is octal; ids are the session's; `detail` is "<size>:<SHA-256>" for a
file, the target of a symbolic link, "major:minor" of a device, else "-"; `attributes` is a digest of the extended
attributes or "-". The last line is `end <SHA-256 of all before it>`, so that a damaged manifest is noticed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import NamedTuple

NAME = "manifest"
"""The file's name beside layer.json or base.json."""

_FORMAT = "manifest 1"
_FIELDS = ("kind", "mode", "owner", "content", "extended attributes")


class Entry(NamedTuple):
    """One file; the fields are the words of its line."""

    path: str
    kind: str
    mode: int
    owner: str
    detail: str
    attributes: str = "-"


class Manifest(NamedTuple):
    """`size` in bytes on disk; `entries` maps a path to the rest of its line."""

    size: int
    entries: Mapping[str, str]


class Difference(NamedTuple):
    """One file that is not as it was recorded. `what` is "missing", "extra" or names what changed."""

    path: str
    what: str


class DamagedManifestError(ValueError):
    """The text is not a whole manifest."""


def line(entry: Entry) -> str:
    """The line of one file, without its end."""
    detail = quote(entry.detail)
    return f"{entry.kind} {entry.mode:o} {entry.owner} {detail} {entry.attributes} {quote(entry.path)}"


def quote(text: str) -> str:
    """The text with everything escaped that would end a word or a line."""
    if text.isprintable() and " " not in text and "\\" not in text and text.isascii():
        return text or "\\e"
    data = text.encode("utf-8", "surrogateescape")
    return "".join(chr(b) if 0x21 <= b < 0x7F and b != 0x5C else f"\\x{b:02x}" for b in data)


def compose(size: int, lines: Iterable[str]) -> str:
    """The whole text."""
    found = sorted(lines, key=lambda text: text.rpartition(" ")[2])
    body = "\n".join((f"{_FORMAT} {size} {len(found)}", *found)) + "\n"
    return f"{body}end {sha256(body.encode()).hexdigest()}\n"


def parse(text: str) -> Manifest:
    """The reverse of `compose`. Raises DamagedManifestError."""
    body, mark, end = text.rpartition("end ")
    if not mark or end != sha256(body.encode("utf-8", "surrogateescape")).hexdigest() + "\n":
        raise DamagedManifestError("its own checksum does not fit")
    first, *lines = body.splitlines()
    size = size_of(first)
    if size is None:
        raise DamagedManifestError("it is in another format")
    entries = {}
    for text_line in lines:
        rest, _, path = text_line.rpartition(" ")
        entries[path] = rest
    return Manifest(size, entries)


def size_of(first: str) -> int | None:
    """The bytes on disk that a manifest's first line tells, None when it is none."""
    words = first.split()
    if len(words) != 4 or " ".join(words[:2]) != _FORMAT or not words[2].isdecimal():
        return None
    return int(words[2])


def compare(recorded: Manifest, found: Manifest) -> tuple[Difference, ...]:
    """What is not as it was recorded, sorted by path."""
    differences = []
    for path in sorted(recorded.entries.keys() | found.entries.keys()):
        before, now = recorded.entries.get(path), found.entries.get(path)
        if now is None:
            differences.append(Difference(path, "missing"))
        elif before is None:
            differences.append(Difference(path, "extra"))
        elif before != now:
            differences.append(Difference(path, _changed(before.split(), now.split())))
    return tuple(differences)


def _changed(before: list[str], now: list[str]) -> str:
    names = [name for name, one, other in zip(_FIELDS, before, now, strict=False) if one != other]
    return f"changed: {', '.join(names)}"
