from __future__ import annotations

import pytest

from pkgcache.errors import InputError
from pkgcache.managers import go


@pytest.mark.parametrize(
    "text, canonical",
    [
        ("example.test/x/tools/cmd/goimports@latest", "example.test/x/tools/cmd/goimports@latest"),
        ("example.test/tool", "example.test/tool@latest"),
        ("example.test/tool/v2@v2.1.0-rc.1+incompatible", "example.test/tool/v2@v2.1.0-rc.1+incompatible"),
        ("gopkg.test/yaml.v3@v3.0.1", "gopkg.test/yaml.v3@v3.0.1"),
        ("example.test/tool@main", "example.test/tool@main"),
    ],
)
def test_specs_as_go_writes_them(text: str, canonical: str) -> None:
    assert go.parse(text).text == canonical


@pytest.mark.parametrize(
    "text",
    ["tool", "tool@latest", "./tool", "example.test/../x", "example.test//x", "example.test/x@", "example.test/x@a b",
     "example.test/.x", "example.test/x.", "https://example.test/x", "example.test/x@-v", "example.test/...", "a@b@c"],
)  # fmt: skip
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises(InputError):
        go.parse(text)
