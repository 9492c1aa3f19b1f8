"""npm: packages installed globally beneath /usr/local."""

from __future__ import annotations

import re

from pkgcache.specs import Spec, refuse

# https://docs.npmjs.com/cli/configuring-npm/package-json#name; old packages have capitals.
_PART = r"[A-Za-z0-9~_-][A-Za-z0-9._~-]*"
_NAME = rf"(?:@{_PART}/)?{_PART}"
_RANGE = r"[0-9A-Za-z.^~<>=|*+ -]+"
# npm takes a name or a tag that ends so for a file in the working directory.
_FILE = (".tgz", ".tar.gz", ".tar")


def parse(text: str) -> Spec:
    """`name`, `@scope/name`, and either with `@version`, `@range` or `@tag`."""
    at = text.find("@", 1)
    name, wanted = (text, None) if at < 0 else (text[:at], text[at + 1 :])
    if re.fullmatch(_NAME, name) is None or len(name) > 214:
        if ":" in text or "/" in text:
            raise refuse(
                "addresses, repositories and paths are not taken", "write name@version from the registry"
            )
        raise refuse("it is not an npm package name", "write name, name@version or @scope/name@range")
    if name.startswith(("-", ".")) or name.lower().endswith(_FILE):
        raise refuse("npm would take it for a file")
    if wanted is None:
        return Spec(name, name)
    wanted = re.sub(r"\s+", " ", wanted.strip())
    if ":" in wanted or "/" in wanted:
        raise refuse(
            "addresses, repositories, paths and aliases are not taken", "write a version, a range or a tag"
        )
    if re.fullmatch(_RANGE, wanted) is None:
        raise refuse(f"'{wanted}' is not a version, range or tag", "write name@1.2.3 or name@^1.2")
    if wanted.startswith((".", "-")) or wanted.lower().endswith(_FILE):
        raise refuse("npm would take it for a file")
    return Spec(name, f"{name}@{wanted}")
