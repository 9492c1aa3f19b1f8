"""Host paths that a user gives to a session, held against each other: what is inside a given directory is a stranger's.

A link in a workspace (a repository brings links, and so does an earlier session) must not choose where outputs go or
what is copied in, when the user names a place in that workspace.
"""

import os
from collections.abc import Iterable, Iterator

from sandbox.errors import InputError


def holds(outer: str, inner: str) -> bool:
    """Whether the directory ``outer`` is ``inner`` or above it, links followed."""
    outer, inner = os.path.realpath(outer), os.path.realpath(inner)
    return inner == outer or inner.startswith(outer.rstrip("/") + "/")


def check_links(named: Iterable[tuple[str, str]], trees: Iterable[str]) -> None:
    """InputError when a path (with the option that names it) is in one of ``trees`` by name, and elsewhere by a link.

    Paths are absolute; what is missing at their end is no link.
    """
    given = {os.path.realpath(tree) for tree in trees}
    for option, path in named:
        for above in _above(path):
            tree = os.path.realpath(above)
            if tree in given and not holds(tree, path):
                raise InputError(
                    f"{option} {path}: a symbolic link in {above}, which the session is given, "
                    f"leads to {os.path.realpath(path)}",
                    hint="name that place itself if it is what you mean",
                )


def _above(path: str) -> Iterator[str]:
    while path != "/":
        path = os.path.dirname(path)
        yield path
