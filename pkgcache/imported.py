"""Bases from elsewhere: a root file system's archive, or an image in an OCI layout.

What is read is checked here, in the caller's process, by size and digest. What is unpacked is unpacked in a process
confined to the new base's directory.
"""

from __future__ import annotations

import json
import os
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import IO, Any, NamedTuple

from pkgcache import names, oci, report
from pkgcache.bases import check_name, read_base, read_record
from pkgcache.buildlog import BuildLog
from pkgcache.debian import LIST, packages_to_json
from pkgcache.errors import InputError, StoreError
from pkgcache.names import HOST
from pkgcache.phases import Event, Progress, World, now, open_log, probe
from pkgcache.records import IMPORTED, BaseRecord, to_json
from pkgcache.runner import Inside, Remove, Root, Runner
from pkgcache.settle import settle
from pkgcache.specs import MANAGERS
from pkgcache.store import Store, create, exclusive, explain, point, publish, sweep, workplace, write
from pkgcache.streams import DAMAGED, Digested, TooMuch, guess, reader
from pkgcache.unpack import ENTRIES, Full, Refused, unpack

# What an image may leave of the disk, so that the machine goes on working.
_RESERVE = 256 << 20
_MAGIC = 8
_SHELLS = ("bin/sh", "usr/bin/sh")


class _Blob(NamedTuple):
    """An archive to be unpacked. `announced`, if known: digest, size, and digest of what is in it."""

    path: str
    compression: str
    layer: bool
    announced: tuple[str, int, str] | None


class _Source(NamedTuple):
    """What is to be imported; `digest` is "" while it is not known."""

    blobs: tuple[_Blob, ...]
    digest: str
    environment: tuple[tuple[str, str], ...]


def import_base(
    store: Store,
    name: str,
    path: str,
    *,
    inside: Inside,
    runner: Runner,
    remove: Remove,
    tag: str | None = None,
    replace: bool = False,
    progress: Progress = lambda _: None,
) -> BaseRecord:
    """The base called `name`, made from the archive or the OCI layout directory at `path`.

    `tag` chooses among a layout's images. `replace`: a base of that name gives it up; sessions on it keep it. The
    same content has the same id, so that layers made on it are found again. Raises InputError for what can't be
    imported, StoreError; then nothing of it stays.
    """
    check_name(name)
    if name == HOST:
        raise InputError("the base 'host' is the machine itself", "import under another name")
    source = _look(path, tag, names.platform())
    begun = time.monotonic()

    def say(phase: str, text: str) -> None:
        progress(Event("base", phase, text, time.monotonic() - begun))

    create(store)
    sweep(store, remove)
    with exclusive(
        store, f"base-{name}", lambda: say("waiting", f"another process is making the base {name}")
    ):
        existing = read_base(store, name)
        if existing is not None and source.digest and existing.id == _identity(name, source.digest):
            return existing
        if existing is not None and not replace:
            raise InputError(
                f"there is a base '{name}' already",
                "give another name, or --replace to have this one instead",
            )
        known = read_record(store, _identity(name, source.digest)) if source.digest else None
        if known is not None:
            point(store, name, known.id)
            return known
        with (
            workplace(store, remove) as place,
            open_log(store, f"base-{name}", lambda text: say("probe", text)) as log,
        ):
            made = f"{place}/made"
            root = f"{made}/root"
            try:
                os.mkdir(made)
                os.mkdir(root, 0o755)
            except OSError as error:
                raise explain(error, store) from error
            digest = source.digest
            for number, blob in enumerate(source.blobs, 1):
                say("unpack", f"{os.path.basename(blob.path)} ({number} of {len(source.blobs)})")
                found, told = _unpack(store, blob, root, inside)
                digest = digest or found
                log.note(told)
            _check_is_a_root(source, root)
            inside(root, settle)
            identity = _identity(name, digest)
            record = read_record(store, identity)
            if record is None:
                record, packages = _describe(
                    World(store, runner, (), (), None), identity, name, root, source, log
                )
                write(store, f"{made}/base.json", to_json(record))
                write(store, f"{made}/packages.json", packages)
                say("publish", f"base {name}")
                publish(store, made, store.base(identity))
            point(store, name, identity)
        os.unlink(log.path)
    servers = ", ".join(sorted({endpoint.host for endpoint in record.endpoints}))
    say("done", f"base {name}: imported; its package managers' servers: {servers or 'none'}")
    return record


def _identity(name: str, digest: str) -> str:
    return f"{name}-{digest.partition(':')[2][:16]}"


def _describe(
    world: World, identity: str, name: str, root: str, source: _Source, log: BuildLog
) -> tuple[BaseRecord, str]:
    """Ask what is in the new root which managers it has."""
    marks: Sequence[tuple[str, ...]] = ()
    # An image of one static program has no shell, nor any package manager.
    if any(os.path.lexists(f"{root}/{shell}") for shell in _SHELLS):
        world = world._replace(environment=dict(source.environment), foreign=identity)
        marks = probe(world, Root(root), MANAGERS, log, extra=LIST)
    record = BaseRecord(
        identity,
        name,
        profile=IMPORTED,
        created=now(),
        tools=report.tools(marks),
        endpoints=report.endpoints(marks),
        environment=source.environment,
    )
    return record, packages_to_json(report.packages(marks))


def _check_is_a_root(source: _Source, root: str) -> None:
    """An archive of images looks like one of a file system until it is unpacked."""
    there = {
        name for name in ("oci-layout", "manifest.json", "bin", "usr") if os.path.lexists(f"{root}/{name}")
    }
    if not source.blobs[0].layer and ("oci-layout" in there or there == {"manifest.json"}):
        raise InputError(
            f"{source.blobs[0].path}: it is an archive of images, not of a root file system",
            "if it has an index.json, unpack it with tar and import the directory",
        )


# ---------------------------------------------------------------- what there is to import


def _look(path: str, tag: str | None, platform: str) -> _Source:
    try:
        is_directory = stat.S_ISDIR(os.stat(path).st_mode)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}", "check the path") from error
    if is_directory:
        return _look_at_layout(os.path.abspath(path), tag, platform)
    if tag is not None:
        raise InputError(f"{path}: --tag chooses an image of an OCI layout directory; this is a file")
    with _opened(path) as file:
        compression = guess(file.read(_MAGIC))
    return _Source((_Blob(path, compression, False, None),), "", ())


def _look_at_layout(path: str, tag: str | None, platform: str) -> _Source:
    if not os.path.lexists(f"{path}/index.json"):
        raise InputError(
            f"{path}: there is no index.json in it, so it is no OCI image layout",
            "name a layout's directory, or an archive of a root file system",
        )
    where = f"{path}/index.json"
    descriptor = oci.choose(_document(where, None), where, platform, tag)
    # An index may list further indexes.
    for _ in range(4):
        if not descriptor.is_index:
            break
        where = f"{path}/{descriptor.path}"
        descriptor = oci.choose(_document(where, descriptor), where, platform, None)
    else:
        raise InputError(f"{where}: indexes are nested too deep")
    where = f"{path}/{descriptor.path}"
    manifest = oci.read_manifest(_document(where, descriptor), where)
    where = f"{path}/{manifest.config.path}"
    config = oci.read_config(_document(where, manifest.config), where, platform, len(manifest.layers))
    blobs = tuple(
        _Blob(f"{path}/{layer.path}", compression, True, (layer.digest, layer.size, diff_id))
        for (layer, compression), diff_id in zip(manifest.layers, config.diff_ids, strict=True)
    )
    if not blobs:
        raise InputError(f"{path}: the image has no layers", "it holds no root file system")
    for blob in blobs:
        with _opened(blob.path):
            pass
    return _Source(blobs, descriptor.digest, config.environment)


def _document(path: str, announced: oci.Descriptor | None) -> bytes:
    """A small file of a layout, of the announced size and digest."""
    with _opened(path) as file:
        algorithm = "sha256" if announced is None else announced.digest.partition(":")[0]
        digested = Digested(file, algorithm, oci.LARGEST_DOCUMENT)
        try:
            text = digested.readall()
        except TooMuch:
            raise InputError(f"{path}: it is larger than {oci.LARGEST_DOCUMENT >> 20} MiB") from None
    if announced is not None:
        _compare(path, digested, announced.digest, announced.size)
    return text or b""


def _compare(path: str, found: Digested, digest: str, size: int) -> None:
    if (found.count, found.digest) != (size, digest):
        raise InputError(
            f"{path}: its {found.count} bytes with the digest {found.digest} are not the {size} bytes with "
            f"{digest} that are announced",
            "it was changed or damaged on its way: fetch the image again",
        )


@contextmanager
def _opened(path: str) -> Iterator[IO[bytes]]:
    """A regular file. Opening a pipe must not wait for whoever writes to it."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}", "it is needed for the import") from error
    with open(fd, "rb") as file:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise InputError(f"{path}: it is no regular file", "name an archive, or a layout's directory")
        yield file


# ---------------------------------------------------------------- unpacking


def _unpack(store: Store, blob: _Blob, root: str, inside: Inside) -> tuple[str, str]:
    """Unpack over what is in `root`: the archive's own digest, and a line for the log."""
    with ExitStack() as stack:
        file = stack.enter_context(_opened(blob.path))
        told = json.loads(inside(root, _work(blob, file, _room(store), _entries(store))))
    if "full" in told:
        raise StoreError(
            f"{blob.path} unpacks to more than the disk that holds {store.path} has room for",
            "free some space, then try again",
        )
    if "refused" in told:
        raise InputError(f"{blob.path}: {told['refused']}", "it can't be imported")
    if blob.announced is not None:
        digest, size, diff_id = blob.announced
        if (told["size"], told["digest"]) != (size, digest) or told["diff_id"] != diff_id:
            raise InputError(
                f"{blob.path}: it has {told['size']} bytes with the digest {told['digest']}, unpacked "
                f"{told['diff_id']}; announced are {size} bytes, {digest}, unpacked {diff_id}",
                "it was changed or damaged on its way: fetch the image again",
            )
    left_out = f", {told['devices']} device nodes left out" if told["devices"] else ""
    return told["digest"], f"{blob.path}: {told['entries']} entries{left_out}"


def _work(blob: _Blob, file: IO[bytes], room: int, entries: int) -> Callable[[], str]:
    def work() -> str:
        answer: dict[str, Any]
        try:
            answer = _lay(blob, file, room, entries)
        except (Full, TooMuch):
            answer = {"full": True}
        except Refused as error:
            answer = {"refused": str(error)}
        except (MemoryError, RecursionError):
            answer = {"refused": "reading it takes more memory than an honest archive needs"}
        except DAMAGED as error:
            answer = {"refused": f"the compressed data is damaged ({error})"}
        except OSError as error:
            if error.errno is not None:
                raise
            answer = {"refused": f"the compressed data is damaged ({error})"}
        return json.dumps(answer)

    return work


def _lay(blob: _Blob, file: IO[bytes], room: int, entries: int) -> dict[str, Any]:
    algorithm, inner = "sha256", "sha256"
    size = None
    if blob.announced is not None:
        algorithm, inner = (digest.partition(":")[0] for digest in (blob.announced[0], blob.announced[2]))
        size = blob.announced[1]
    raw = Digested(file, algorithm, size)
    try:
        tar = Digested(reader(raw, blob.compression), inner, room)
        left = unpack(tar, layer=blob.layer, entries=entries, largest=room)  # type: ignore[arg-type]
        # Both digests are over everything, also what stands after the end of the archive.
        tar.drain()
        raw.drain()
    except TooMuch:
        if size is not None and raw.count > size:
            raise Refused(f"it is larger than the {size} bytes that are announced") from None
        raise
    return {
        "digest": raw.digest,
        "size": raw.count,
        "diff_id": tar.digest,
        "entries": left.entries,
        "devices": left.devices,
    }


def _room(store: Store) -> int:
    free = os.statvfs(store.path)
    return max(0, free.f_bavail * free.f_frsize - _RESERVE)


def _entries(store: Store) -> int:
    free = os.statvfs(store.path)
    # btrfs and others have no table of files that could fill up, and tell 0.
    return min(ENTRIES, free.f_favail) if free.f_files else ENTRIES
