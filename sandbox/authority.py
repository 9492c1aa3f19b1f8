"""Where the installation's certificate authority is kept: made on first need, its key readable by its owner alone."""

import os

from netpolicy.authority import Authority
from sandbox.errors import HostError

_KEY = b"-----BEGIN PRIVATE KEY-----"


def _path(data: str) -> str:
    return os.path.join(data, "ca", "authority.pem")


def read(data: str) -> Authority | None:
    """The authority of the data directory, or None when it has none that belongs to its owner alone.

    HostError when it can't be read.
    """
    try:
        fd = os.open(_path(data), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _unusable(data, error) from error
    with open(fd, "rb") as file:
        status = os.fstat(fd)
        if status.st_uid != os.geteuid() or status.st_mode & 0o077:
            return None
        certificate, mark, key = file.read().partition(_KEY)
    return Authority(certificate, mark + key) if certificate and mark else None


def ensure(data: str) -> Authority:
    """The authority of the prepared data directory, made when there is none. HostError when it can't be kept."""
    found = read(data)
    if found is not None:
        return found
    from datetime import UTC, datetime

    from netpolicy.certificates import make_authority

    made = make_authority(datetime.now(UTC))
    path = _path(data)
    partial = f"{path}.{os.getpid()}"
    try:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        fd = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            with open(fd, "wb") as file:
                file.write(made.certificate + made.key)
            if os.path.lexists(path) and read(data) is None:
                os.unlink(path)
            os.link(partial, path)
        except FileExistsError:
            # Somebody else was first, and sessions may trust theirs already.
            return ensure(data)
        finally:
            os.unlink(partial)
    except OSError as error:
        raise _unusable(data, error) from error
    return made


def _unusable(data: str, error: OSError) -> HostError:
    return HostError(
        f"the certificate authority in {_path(data)} can't be used: {error.strerror}",
        hint="make it readable and writable for you, or remove it: a new one is made",
    )
