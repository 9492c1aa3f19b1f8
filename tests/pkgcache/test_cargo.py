from __future__ import annotations

import pytest

from pkgcache.errors import InputError
from pkgcache.managers import cargo


@pytest.mark.parametrize(
    "text",
    ["ripgrep", "ripgrep@14.1.1", "cargo-edit@^0.12", "a_b@~1.2", "a@=1.0.0-rc.1", "a@>=1", "a@1.2.3+b"],
)
def test_specs_as_cargo_writes_them(text: str) -> None:
    assert cargo.parse(text).text == text


def test_dash_and_underscore_name_one_crate() -> None:
    assert cargo.parse("A_b").name == cargo.parse("a-b").name == "a-b"


@pytest.mark.parametrize(
    "text", ["1a", "a@", "a@latest", "a@1.2.3.4", "a@01", "a@1 2", "a b", "a/b", "a" * 65, "a==1"]
)
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises(InputError):
        cargo.parse(text)
