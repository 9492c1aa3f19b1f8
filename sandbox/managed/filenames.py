"""What a file is called and of which kind it is, from what the caller says of it. Pure."""

import functools
import re
from typing import TYPE_CHECKING

from sandbox.managed.failures import invalid

if TYPE_CHECKING:
    from mimetypes import MimeTypes

LONGEST = 255
UNKNOWN = "application/octet-stream"
_FORBIDDEN = re.compile(r'[<>:"|?*\\/\x00-\x1f\x7f-\x9f]')
# RFC 6838 4.2, without parameters.
_MIME = re.compile(r"[a-z0-9][a-z0-9!#$&^_.+-]{0,126}/[a-z0-9][a-z0-9!#$&^_.+-]{0,126}")
_MORE_KINDS = {".md": "text/markdown", ".yaml": "application/yaml", ".yml": "application/yaml"}


@functools.cache
def _kinds() -> "MimeTypes":
    """The module's own table alone: what a machine has in /etc would make the same file another kind elsewhere."""
    from mimetypes import MimeTypes

    return MimeTypes(filenames=())


def uploaded(given: str | None, mime_type: str) -> str:
    """The name of an uploaded file: the last component of what the caller calls it. Refused when it can't be one."""
    name = re.split(r"[/\\]", given or "")[-1]
    if not name:
        return "unnamed" + (_kinds().guess_extension(mime_type) or "")
    if len(name) > LONGEST:
        raise invalid(f"file: the file's name has {len(name)} characters; {LONGEST} are allowed")
    bad = _FORBIDDEN.search(name)
    if bad is not None or not name.isprintable() or name in (".", ".."):
        told = f" ({bad[0]!r})" if bad else ""
        raise invalid(
            f"file: the file can't be called {name!r}{told}: a name has none of "
            '< > : " | ? * \\ / nor control characters'
        )
    return name


def produced(path: bytes) -> str:
    """The name of a file that a session left at ``path``: its last component, with _ for what a name can't have."""
    name = path.rpartition(b"/")[2].decode("utf-8", "replace").replace("\ufffd", "_")
    name = "".join(each if each.isprintable() else "_" for each in _FORBIDDEN.sub("_", name))
    return name[:LONGEST] if name.strip(". ") else "_"


def kind(name: str, given: str | None = None) -> str:
    """The MIME type of a file: as ``given`` when that says something, otherwise from its name."""
    said = (given or "").partition(";")[0].strip().lower()
    if said != UNKNOWN and _MIME.fullmatch(said):
        return said
    lowered = name.lower()
    for ending, mime_type in _MORE_KINDS.items():
        if lowered.endswith(ending):
            return mime_type
    guessed, encoding = _kinds().guess_type(lowered, strict=True)
    if encoding is not None:
        return {"gzip": "application/gzip", "bzip2": "application/x-bzip2", "xz": "application/x-xz"}.get(
            encoding, UNKNOWN
        )
    return guessed or UNKNOWN
