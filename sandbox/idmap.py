"""Which user and group ids a session has, and which ids of the host stand behind them.

Two modes. ``range``: 65,536 ids, 0 being the user who runs the session and the rest their subordinate ids (run by
root: all of them from an unprivileged range, never root's own id). ``single``: id 0 alone, with chown, setuid and
their like answered with success by a seccomp filter, for hosts without newuidmap or a subordinate range.
"""

import os
from collections.abc import Callable
from typing import NamedTuple

from sandbox.errors import HostError

RANGE = "range"
SINGLE = "single"
IDS = 65536
# systemd's table of ids leaves 1879048192…2147352575 to nobody.
ROOT_FIRST_ID = 2_000_000_000


class Extent(NamedTuple):
    """``size`` ids from ``inside`` in the session are ``count`` ids from ``outside`` on the host."""

    inside: int
    outside: int
    size: int


class IdMap(NamedTuple):
    """A session's ids. ``helper``: newuidmap and newgidmap write the maps (the caller may not)."""

    mode: str
    uids: tuple[Extent, ...]
    gids: tuple[Extent, ...]
    helper: bool

    @property
    def name(self) -> str:
        """A word for directories whose files belong to these ids."""
        first, last = self.uids[0], self.uids[-1]
        return (
            f"{self.mode}-{first.outside}"
            if len(self.uids) == 1
            else (f"{self.mode}-{first.outside}-{last.outside}")
        )

    @property
    def root_uid(self) -> int:
        """The host's id of the session's user 0."""
        return self.uids[0].outside

    @property
    def root_gid(self) -> int:
        """The host's id of the session's group 0."""
        return self.gids[0].outside

    def describe(self) -> str:
        return f"{self.mode}: uid {_text(self.uids)}; gid {_text(self.gids)}"


def _text(extents: tuple[Extent, ...]) -> str:
    return ", ".join(f"{e.inside}+{e.size}→{e.outside}" for e in extents)


class HostIds(NamedTuple):
    """What decides the map: the caller's ids, their subordinate ranges (first, count), the ids that exist here."""

    uid: int
    gid: int
    subuid: tuple[int, int] | None
    subgid: tuple[int, int] | None
    newuidmap: bool
    namespace_ids: int


def choose(host: HostIds, forced: str | None = None) -> IdMap:
    """The best map that ``host`` allows, or the ``forced`` mode; HostError when that mode can't be had."""
    privileged = host.uid == 0 and host.namespace_ids > 1
    if privileged:
        first = ROOT_FIRST_ID if host.namespace_ids > ROOT_FIRST_ID + IDS else host.namespace_ids - IDS
        uid_first = host.subuid[0] if host.subuid and host.subuid[1] >= IDS else first
        gid_first = host.subgid[0] if host.subgid and host.subgid[1] >= IDS else first
        if uid_first > 0 and gid_first > 0 and forced != SINGLE:
            return IdMap(RANGE, (Extent(0, uid_first, IDS),), (Extent(0, gid_first, IDS),), helper=False)
        if forced == RANGE:
            raise HostError(
                f"no 65,536 unprivileged ids: this user namespace has {host.namespace_ids}",
                hint="run without --ids range, or start from a namespace with more ids",
            )
        uid = uid_first if uid_first > 0 else host.namespace_ids - 1
        gid = gid_first if gid_first > 0 else host.namespace_ids - 1
        return IdMap(SINGLE, (Extent(0, uid, 1),), (Extent(0, gid, 1),), helper=False)
    if forced != SINGLE:
        problem = _range_problem(host)
        if problem is None:
            assert host.subuid and host.subgid
            return IdMap(
                RANGE,
                (Extent(0, host.uid, 1), Extent(1, host.subuid[0], IDS - 1)),
                (Extent(0, host.gid, 1), Extent(1, host.subgid[0], IDS - 1)),
                helper=True,
            )
        if forced == RANGE:
            raise HostError(
                f"a range of ids can't be mapped: {problem}",
                hint="sandboxctl doctor prints the remedy; --ids single needs neither",
            )
    return IdMap(SINGLE, (Extent(0, host.uid, 1),), (Extent(0, host.gid, 1),), helper=False)


def root_may_drop_groups() -> bool:
    """Whether this is root, and not the root of a namespace that was made by a user who may drop no groups."""
    if os.geteuid() != 0:
        return False
    with open("/proc/self/setgroups", encoding="ascii") as file:
        return file.read().strip() != "deny"


def roots_proxy_id(host: HostIds) -> int | None:
    """An id without rights for root's proxy, one that no session has where there are enough; None where 0 is the only
    id, as in a namespace that a user made with no more than his own.
    """
    wanted = (ROOT_FIRST_ID + IDS, host.namespace_ids - IDS - 1, host.namespace_ids - 2)
    return next((each for each in wanted if 0 < each < host.namespace_ids), None)


def _range_problem(host: HostIds) -> str | None:
    if not host.newuidmap:
        return "newuidmap and newgidmap are not installed"
    for file, given in (("/etc/subuid", host.subuid), ("/etc/subgid", host.subgid)):
        if given is None:
            return f"{file} gives this user no ids"
        if given[1] < IDS - 1:
            return f"{file} gives this user {given[1]} ids, fewer than {IDS - 1}"
    return None


def parse_subids(text: str, user: str, uid: int) -> tuple[int, int] | None:
    """The largest (first, count) that the text of /etc/subuid or /etc/subgid gives ``user`` (name or id)."""
    found: list[tuple[int, int]] = []
    for line in text.splitlines():
        fields = line.split(":")
        if len(fields) != 3 or fields[0] not in (user, str(uid)):
            continue
        if fields[1].isdigit() and fields[2].isdigit():
            found.append((int(fields[1]), int(fields[2])))
    return max(found, key=lambda given: given[1], default=None)


def read_host_ids() -> HostIds:
    """Look at this process and this machine."""
    uid, gid = os.geteuid(), os.getegid()
    user = _user_name(uid)
    newuidmap = all(_find(name) for name in ("newuidmap", "newgidmap"))
    return HostIds(
        uid=uid,
        gid=gid,
        subuid=parse_subids(_read("/etc/subuid"), user, uid),
        subgid=parse_subids(_read("/etc/subgid"), user, uid),
        newuidmap=newuidmap,
        namespace_ids=_namespace_ids(_read("/proc/self/uid_map")),
    )


def _namespace_ids(uid_map: str) -> int:
    """One more than the highest id that exists in this user namespace without a gap from 0; 0 when none does."""
    end = 0
    for line in sorted(uid_map.splitlines(), key=lambda text: int(text.split()[0])):
        inside, _, count = (int(field) for field in line.split())
        if inside != end:
            break
        end += count
    return end


def _user_name(uid: int) -> str:
    # The pwd module asks the name service once; getpass would also believe $USER.
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _find(name: str) -> str | None:
    paths = (f"{folder}/{name}" for folder in ("/usr/bin", "/bin", "/usr/local/bin"))
    return next((path for path in paths if os.access(path, os.X_OK)), None)


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def write_maps(pid: int, ids: IdMap) -> None:
    """Give the process ``pid``, which stands in a new user namespace, its ids. HostError when that is refused."""
    begin_maps(pid, ids)()


def begin_maps(pid: int, ids: IdMap) -> Callable[[], None]:
    """As write_maps, but without waiting for the helper programs: the function that is returned does that."""
    if ids.helper:
        return _begin_helpers(pid, ids)
    try:
        if os.geteuid() != 0:
            # user_namespaces(7): a process without CAP_SETGID in the parent must deny setgroups first.
            _write(f"/proc/{pid}/setgroups", "deny")
        _write(f"/proc/{pid}/gid_map", _map_text(ids.gids))
        _write(f"/proc/{pid}/uid_map", _map_text(ids.uids))
    except OSError as error:
        raise HostError(
            f"the kernel refused the session's id map ({ids.describe()}): {error.strerror}",
            hint="sandboxctl doctor shows what this machine allows",
        ) from error
    return lambda: None


def _map_text(extents: tuple[Extent, ...]) -> str:
    return "".join(f"{e.inside} {e.outside} {e.size}\n" for e in extents)


def _write(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


def _begin_helpers(pid: int, ids: IdMap) -> Callable[[], None]:
    running: list[tuple[str, int]] = []
    for name, extents in (("newuidmap", ids.uids), ("newgidmap", ids.gids)):
        arguments = [str(number) for extent in extents for number in extent]
        running.append((name, os.posix_spawn(_find(name) or name, [name, str(pid), *arguments], {})))

    def wait() -> None:
        failed = [name for name, helper in running if os.waitpid(helper, 0)[1] != 0]
        if failed:
            raise HostError(
                f"{' and '.join(failed)} refused the session's id map ({ids.describe()})",
                hint="check /etc/subuid and /etc/subgid for this user, or use --ids single",
            )

    return wait
