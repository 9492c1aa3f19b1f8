"""go: programs from modules. The specs are read; installing them is not there yet."""

from __future__ import annotations

import re

from pkgcache.specs import Spec, refuse

# https://go.dev/ref/mod#go-mod-file-ident: an element neither begins nor ends with a dot.
_ELEMENT = r"[A-Za-z0-9_~-](?:[A-Za-z0-9._~+-]*[A-Za-z0-9_~+-])?"
_HOST = r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)+"
_VERSION = r"[A-Za-z0-9_][A-Za-z0-9._+-]*"


def parse(text: str) -> Spec:
    """`path@version`, the path as it is imported; no version means `latest`."""
    path, at, version = text.partition("@")
    if re.fullmatch(rf"{_HOST}(?:/{_ELEMENT})*", path) is None:
        raise refuse("it is not an import path of a module", "write host/path@version")
    if not at:
        version = "latest"
    if re.fullmatch(_VERSION, version) is None:
        raise refuse(f"'{version}' is not a version", "write path@latest or path@v1.2.3")
    return Spec(path, f"{path}@{version}")
