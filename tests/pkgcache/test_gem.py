from __future__ import annotations

import pytest

from pkgcache.errors import InputError
from pkgcache.managers import gem


@pytest.mark.parametrize(
    "text, canonical",
    [
        ("rails", "rails"),
        ("rails:7.1.0", "rails:7.1.0"),
        ("rails:~> 7.1", "rails:~>7.1"),
        ("a:< 3,>= 2", "a:<3,>=2"),
        ("a:>=2, <3", "a:<3,>=2"),
        ("a.b-c_d:1.0.0.pre1", "a.b-c_d:1.0.0.pre1"),
    ],
)
def test_specs_as_gem_writes_them(text: str, canonical: str) -> None:
    assert gem.parse(text).text == canonical


@pytest.mark.parametrize(
    "text", [".a", "a:", "a:,", "a:latest", "a:1 2", "a b", "a/b", "a.gem", "a:1;id", "a@1"]
)
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises(InputError):
        gem.parse(text)
