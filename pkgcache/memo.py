"""The last answer to the same question, so that a session start neither parses specs nor computes keys.

An answer is found by the question's own words: the packages as they were written, the base as it stands now. It is
true for as long as the directories that it names are there, since nothing in them ever changes.
"""

from __future__ import annotations

import os
from binascii import crc32
from collections.abc import Mapping, Sequence

from pkgcache.image import Image
from pkgcache.machine import traits
from pkgcache.names import HOST, platform
from pkgcache.runner import Endpoint
from pkgcache.store import Store

_FORMAT = "image 2"


def recall(
    store: Store,
    base: str,
    packages: Mapping[str, Sequence[str]] | None = None,
    *,
    need_endpoints: bool = False,
) -> Image | None:
    """The image of these very words if it is in the store, else None: then `resolve` knows more."""
    question = _question(store, base, packages or {}, need_endpoints)
    try:
        with open(_path(store, question), encoding="utf-8", errors="surrogateescape", newline="") as file:
            lines = file.read().split("\n")
    except OSError:
        return None
    if lines[0] != question or lines[-1] != "end":
        return None
    image = _read(lines[1:-1])
    return image if all(map(os.path.isdir, image.held)) else None


def remember(
    store: Store, base: str, packages: Mapping[str, Sequence[str]] | None, need_endpoints: bool, image: Image
) -> None:
    """Keep an image for `recall`. An answer that can't be kept is no failure."""
    question = _question(store, base, packages or {}, need_endpoints)
    lines = [question, *_written(image), "end"]
    if any("\n" in line for line in lines):
        return
    path = _path(store, question)
    temporary = f"{path}.{os.urandom(4).hex()}"
    try:
        os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
        with open(temporary, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
            file.write("\n".join(lines))
        os.rename(temporary, path)
    except OSError:
        return


def _question(store: Store, base: str, packages: Mapping[str, Sequence[str]], need_endpoints: bool) -> str:
    """One line that is the same only when the answer must be."""
    if base == HOST:
        standing = repr(traits())
    else:
        try:
            standing = os.readlink(f"{store.names()}/{base}")
        except (OSError, ValueError):
            standing = ""
    try:
        chosen = os.stat(f"{store.path}/chosen").st_mtime_ns
    except OSError:
        chosen = 0
    wanted = sorted((str(manager), list(specs)) for manager, specs in packages.items())
    return repr((_FORMAT, store.path, platform(), base, standing, chosen, wanted, need_endpoints))


def _path(store: Store, question: str) -> str:
    return f"{store.path}/memo/{crc32(question.encode('utf-8', 'surrogateescape')):08x}"


def _written(image: Image) -> list[str]:
    lines = [f"base\t{image.base}"] if image.base is not None else []
    lines.append(f"id\t{image.base_id}")
    lines += [f"variable\t{name}\t{value}" for name, value in image.environment.items()]
    for name in ("layers", "keys", "held"):
        lines += [f"{name}\t{value}" for value in getattr(image, name)]
    for endpoint in image.endpoints:
        lines.append("\t".join(("endpoint", *map(str, endpoint))))
    return lines


def _read(lines: Sequence[str]) -> Image:
    base: str | None = None
    identity = ""
    lists: dict[str, list[str]] = {"layers": [], "keys": [], "held": []}
    endpoints = []
    environment: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition("\t")
        if name == "base":
            base = value
        elif name == "id":
            identity = value
        elif name == "variable":
            variable, _, environment[variable] = value.partition("\t")
        elif name == "endpoint":
            manager, scheme, host, port, source = value.split("\t", 4)
            endpoints.append(Endpoint(manager, scheme, host, int(port), source))
        else:
            lists[name].append(value)
    return Image(
        base,
        tuple(lists["layers"]),
        environment,
        tuple(endpoints),
        identity,
        tuple(lists["keys"]),
        tuple(lists["held"]),
    )
