"""Where repositories really are, when the user says that it is not at their URL: for tests and offline work."""

import os
from collections.abc import Sequence
from typing import NamedTuple

from sandbox.errors import InputError

FILE, AUTHORITIES = "rewrites", "rewrites.pem"


class Rewrite(NamedTuple):
    """What begins with ``url`` is at ``remote``: an http or https URL, or a directory of this machine.

    ``ca``: the authorities (PEM) that vouch for the remote; empty for those that the machine trusts.
    """

    url: str
    remote: str
    ca: bytes = b""

    @property
    def local(self) -> bool:
        """Whether the remote is a directory."""
        return self.remote.startswith("/")


def parse(text: str, ca: bytes = b"") -> Rewrite:
    """``URL=REMOTE``. InputError when it is neither."""
    url, _, remote = text.strip().partition("=")
    remote = remote.strip().removeprefix("file://")
    usable = remote.startswith("/") or _web(remote, ("http", "https"))
    if not _web(url.strip(), ("https",)) or not usable:
        raise InputError(
            f"the rewrite {text.strip()!r} can't be read",
            hint="write https://HOST/PATH=REMOTE, where REMOTE is http(s)://HOST/PATH or a directory",
        )
    return Rewrite(_plain(url.strip()), _plain(remote), ca)


def read(folder: str, given: Sequence[str] = (), ca: bytes = b"") -> tuple[Rewrite, ...]:
    """The rewrites that are ``given``, and those in the file ``rewrites`` of the records' folder, one a line.

    ``rewrites.pem`` beside it holds the authorities of theirs. InputError names the line that can't be read.
    """
    found = [parse(text, ca) for text in given]
    lines = _read(os.path.join(folder, FILE)).decode("utf-8", "replace").splitlines()
    authorities = _read(os.path.join(folder, AUTHORITIES))
    found += [
        parse(line, authorities) for line in lines if line.strip() and not line.lstrip().startswith("#")
    ]
    return tuple(found)


def find(rewrites: Sequence[Rewrite], url: str) -> Rewrite | None:
    """The rewrite that says most about the repository ``url``, with the repository's own remote."""
    plain = _plain(url)
    fitting = [each for each in rewrites if plain == each.url or plain.startswith(f"{each.url}/")]
    if not fitting:
        return None
    best = max(fitting, key=lambda each: len(each.url))
    return best._replace(url=plain, remote=best.remote + plain[len(best.url) :])


def directory(rewrite: Rewrite) -> str:
    """The directory of a local remote, under either of the names that it may have."""
    return next(
        (path for path in (rewrite.remote, f"{rewrite.remote}.git") if os.path.isdir(path)), rewrite.remote
    )


def _web(url: str, schemes: tuple[str, ...]) -> bool:
    from urllib.parse import urlsplit

    try:
        parts = urlsplit(url)
        return parts.scheme in schemes and bool(parts.hostname) and "@" not in parts.netloc
    except ValueError:
        return False


def _plain(url: str) -> str:
    return url.rstrip("/").removesuffix(".git")


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        return b""
