"""Greetings of real clients, recorded once; each file says of which."""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).with_name("hellos")


def recorded_hellos() -> dict[str, bytes]:
    """The first flight of each client, by the name of its file."""
    found = {}
    for path in sorted(FOLDER.glob("*.hex")):
        lines = path.read_text(encoding="ascii").splitlines()
        found[path.stem] = bytes.fromhex("".join(line for line in lines if not line.startswith("#")))
    return found
