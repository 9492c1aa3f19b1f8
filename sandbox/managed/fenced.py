"""The deterministic agent: it runs the fenced ``bash`` blocks of a message, in order, and says what came of them."""

import re
from collections.abc import Sequence
from typing import Any

# As in CommonMark: three or more of one character, indented by at most three blanks, closed by as many or more.
_OPENING = re.compile(r"^ {0,3}(?P<fence>`{3,}|~{3,})[ \t]*(?P<info>[^`\n]*)$")
LANGUAGES = ("bash",)

ABOUT = (
    "This is the deterministic agent of the local emulator: there is no model behind it. It runs the fenced bash "
    "blocks of a message, in order, in this session. Send a message with\n\n```bash\necho hello\n```"
)


def commands(content: Sequence[dict[str, Any]]) -> list[str]:
    """The commands of a message's text blocks. A block that is never closed ends with its text."""
    found: list[str] = []
    for block in content:
        if block["type"] == "text":
            found += _blocks(block["text"])
    return found


def _blocks(text: str) -> list[str]:
    found: list[str] = []
    fence, wanted, lines = "", False, list[str]()
    for line in text.splitlines():
        if not fence:
            opening = _OPENING.match(line)
            if opening is not None:
                fence, lines = opening["fence"], []
                words = opening["info"].split()
                wanted = bool(words) and words[0].lower() in LANGUAGES
        elif _closes(line, fence):
            found += ["\n".join(lines)] if wanted else []
            fence = ""
        else:
            lines.append(line)
    if fence and wanted:
        found.append("\n".join(lines))
    return [command for command in found if command.strip()]


def _closes(line: str, fence: str) -> bool:
    text = line.strip()
    return len(text) >= len(fence) and set(text) == {fence[0]} and len(line) - len(line.lstrip(" ")) <= 3


def summary(failed: Sequence[bool]) -> str:
    """What the agent says after its commands; ``failed``: for each whether it failed."""
    if not failed:
        return ABOUT
    many = "1 command" if len(failed) == 1 else f"{len(failed)} commands"
    bad = [str(number) for number, each in enumerate(failed, 1) if each]
    if not bad:
        return f"Ran {many}."
    if len(failed) == 1:
        return "Ran 1 command; it failed."
    return f"Ran {many}; number {', '.join(bad)} failed."
