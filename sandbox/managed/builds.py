"""What environments need built, and how far that is: a record that the building process keeps and everybody reads."""

import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from sandbox import images
from sandbox.idmap import IdMap
from sandbox.managed import identifiers
from sandbox.managed.database import Database, Document, dump, load
from sandbox.managed.failures import Refused
from sandbox.processes import started

if TYPE_CHECKING:
    from pkgcache.buildlog import BoundedFile
    from pkgcache.image import Image
    from pkgcache.phases import Event

_LINES = 10
_EVERY_S = 0.3
_UNDER_WAY = ("queued", "building")


class Need(NamedTuple):
    """What a session of an environment stands on, besides the machine itself."""

    base: str
    wanted: tuple[tuple[str, tuple[str, ...]], ...]
    allowed_hosts: tuple[str, ...]
    endpoints: bool

    @property
    def fingerprint(self) -> str:
        """The same only for what is built alike."""
        # Loads OpenSSL, which finding that all is built doesn't need.
        import hashlib

        return hashlib.sha256(repr(tuple(self)).encode()).hexdigest()[:32]


class Place(NamedTuple):
    """Whose builds these are, and where they and their records are."""

    data: str
    ids: IdMap
    folder: str

    def log(self, identifier: str) -> str:
        """The log of the last build of that environment."""
        return os.path.join(self.folder, "builds", f"{identifier}.log")


class BuildFailed(Refused):
    """An environment's packages could not be built. ``details`` name the manager, the package and the log."""

    exit_code = 125


def need_of(environment: Document) -> Need | None:
    """None when its sessions stand on the machine itself, or elsewhere."""
    config = environment["config"]
    if config["type"] != "cloud":
        return None
    packages, networking = config["packages"], config["networking"]
    wanted = tuple((name, tuple(specs)) for name, specs in packages.items() if name != "type" and specs)
    endpoints = bool(networking.get("allow_package_managers"))
    if not wanted and not endpoints:
        return None
    hosts = tuple(networking.get("allowed_hosts", ()))
    return Need(images.default_base(dict(wanted)), wanted, hosts, endpoints)


def ready(data: str, ids: IdMap, need: Need | None) -> "Image | None":
    """The image, when nothing is left to be built. Runs nothing and takes a millisecond or two."""
    if need is None:
        from pkgcache.image import Image as Made

        return Made(None, ())
    from pkgcache.memo import recall

    store = images.store(data, ids)
    return recall(store, need.base, dict(need.wanted), need_endpoints=need.endpoints)


def make(
    place: Place, need: Need, environment: Mapping[str, str], progress: "Callable[[Event], None]"
) -> "Image":
    """The image, what is missing of it being built here and now."""
    return images.make(
        place.data,
        place.ids,
        need.base,
        dict(need.wanted),
        environment=environment,
        allowed_hosts=need.allowed_hosts,
        need_endpoints=need.endpoints,
        progress=progress,
    )


def state(database: Database, place: Place, environment: Document) -> Document:
    """How far the environment's build is. ``state``: not_built, queued, building, ready, failed, or interrupted when
    the process that was to build it is gone."""
    need = need_of(environment)
    found: Document = {
        "type": "environment_build",
        "environment_id": environment["id"],
        "state": "not_built",
        "manager": None,
        "phase": None,
        "progress": None,
        "lines": [],
        "started_at": None,
        "finished_at": None,
        "problem": None,
        "log": None,
    }
    row = None if need is None else _row(database, environment["id"], need)
    if row is not None:
        found |= {name: row[name] for name in found if name in row}
        if row["state"] in _UNDER_WAY and not _alive(row):
            found["state"] = "interrupted"
        elif row["state"] == "ready":
            # Its layers may have been pruned since.
            found["state"] = "not_built"
    if ready(place.data, place.ids, need) is not None:
        found |= {"state": "ready", "problem": None}
        if found["started_at"] is not None and found["finished_at"] is None:
            # It is there a moment before its own process writes so.
            found["finished_at"] = identifiers.now()
    return found


class Recorder:
    """Keeps the record of one build, in the process that does it or will have it done.

    ``claim`` says whether the record is this process's to keep; without it everything here does nothing.
    """

    def __init__(self, database: Database, place: Place, identifier: str, need: Need) -> None:
        self._database = database
        self._identifier = identifier
        self._need = need.fingerprint
        self._path = place.log(identifier)
        self._lines: deque[str] = deque(maxlen=_LINES)
        self._last = 0.0
        self._mine = False
        self._fresh = True
        self._file: BoundedFile | None = None
        self.document: Document = {}

    def claim(self, state: str) -> bool:
        """Begin, unless another process that lives is at the same."""
        process = _process(os.getpid())
        self.document = {
            "id": self._identifier,
            "state": state,
            "process": process,
            "lines": [],
            "started_at": identifiers.now(),
            "log": self._path,
        }
        with self._database.write() as connection:
            row = connection.execute(
                "SELECT need, doc FROM environment_builds WHERE id = ?", (self._identifier,)
            ).fetchone()
            other = None if row is None or row[0] != self._need else load(row[1])
            if other and other["state"] in _UNDER_WAY and other["process"] != process and _alive(other):
                return False
            connection.execute(
                "INSERT OR REPLACE INTO environment_builds (id, need, doc) SELECT ?, ?, ? "
                "WHERE EXISTS (SELECT 1 FROM environments WHERE id = ?)",
                (self._identifier, self._need, dump(self.document), self._identifier),
            )
        os.makedirs(os.path.dirname(self._path), mode=0o700, exist_ok=True)
        self._mine = True
        return True

    def take_over(self) -> None:
        """Go on with what the process that started this one claimed."""
        row = self._database.get("environment_builds", self._identifier)
        if row is not None:
            self._mine, self._fresh = True, False
            self._write(row | {"state": "building", "process": _process(os.getpid())})

    def show(self, event: "Event") -> None:
        """A step of the build."""
        if not self._mine:
            return
        line = f"{event.manager} {event.phase} {event.elapsed_s:.1f} s {event.text}".rstrip()
        self._log(line)
        self._lines.append(line)
        now = time.monotonic()
        if now - self._last >= _EVERY_S or event.phase != self.document.get("phase"):
            self._last = now
            step = {"manager": event.manager, "phase": event.phase, "progress": event.text}
            self._write(self.document | step | {"state": "building", "lines": list(self._lines)})

    def _log(self, line: str) -> None:
        if self._file is None:
            from pkgcache.buildlog import BoundedFile

            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | (os.O_TRUNC if self._fresh else 0)
            self._file = BoundedFile(open(os.open(self._path, flags, 0o600), "r+b", buffering=0))  # noqa: SIM115
        self._file.write(f"{line}\n".encode(errors="replace"))

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def done(self, problem: Document | None = None) -> None:
        """The end. ``problem``: what ``problem_of`` told."""
        self._close()
        if self._mine:
            end = {"state": "failed" if problem else "ready", "problem": problem, "process": None}
            self._write(self.document | end | {"lines": list(self._lines), "finished_at": identifiers.now()})

    def give_up(self) -> None:
        """Nobody goes on with it."""
        self._close()
        if self._mine:
            self._write(self.document | {"state": "interrupted", "process": None})

    def _write(self, document: Document) -> None:
        self.document = document
        with self._database.write() as connection:
            # Nothing is written over the record of a later, different need.
            connection.execute(
                "UPDATE environment_builds SET doc = ? WHERE id = ? AND need = ?",
                (dump(document), self._identifier, self._need),
            )


@contextmanager
def recorded(database: Database, place: Place, environment: Document) -> "Iterator[Callable[[Event], None]]":
    """Keep the record of a build of ``environment`` that this process does in the block; yields what is to be told
    each step."""
    need = need_of(environment)
    if need is None:
        yield lambda _: None
        return
    recorder = Recorder(database, place, environment["id"], need)
    recorder.claim("building")
    try:
        yield recorder.show
    except BaseException as error:
        if isinstance(error, Exception) and isinstance(getattr(error, "exit_code", None), int):
            recorder.done(problem_of(error))
        else:
            recorder.give_up()
        raise
    recorder.done()


def problem_of(error: Exception) -> Document:
    """A failed build as plain values: the message, what to do, and for packages which manager, package and log."""
    return {
        "message": str(error),
        "hint": getattr(error, "hint", ""),
        "manager": getattr(error, "manager", None),
        "package": getattr(error, "package", None),
        "lines": list(getattr(error, "tail", ())),
        "log": getattr(error, "log", None),
    }


def failure(environment: Document, problem: Mapping[str, Any]) -> BuildFailed:
    """What waits for the build gets instead of an image."""
    named = {name: problem[name] for name in ("manager", "package", "lines", "log") if problem.get(name)}
    return BuildFailed(
        "invalid_request_error",
        f"The environment {environment['name']} could not be built: {problem['message']}",
        code="environment_build_failed",
        details=named,
        hint=problem.get("hint", ""),
    )


def _row(database: Database, identifier: str, need: Need) -> Document | None:
    with database.read() as connection:
        row = connection.execute(
            "SELECT doc FROM environment_builds WHERE id = ? AND need = ?", (identifier, need.fingerprint)
        ).fetchone()
    return None if row is None else load(row[0])


def _process(pid: int) -> list[int | str]:
    """A process as it is told from a later one that has its number."""
    return [pid, started(pid)]


def _alive(row: Document) -> bool:
    return bool(row["process"]) and row["process"][1] == (started(row["process"][0]) or None)
