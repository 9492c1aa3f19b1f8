"""The pages on threats name tests that exist, and every attack here has its page."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(path for path in (ROOT / "docs/threats").glob("*.md") if path.name != "README.md")
NAMED = re.compile(r"`(tests/[\w/]+(?:\.py)?)(?:::(\w+))?`")


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_a_page_names_tests_that_are_there(page: Path) -> None:
    named = NAMED.findall(page.read_text())
    assert named
    for place, test in named:
        assert (ROOT / place).exists(), place
        assert not test or f"def {test}(" in (ROOT / place).read_text(), f"{place}::{test}"


def test_the_index_and_the_attacks_are_whole() -> None:
    index = (ROOT / "docs/threats/README.md").read_text()
    assert sorted(re.findall(r"\]\(([\w-]+\.md)\)", index)) == [page.name for page in PAGES]
    held = {place for page in PAGES for place, _ in NAMED.findall(page.read_text())}
    own = {f"tests/escape/{path.name}" for path in Path(__file__).parent.glob("test_*.py")}
    assert own - held == {"tests/escape/test_threat_pages.py"}
    mentioned = {
        match
        for path in Path(__file__).parent.glob("*.py")
        for match in re.findall(r"docs/threats/([\w-]+\.md)", path.read_text())
    }
    assert mentioned <= {"README.md", *(page.name for page in PAGES)}


def test_the_table_of_contents_finds_a_missing_test() -> None:
    assert NAMED.findall("`tests/x/test_y.py::test_z` and `tests/x`") == [
        ("tests/x/test_y.py", "test_z"),
        ("tests/x", ""),
    ]
