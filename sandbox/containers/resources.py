"""The files that are attached to a container, and the list of them, which outlasts its processes."""

import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from sandbox.containers.directory import Place, absent, read_attached, write_attached
from sandbox.containers.spec import Attachment, is_name
from sandbox.errors import HostError, InputError
from sandbox.inroot import Opened

_FICLONE = 0x40049409


def check(name: str, target: str) -> None:
    """InputError unless ``target`` can be a file's path in a session."""
    if not is_name(name):
        raise InputError(f"{name!r} can't name an attached file", hint="use letters, digits, - and _")
    parts = target.split("/")
    if parts[0] or len(parts) < 2 or {"", ".", ".."}.intersection(parts[1:]) or "\0" in target:
        raise InputError(
            f"{target!r} can't be a file's path in a session",
            hint="write an absolute path without . and .. and without a slash at its end",
        )


@contextmanager
def changing(place: Place) -> Iterator[None]:
    """Be the only one to change the list."""
    try:
        fd = os.open(f"{place.path}/resources", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise absent(place) from error
    with Opened(fd):
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield


def add(place: Place, new: Attachment, source: str) -> bool:
    """Take the host's file ``source`` in and put it on the list; False when it is there already.

    To be called while `changing`. InputError when its name or its target is another's, or the file can't be read.
    """
    if new in read_attached(place):
        return False
    add_all(place, ((new, source),))
    return True


def add_all(place: Place, wanted: Sequence[tuple[Attachment, str]]) -> None:
    """As `add`, each with its source; the list is written once. Nothing is listed when one can't be."""
    listed = list(read_attached(place))
    names = {each.name: each for each in listed}
    targets = {each.target: each for each in listed}
    for new, source in wanted:
        check(*new)
        other = names.get(new.name) or targets.get(new.target)
        if other is not None:
            raise InputError(
                f"{new.name} can't be attached at {new.target}: {other.name} is at {other.target}",
                hint="use another path, or detach that one first",
            )
        _take(source, f"{place.path}/resources/{new.name}")
        names[new.name] = targets[new.target] = new
        listed.append(new)
    write_attached(place, tuple(listed))


def drop(place: Place, attachment: Attachment) -> None:
    """Take a file off the list, and remove it. To be called while `changing`."""
    write_attached(place, tuple(each for each in read_attached(place) if each != attachment))
    with suppress(FileNotFoundError):
        os.unlink(f"{place.path}/resources/{attachment.name}")


def find(place: Place, name: str) -> Attachment | None:
    """What is on the list by that name."""
    return next((each for each in read_attached(place) if each.name == name), None)


def _take(source: str, target: str) -> None:
    """Link a file that everybody may read, copy every other: what runs in a session may be any of its users."""
    with suppress(FileNotFoundError):
        os.unlink(target)
    try:
        with open(source, "rb") as read:
            if os.fstat(read.fileno()).st_mode & 0o004:
                with suppress(OSError):
                    os.link(f"/proc/self/fd/{read.fileno()}", target, follow_symlinks=True)
                    return
            with open(target, "xb") as write:
                os.fchmod(write.fileno(), 0o444)
                try:
                    fcntl.ioctl(write.fileno(), _FICLONE, read.fileno())
                except OSError:
                    while os.copy_file_range(read.fileno(), write.fileno(), 1 << 30):
                        pass
    except OSError as error:
        if error.filename == source or isinstance(error, FileNotFoundError):
            raise InputError(
                f"{source} can't be attached: {error.strerror}", hint="name a file that can be read"
            ) from error
        raise HostError(
            f"{source} can't be copied into the container: {error.strerror}", hint="free some space"
        ) from error
