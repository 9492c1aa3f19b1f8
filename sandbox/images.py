"""What sessions stand on, from the package store: the machine itself, a base, layers of packages."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from sandbox.idmap import IdMap

if TYPE_CHECKING:
    from netpolicy.policy import ConnectTo
    from pkgcache.image import Image
    from pkgcache.lock import Change, Lock
    from pkgcache.phases import Event
    from pkgcache.resolve import Resolution
    from pkgcache.runner import Endpoint
    from pkgcache.store import Store

HOST = "host"
DEBIAN = "debian"

Wanted = Mapping[str, Sequence[str]]


def store(data: str, ids: IdMap) -> "Store":
    """The package store whose files belong to ``ids``."""
    from pkgcache.store import open_store

    def as_owner(work: Callable[[], None]) -> None:
        from sandbox.removal import as_session_root

        as_session_root(ids, work)

    def needed() -> frozenset[str]:
        from sandbox.containers.directory import held

        return held(data, ids)

    return open_store(f"{data}/store/{ids.name}", as_owner, needed)


def default_base(wanted: Wanted) -> str:
    """``host`` needs nothing; packages need a base that the session's ids own."""
    return DEBIAN if wanted else HOST


def resolve(data: str, ids: IdMap, base: str, wanted: Wanted, *, need_endpoints: bool) -> "Resolution":
    """What ``wanted`` on ``base`` comes to, and what of it is there. Runs nothing."""
    from pkgcache.resolve import resolve as resolve_

    return resolve_(store(data, ids), base, wanted, need_endpoints=need_endpoints)


def endpoints(data: str, ids: IdMap, base: str, wanted: Wanted) -> "tuple[Endpoint, ...] | None":
    """The package managers' servers of ``wanted`` on ``base``; None while something of it is not built."""
    from pkgcache.resolve import image

    found = resolve(data, ids, base, wanted, need_endpoints=True)
    return image(store(data, ids), found).endpoints if found.ready else None


def exported_environment(image: "Image") -> dict[str, str]:
    """The variables of an image's own, for those who run it elsewhere."""
    from sandbox.spec import session_environment

    own = dict(image.environment)
    return {**own, "PATH": session_environment(own)["PATH"]}


def make(
    data: str,
    ids: IdMap,
    base: str,
    wanted: Wanted,
    *,
    environment: Mapping[str, str],
    allowed_hosts: Sequence[str],
    need_endpoints: bool,
    progress: "Callable[[Event], None]",
    refresh: bool = False,
    lock: "Lock | None" = None,
    offline: bool = False,
    connect_to: "Sequence[ConnectTo]" = (),
) -> "Image":
    """The image of ``wanted`` on ``base``, what is missing of it being built first.

    ``refresh``: specs are resolved again. ``lock``: the packages are those that it names. ``offline``: without the
    network, from what is kept. ``connect_to``: where the user says that hosts are.
    """
    from pkgcache.memo import recall

    kept = store(data, ids)
    if not refresh and lock is None:
        known = recall(kept, base, wanted, need_endpoints=need_endpoints)
        if known is not None:
            return known
    from pkgcache.build import build
    from sandbox.build_runner import make_remove, make_runner

    return build(
        kept,
        base,
        wanted,
        runner=make_runner(ids, data, environment, connect_to),
        remove=make_remove(ids),
        allowed_hosts=allowed_hosts,
        progress=progress,
        need_endpoints=need_endpoints,
        refresh=refresh,
        lock=lock,
        offline=offline,
    )


def lock(data: str, ids: IdMap, base: str, wanted: Wanted) -> "Lock":
    """What is really installed of ``wanted`` on ``base``. StoreError while it is not built."""
    from pkgcache.build import read_lock

    return read_lock(store(data, ids), resolve(data, ids, base, wanted, need_endpoints=False))


def outdated(
    data: str,
    ids: IdMap,
    base: str,
    wanted: Wanted,
    *,
    environment: Mapping[str, str],
    allowed_hosts: Sequence[str],
    progress: "Callable[[Event], None]",
) -> "tuple[tuple[str, tuple[Change, ...]], ...]":
    """For each manager what it would install otherwise now."""
    from pkgcache.build import outdated as outdated_
    from sandbox.build_runner import make_remove, make_runner

    return outdated_(
        store(data, ids),
        base,
        wanted,
        runner=make_runner(ids, data, environment),
        remove=make_remove(ids),
        allowed_hosts=allowed_hosts,
        progress=progress,
    )
