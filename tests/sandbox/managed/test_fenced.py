"""Which commands a message holds."""

from __future__ import annotations

import pytest

from sandbox.managed import fenced

CASES = {
    "none": ("just words", []),
    "one": ("do\n```bash\necho a\n```\n", ["echo a"]),
    "two in order": ("```bash\na\n```\nthen\n```bash\nb\n```", ["a", "b"]),
    "several lines": ("```bash\na\n\n  b\n```", ["a\n\n  b"]),
    "other languages": ("```python\nprint()\n```\n```\nplain\n```\n```bash\nc\n```", ["c"]),
    "never closed": ("```bash\na\nb", ["a\nb"]),
    "empty": ("```bash\n\n```", []),
    "tildes": ("~~~bash\na\n```\nb\n~~~", ["a\n```\nb"]),
    "longer fences hold shorter ones": ("````bash\na\n```\nb\n````", ["a\n```\nb"]),
    "more words": ("```Bash title=x\na\n```", ["a"]),
    "a fence in another block": ("```text\n```bash\n```\n```bash\na\n```", ["a"]),
    "line ends of windows": ("```bash\r\na\r\n```\r\n", ["a"]),
    "indented too far": ("    ```bash\n    a\n    ```", []),
    "indented a little": ("  ```bash\n  a\n  ```", ["  a"]),
}


@pytest.mark.parametrize("case", CASES)
def test_the_commands_of_a_message(case: str) -> None:
    text, expected = CASES[case]
    assert fenced.commands([{"type": "text", "text": text}]) == expected


def test_only_text_blocks_are_read() -> None:
    blocks = [{"type": "redacted"}, {"type": "text", "text": "```bash\na\n```"}]
    assert fenced.commands(blocks) == ["a"]


def test_what_is_said_names_what_failed() -> None:
    assert "no model" in fenced.summary([])
    assert fenced.summary([False]) == "Ran 1 command."
    assert fenced.summary([True]) == "Ran 1 command; it failed."
    assert fenced.summary([False, False]) == "Ran 2 commands."
    assert fenced.summary([True, False, True]) == "Ran 3 commands; number 1, 3 failed."
