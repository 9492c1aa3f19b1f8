"""go: programs from modules. The specs are read; installing them is not there yet."""

from __future__ import annotations

import re

from pkgcache.report import MARK
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


# GOPROXY is a list with words among the addresses; GOSUMDB is a name, perhaps with a key and an address of its own.
PROBE = f"""command -v go >/dev/null || exit 0
from() {{
  file=$(go env GOENV)
  if grep -qs "^$1=" "$file"; then echo "$file"; else echo 'built-in default'; fi
}}
for url in $(go env GOPROXY | tr ',|' '  '); do
  printf '{MARK}endpoint\tgo\t%s\t%s\n' "$url" "$(from GOPROXY)"
done
set -- $(go env GOSUMDB)
test "${{1:-off}}" = off || printf '{MARK}endpoint\tgo\t%s\t%s\n' "${{2:-https://${{1%%+*}}}}" "$(from GOSUMDB)"
printf '{MARK}tool\tgo\t%s\n' "$(go env GOVERSION | sed 's/^go//')"
"""
FOLLOW = ""
