"""Making bases and layers that are not there yet, in sessions that the caller's runner isolates."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from pkgcache.resolve import Image
from pkgcache.runner import Remove, Runner
from pkgcache.store import Store


@dataclass(frozen=True, slots=True)
class Event:
    """Progress: `manager` ("base" or a package manager), `phase` ("waiting", "download", "install", "scripts",
    "reuse", "done", …), a line of output or a summary, and the seconds since that base or layer was begun."""

    manager: str
    phase: str
    text: str
    elapsed_s: float


Progress = Callable[[Event], None]


def build(
    store: Store,
    base: str,
    packages: Mapping[str, Sequence[str]],
    *,
    runner: Runner,
    remove: Remove,
    allowed_hosts: Sequence[str] = (),
    progress: Progress = lambda _: None,
    timeout_s: float | None = None,
    need_endpoints: bool = False,
) -> Image:
    """The image of `packages` on `base`, building what is missing: the base if it is one of the known names, then
    each layer. `timeout_s` limits each layer. Raises InputError, HostError, StoreError, BuildError.
    """
    raise NotImplementedError
