"""cargo: programs from crates. The specs are read; installing them is not there yet."""

from __future__ import annotations

import re

from pkgcache.report import MARK
from pkgcache.specs import Spec, refuse

_NAME = r"[A-Za-z][A-Za-z0-9_-]{0,63}"
_NUMBER = r"(?:0|[1-9][0-9]*)"
_VERSION = rf"{_NUMBER}(?:\.{_NUMBER}){{0,2}}(?:-[0-9A-Za-z.-]+)?(?:\+[0-9A-Za-z.-]+)?"
_REQUIREMENT = rf"(?:[=^~]|[<>]=?)?{_VERSION}"


def parse(text: str) -> Spec:
    """`name` or `name@requirement`, the requirement as cargo writes them (`14.1.1`, `^1.2`, `~0.3`)."""
    name, at, requirement = text.partition("@")
    if re.fullmatch(_NAME, name) is None:
        raise refuse("it is not a crate name", "write name or name@version")
    requirement = requirement.strip()
    if at and re.fullmatch(_REQUIREMENT, requirement) is None:
        raise refuse(f"'{requirement}' is not a version requirement", "write name@1.2.3")
    return Spec(name.lower().replace("_", "-"), f"{name}@{requirement}" if at else name)


# Without a network, cargo names the index that it could not reach, whatever its configuration made of it.
PROBE = f"""command -v cargo >/dev/null || exit 0
from='built-in default'
for file in /.cargo/config.toml /.cargo/config "${{CARGO_HOME:-$HOME/.cargo}}"/config.toml; do
  if test -e "$file"; then from=$file; fi
done
CARGO_NET_RETRY=0 cargo install --root /tmp/none a 2>&1 | sed -n 's/.*`\\(https*:[^`]*\\)`.*/\\1/p' | sort -u |
while read -r url; do
  printf '{MARK}endpoint\tcargo\t%s\t%s\n{MARK}follow\tcargo\t%s\n' "$url" "$from" "$url"
done
printf '{MARK}tool\tcargo\t%s\n' "$(cargo --version | cut -d' ' -f2)"
printf '{MARK}tool\trustc\t%s\n' "$(rustc --version | cut -d' ' -f2)"
"""
# The index's configuration names the servers of the archives and of the interface.
FOLLOW = f"""for url in "$@"; do
  case $url in */config.json)
    curl -fsS --max-time 60 "$url" | grep -o '"https*://[^"]*"' | tr -d '"' |
    while read -r server; do printf '{MARK}endpoint\tcargo\t%s\tthe index\n' "$server"; done
  esac
done
"""
