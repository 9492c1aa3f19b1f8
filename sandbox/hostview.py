"""What a session on the ``host`` base sees of this machine: /usr, /etc and /opt, and nothing mounted below them.

overlayfs in a user namespace refuses a lower directory with mounts below it (they are locked, and what they cover
must stay covered), so such a directory is split: its entries are shown one by one, and the mounted ones are left out.
"""

import os
import stat
from typing import NamedTuple

SHOWN = ("/usr", "/etc", "/opt")
LINKED = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
# The one place of the file hierarchy standard below SHOWN that administrators do keep on a file system of its own.
SHOWN_MOUNTS = frozenset({"/usr/local"})


class Entry(NamedTuple):
    """One name in a split directory. ``kind``: directory, file or link; ``sources`` hold it, topmost first."""

    name: str
    kind: str
    sources: tuple[str, ...]
    link: str = ""


class HostFacts(NamedTuple):
    """What the planner needs to know of the host and the layers.

    ``trees``: the machine's directories that are shown: path in the session → the directories that hold it, those of
    layers first. ``split``: directories with mounts below → their entries. ``links``: /bin and its like → where to.
    """

    trees: tuple[tuple[str, tuple[str, ...]], ...]
    split: tuple[tuple[str, tuple[Entry, ...]], ...] = ()
    links: tuple[tuple[str, str], ...] = ()


def parse_mountinfo(text: str) -> frozenset[str]:
    """The mount points in the text of /proc/self/mountinfo (proc_pid_mountinfo(5))."""
    points = set()
    for line in text.splitlines():
        fields = line.split(" ", 5)
        if len(fields) == 6:
            points.add(_unescaped(fields[4]))
    return frozenset(points)


def _unescaped(path: str) -> str:
    # The kernel writes blank, tab, newline and backslash as three octal digits.
    if "\\" not in path:
        return path
    for code, char in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        path = path.replace(code, char)
    return path


def mounts_below(path: str, mounts: frozenset[str]) -> list[str]:
    """Those of ``mounts`` that lie strictly below ``path``."""
    prefix = path.rstrip("/") + "/"
    return sorted(mount for mount in mounts if mount.startswith(prefix))


def read_mounts() -> frozenset[str]:
    """The mount points that this process sees."""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        return parse_mountinfo(file.read())


def read_host(layers: tuple[str, ...]) -> HostFacts:
    """Look at the machine's own root and at the top of each layer."""
    mounts = read_mounts()
    links = []
    shown = [path for path in SHOWN if os.path.isdir(path)]
    for name in LINKED:
        path = f"/{name}"
        try:
            links.append((path, os.readlink(path)))
        except FileNotFoundError:
            continue
        except OSError:
            shown.append(path)
    trees = [(path, (*(f"{layer}{path}" for layer in layers if _holds(layer, path)), path)) for path in shown]
    split: dict[str, tuple[Entry, ...]] = {}
    for path, sources in trees:
        _split(path, sources, mounts, split)
    return HostFacts(trees=tuple(trees), split=tuple(split.items()), links=tuple(links))


def _holds(layer: str, path: str) -> bool:
    return os.path.isdir(f"{layer}{path}") and not os.path.islink(f"{layer}{path}")


def _split(
    path: str, sources: tuple[str, ...], mounts: frozenset[str], into: dict[str, tuple[Entry, ...]]
) -> None:
    if not mounts_below(path, mounts):
        return
    entries = _entries(path, sources, mounts)
    into[path] = entries
    for entry in entries:
        if entry.kind == "directory":
            _split(f"{path}/{entry.name}", entry.sources, mounts, into)


def _entries(path: str, sources: tuple[str, ...], mounts: frozenset[str]) -> tuple[Entry, ...]:
    found: dict[str, Entry] = {}
    for source in sources:
        for item in sorted(os.scandir(source), key=lambda item: item.name):
            where = f"{path}/{item.name}"
            if source == path and where in mounts and where not in SHOWN_MOUNTS:
                continue
            mode = item.stat(follow_symlinks=False).st_mode
            kind = next((name for test, name in _KINDS if test(mode)), None)
            above = found.get(item.name)
            if kind is None:
                continue
            if above is None:
                link = os.readlink(item.path) if kind == "link" else ""
                found[item.name] = Entry(item.name, kind, (item.path,), link)
            elif above.kind == kind == "directory":
                found[item.name] = above._replace(sources=(*above.sources, item.path))
    return tuple(found.values())


_KINDS = ((stat.S_ISDIR, "directory"), (stat.S_ISREG, "file"), (stat.S_ISLNK, "link"))
